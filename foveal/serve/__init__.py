"""WHAT A CLINIC USES: the page, its server, and what people say about its grades."""
