"""What a grade depends on, and how far a map of that can be believed."""
