"""Measure what helps: probes of frozen features, comparison of starting weights, rounds of pseudo-labels."""
