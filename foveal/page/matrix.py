"""Matrices of figures with intervals: trained on (rows) by tested on (columns), drawn as SVG (templates/matrix.svg)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from foveal.page.render import render
from foveal.page.words import interval, known, number

LETTER = 7.0  # units: the width of a letter of 12 units, rounded up
CELL = (112.0, 58.0)  # width, height
TOP, EDGE, GAP = 46.0, 8.0, 4.0
MOST_LETTERS = 34  # of a name; the rest is cut off, as above a column that is narrower
LAYOUT = {"top": TOP, "cell": CELL, "gap": GAP, "most": MOST_LETTERS, "most_above": int(CELL[0] / LETTER)}


@dataclass(frozen=True)
class Square:
    """One cell: an entry (value, low, high, n) and whether the source was not among those trained on."""

    entry: Mapping[str, Any]
    abroad: bool = False

    @property
    def lines(self) -> list[str]:
        """Value, interval and number of images."""
        return [number(self.entry["value"], 2), interval(self.entry, 2), f"n = {self.entry['n']:,}"]

    @property
    def share(self) -> float:
        """How strong its colour is, from 0 to 1."""
        value = self.entry["value"]
        return min(1.0, max(0.0, float(value))) if known(value) else 0.0


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """squares[row][column] is None where nothing was measured. across, down: what the columns and the rows are."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    squares: Sequence[Sequence[Square | None]]
    across: str = "tested on"
    down: str = "trained on"

    @property
    def drawing(self) -> Markup:
        """The matrix as an SVG element for a page."""
        return render("matrix.svg", matrix=self, **LAYOUT)

    @property
    def left(self) -> float:
        """Width of the column of names."""
        return EDGE + LETTER * min(MOST_LETTERS, max(len(name) for name in (*self.rows, self.down))) + 2 * GAP

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the drawing."""
        return round(self.left + CELL[0] * len(self.columns) + EDGE), round(TOP + CELL[1] * len(self.rows) + EDGE)
