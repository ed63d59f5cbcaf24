"""Loss functions, and the bounds of their values."""
