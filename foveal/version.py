"""The version of Foveal, as in pyproject.toml."""

VERSION = "0.2.0"
