"""Inspect prepared sets: their content, and problems that could mislead a grader or its readers."""
