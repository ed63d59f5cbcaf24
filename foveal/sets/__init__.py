"""Prepared sets: how they are made from sources, split, checked for copies, and read in batches."""
