"""The evidence page: one HTML file made from run folders only."""
