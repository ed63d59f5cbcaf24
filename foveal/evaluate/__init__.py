"""MEASURE, from predictions.csv only; torch is not needed."""
