"""Looking into prepared sets: what is in them, and what could mislead a grader or the reader of its results."""
