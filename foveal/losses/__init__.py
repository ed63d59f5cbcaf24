"""LOSSES: pure functions of tensors, with their bounds."""
