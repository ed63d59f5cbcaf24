"""Markdown text → a page: its title from the first heading, and a section for each heading of the second level."""

import re

from markdown_it import MarkdownIt
from markupsafe import Markup

from foveal.page.parts import Html, Section
from foveal.page.render import page

_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")


def markdown_page(
    text: str, *, kind: str, subtitle: str = "", figure: tuple[str, str] = ("", ""), style: str = ""
) -> str:
    """A complete HTML page. figure: the name of an SVG file that the text shows as an image, and the SVG itself."""
    head, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    title, _, lead = head.lstrip("# \n").partition("\n")
    sections = [_section("About", lead)] if lead.strip() else []
    sections += [_section(*part.split("\n", 1)) for part in parts]
    html = page(sections, title=title.strip(), kind=kind, subtitle=subtitle, style=style)
    name, svg = figure
    return re.sub(rf'<img src="{re.escape(name)}"[^>]*>', lambda _: svg, html) if name else html


def _section(title: str, body: str) -> Section:
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    return Section(name=name, title=title.strip(), parts=[Html(Markup(_PARSER.render(body)))])
