"""Which images look alike to a network or in their pixels: clusters, maps, and the nearest images of each."""
