"""WHERE A GRADER LOOKS, and how far to believe it."""
