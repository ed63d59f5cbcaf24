"""Train a grader: its options, its loop, folds, the readout and the predictions it leaves behind."""
