"""Heat maps of what a grade depends on."""
