"""Train a grader: options, training loop, folds, readout and predictions."""
