"""GRADERS BEHIND A PAGE AND AN API: grades, reviews, nothing kept unless asked."""
