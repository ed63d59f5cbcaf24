"""The tables of a page, printed on the terminal."""

from __future__ import annotations

from foveal.console import say, show_table
from foveal.page.parts import Table


def print_table(table: Table) -> None:
    """Print a table with its caption and notes; the small second line of a cell stands in brackets."""
    say()
    rows = [[f"{cell.text} ({cell.small})" if cell.small else cell.text for cell in row] for row in table.rows]
    show_table(table.caption, table.columns, rows)
    for note in table.notes:
        say(f"  {note}", "dim")
