"""GRADE NEW IMAGES with a run."""
