"""The kit of every page: sections and parts, one Jinja environment, one style, words for numbers, charts, pictures."""
