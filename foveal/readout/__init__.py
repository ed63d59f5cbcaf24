"""FROM NUMBERS TO AN ANSWER: label scales, calibration, cutoffs, sets of grades, referral, predictions.csv."""
