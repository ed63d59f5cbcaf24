"""What helps: probes of frozen features, starting weights side by side, rounds of pseudo-labels."""
