"""The templates of the room: one environment, in which every word that comes from a file is escaped."""

from __future__ import annotations

from typing import Any

import jinja2


def render_template(name: str, contents: dict[str, Any]) -> str:
    """A template of foveal/report/templates, filled in; a name that it lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("foveal.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name).render(contents)
