"""The one environment for the templates of all rooms; every word that comes from a file is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from foveal.page.parts import Section

PACKAGE = Path(__file__).parent.parent
# Kept with the templates that it has compiled: compiling takes longer than filling in.
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(sorted(PACKAGE.glob("*/templates"))), autoescape=True,
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
ENVIRONMENT.globals["kind_of"] = lambda part: type(part).__name__.lower()  # the macro of a part in parts.html


def render(template: str, **contents: Any) -> Markup:
    """The HTML of a template in any room's folder `templates`; a name that `contents` lacks is an error."""
    return Markup(ENVIRONMENT.get_template(template).render(contents))


def page(
    sections: Sequence[Section], *, title: str, kind: str, subtitle: str = "", about: str = "", style: str = "",
    script: str = "", footer: str = "Made by Foveal.",
) -> str:  # fmt: skip
    """A whole page of sections, with its contents at the top: one HTML file that needs nothing else.

    kind: what stands above the title, such as "Foveal report"; subtitle: beside it. about: a line below the title.
    style, script: templates with what this page alone needs.
    """
    return render("sections.html", sections=sections, title=title, kind=kind, subtitle=subtitle, about=about,
                  style=style, script=script, footer=footer)  # fmt: skip
