"""The Jinja environment for all templates: HTML and SVG, in which all text is escaped, and text for the terminal."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from foveal.console import say, show_table
from foveal.page import words
from foveal.page.parts import Html, Section, Shown, Table, Verdict, cell, percent_cell, value_cell

LOOKS = {"bad": ("!!", "bold red"), "unsure": ("! ", "yellow"), "good": ("ok", "green")}  # of a verdict, by tone
PACKAGE = Path(__file__).parent.parent
# A module constant, so that templates are compiled only once: compiling is slower than rendering.
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(sorted(PACKAGE.glob("*/templates"))), undefined=jinja2.StrictUndefined,
    autoescape=lambda name: not str(name).endswith((".txt", ".md")), trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
ENVIRONMENT.filters |= {function.__name__: function for function in (
    cell, percent_cell, value_cell, words.capital, words.counted, words.difference_with_interval, words.interval,
    words.listed, words.number, words.percent, words.percent_interval, words.percent_with_interval,
    words.value_with_interval,
)}  # fmt: skip
ENVIRONMENT.filters["thousands"] = "{:,}".format
ENVIRONMENT.globals["kind_of"] = lambda part: type(part).__name__.lower()  # the macro of a part in parts.html


def render(template: str, **contents: Any) -> Markup:
    """Render a template from any `templates` folder of the package; a missing variable is an error."""
    return Markup(ENVIRONMENT.get_template(template).render(contents))


def section(name: str, **contents: Any) -> Section:
    """A section from the template with its name, which also sets its `title` and, if need be, its `short` title."""
    drawn: Any = ENVIRONMENT.get_template(f"{name}.html").make_module(contents)
    return Section(name=name, title=drawn.title, short=getattr(drawn, "short", ""), parts=[Html(Markup(drawn))])


def told(template: str, **contents: Any) -> list[Any]:
    """The output of a text template, in order: `{{ say(…) }}`, `{{ verdict(tone, text, grounds) }}`, `{{ table(…) }}`.

    A list of the arguments of `say`, of Verdicts and of Tables. A table has a caption and columns, the rows of each
    `{{ row(…) }}` and the notes of each `{{ note(…) }}` before it; without rows it is left out.
    """
    found, rows, notes = list[Any](), list[Sequence[Shown]](), list[str]()

    def table(caption: str, columns: Sequence[str]) -> None:
        if rows:
            found.append(Table(caption=caption, columns=columns, rows=rows.copy(), notes=notes.copy()))
        rows.clear()
        notes.clear()

    tellers = {"say": lambda *words: found.append(words), "table": table, "note": notes.append,
               "verdict": lambda tone, text, grounds: found.append(Verdict(tone=tone, text=text, grounds=grounds)),
               "row": lambda *cells: rows.append(cells)}  # fmt: skip
    assert not tellers.keys() & contents.keys(), template  # the template would print the function
    ENVIRONMENT.get_template(template).render(contents, **tellers)
    return found


def page(
    sections: Sequence[Section], *, title: str, kind: str, subtitle: str = "", about: str = "", style: str = "",
    script: str = "", footer: str = "Made by Foveal.",
) -> str:  # fmt: skip
    """A complete page with a table of contents: one self-contained HTML file.

    kind: shown above the title, such as "Foveal report"; subtitle: next to it. about: a line below the title.
    style, script: templates with extra CSS and JavaScript for this page.
    """
    return render("sections.html", sections=sections, title=title, kind=kind, subtitle=subtitle, about=about,
                  style=style, script=script, footer=footer)  # fmt: skip


def print_table(table: Table, *, apart: bool = True) -> None:
    """Print a table with its caption and notes; the small text of a cell is in brackets. apart: after an empty line."""
    if apart:
        say()
    rows = [[f"{one.text} ({one.small})" if one.small else one.text for one in map(cell, row)] for row in table.rows]
    show_table(table.caption, table.columns, rows)
    for note in table.notes:
        say(f"  {note}", "dim")


def print_verdicts(verdicts: Iterable[Mapping[str, str]]) -> None:
    """Print verdicts, given as dicts with tone, text and grounds as in parts.Verdict."""
    for verdict in verdicts:
        mark, style = LOOKS[verdict["tone"]]
        say(f"  {mark} {verdict['text']}", style)
        say(f"     {verdict['grounds']}")


def print_template(template: str, **contents: Any) -> None:
    """Print the output of a text template; see `render.told`."""
    for number, one in enumerate(told(template, **contents)):
        if isinstance(one, Table):
            print_table(one, apart=number > 0)
        else:
            say(*one)


def markdown_page(text: str, *, kind: str, subtitle: str, figure: tuple[str, str], style: str) -> str:
    """A complete page of Markdown: its title from the first heading, a section for each one of the second level.

    figure: the name of an SVG file that the text shows as an image, and the SVG itself.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def part(title: str, body: str) -> Section:
        name = re.sub(r"\W+", "-", title.lower()).strip("-")
        return Section(name=name, title=title.strip(), parts=[Html(Markup(parser.render(body)))])

    head, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    title, _, lead = head.lstrip("# \n").partition("\n")
    sections = [part("About", lead)] if lead.strip() else []
    sections += [part(*text.split("\n", 1)) for text in parts]
    html = page(sections, title=title.strip(), kind=kind, subtitle=subtitle, style=style)
    name, svg = figure
    return re.sub(rf'<img src="{re.escape(name)}"[^>]*>', lambda _: svg, html)
