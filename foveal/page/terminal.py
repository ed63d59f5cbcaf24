"""Tables, verdicts and templates on the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from foveal.console import say, show_table
from foveal.page.parts import Table, cell
from foveal.page.render import told

LOOKS = {"bad": ("!!", "bold red"), "unsure": ("! ", "yellow"), "good": ("ok", "green")}  # of a verdict, by tone


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
    """Print what a text template tells; see `render.told`."""
    for number, one in enumerate(told(template, **contents)):
        if isinstance(one, Table):
            print_table(one, apart=number > 0)
        else:
            say(*one)
