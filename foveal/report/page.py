"""The templates of the room: one environment, in which every word that comes from a file is escaped."""

from __future__ import annotations

from typing import Any

import jinja2

# Kept with the templates that it has compiled: to compile them takes longer than to fill them in.
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("foveal.report"), autoescape=True, undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip


def render_template(name: str, contents: dict[str, Any]) -> str:
    """A template of foveal/report/templates, filled in; a name that it lacks is an error."""
    return ENVIRONMENT.get_template(name).render(contents)
