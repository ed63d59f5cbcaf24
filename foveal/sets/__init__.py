"""WHERE IMAGES COME FROM: sources, splits, prepared sets and batches."""
