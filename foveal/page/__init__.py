"""The kit of every page: one Jinja environment, one style, tables, values with intervals, charts, thumbnails."""
