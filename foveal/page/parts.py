"""What pages are made of, as plain values that templates/parts.html draws: tables, cells, strips, verdicts.

A cell is text, with a smaller second line and a tone where needed. The first cell of a row is its heading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveal.page.words import interval, number

SPLITS = {"train": "training", "val": "validation", "test": "test", "unlabelled": "unlabelled"}


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A bar on a line from 0 to 1, with a dot at the value and an upright line to compare with, if any."""

    low: float
    high: float
    value: float | None = None
    against: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "value", "against"):
            if (own := getattr(self, name)) is not None:
                object.__setattr__(self, name, min(1.0, max(0.0, own)))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Text, a smaller second line, and a drawing under both; `picture` (a data: address) stands before a row's heading.

    tone: "", "muted", "good", "unsure" or "bad"; "words" is for a text that may wrap.
    """

    text: str
    small: str = ""
    tone: str = ""
    strip: Strip | None = None
    picture: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: `groups` are (label, columns) above the column names where those need a second line."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    groups: Sequence[tuple[str, int]] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


def cells(*texts: str) -> list[Cell]:
    """A row of plain cells."""
    return [Cell(text=text) for text in texts]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A sentence, its tone ("good", "unsure" or "bad") and the figures or reasons behind it."""

    tone: str
    text: str
    grounds: str


def value_cell(entry: Mapping[str, Any]) -> Cell:
    """A figure with its interval below it."""
    return Cell(text=number(entry["value"], 3), small=interval(dict(entry), 3))


def muted(text: str) -> Cell:
    """A cell of less weight."""
    return Cell(text=text, tone="muted")
