"""Grade new images with a trained run or an exported model."""
