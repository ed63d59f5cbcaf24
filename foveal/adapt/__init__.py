"""Fit the answers of a grader to a new clinic, from photographs graded there, without training."""
