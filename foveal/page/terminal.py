"""Tables and verdicts of a page on the terminal."""

from collections.abc import Iterable, Mapping

from foveal.console import say, show_table
from foveal.page.parts import Table, cell

LOOKS = {"bad": ("!!", "bold red"), "unsure": ("! ", "yellow"), "good": ("ok", "green")}  # of a verdict, by tone


def print_table(table: Table) -> None:
    """Print a table with its caption and notes; the small text of a cell is in brackets."""
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
