"""Networks: encoders, their weights, and heads."""
