"""Which images are similar, by network features or by pixels: clusters, maps and nearest images."""
