"""NETWORKS: encoders, their weights, and heads."""
