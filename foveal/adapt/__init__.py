"""A grader in a new clinic: what the clinic's graded photographs change about its answers, without training."""
