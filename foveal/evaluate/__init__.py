"""Evaluation of predictions.csv: metrics, intervals and comparisons; works without torch."""
