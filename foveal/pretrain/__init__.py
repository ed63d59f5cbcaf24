"""Self-supervised training: methods, views, the training loop, and checks of its health."""
