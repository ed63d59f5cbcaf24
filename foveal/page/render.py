"""One environment for the templates of all rooms; every word that comes from a file is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

PACKAGE = Path(__file__).parent.parent
# Kept with the templates that it has compiled: compiling takes longer than filling in.
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(sorted(PACKAGE.glob("*/templates"))), autoescape=True,
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip


def render(template: str, **contents: Any) -> str:
    """The HTML of a template in any room's folder `templates`; a name that `contents` lacks is an error."""
    return ENVIRONMENT.get_template(template).render(contents)
