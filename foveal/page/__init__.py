"""Building blocks of all HTML pages: sections, tables, charts, pictures, number formats, templates and style."""
