"""Heat maps of what a grade depends on, and tests of how reliable they are."""
