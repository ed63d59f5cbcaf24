"""From a network's output to a grade: scales, calibration, cutoffs, prediction sets, referral, predictions.csv."""
