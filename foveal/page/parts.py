"""The content of a page: sections, each with a list of parts in display order.

    Section(name="metrics", title="Metrics", parts=["A paragraph.", Table(...), Gallery([...])])

A part is drawn by the macro with its name in templates/parts.html; a plain `str` is a paragraph. All text is escaped;
for markup, use markupsafe's Markup. Content that only one page needs has its own template: pass its output as `Html`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from foveal.page.words import difference_with_interval, interval, number, percent, percent_interval, signed

SPLITS = {"train": "training", "val": "validation", "test": "test", "unlabelled": "unlabelled"}
TONES = {"better": "good", "worse": "bad", "cannot tell": "unsure"}  # tone of each answer of a paired comparison


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Text with a smaller second line and a strip below; `picture` (a data: URL) goes before the heading of a row.

    tone: "", "muted", "good", "unsure" or "bad"; "words" for text that may wrap, "abroad" for a frame. strip: an entry
    with its interval, drawn as a bar from 0 to 1 with a dot at its value, and a line at what it is `against`, or None.
    """

    text: str
    small: str = ""
    tone: str = ""
    strip: Mapping[str, Any] | None = None
    picture: str = ""


Shown = Cell | str | int | Mapping[str, Any] | None  # a value of a row, see `cell`


def muted(text: str) -> Cell:
    """A cell with muted text."""
    return Cell(text=text, tone="muted")


def cell(shown: Shown) -> Cell:
    """A value of a row as a cell: a text, a count, an entry with its interval, a paired difference, or None: a dash."""
    if shown is None:
        return muted("–")
    if isinstance(shown, Mapping):
        return difference_cell(shown) if "answer" in shown else value_cell(shown)
    return shown if isinstance(shown, Cell) else Cell(text=shown if isinstance(shown, str) else f"{shown:,}")


def value_cell(entry: Mapping[str, Any], digits: int = 3) -> Cell:
    """A value with its interval below it."""
    return Cell(text=number(entry["value"], digits), small=interval(entry, digits))


def percent_cell(entry: Mapping[str, Any], digits: int = 1) -> Cell:
    """A share in percent with its interval below it."""
    ends = percent_interval(entry, digits)
    return Cell(text=percent(entry["value"], digits), small="" if ends == "–" else ends)


def difference_cell(entry: Mapping[str, Any]) -> Cell:
    """A paired difference and its answer, with the interval below; the answer sets the tone."""
    ends = difference_with_interval(entry).partition(" ")[2].strip("()")
    return Cell(text=f"{signed(entry['value'])} {entry['answer']}", small=ends, tone=TONES[entry["answer"]])


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of values; the first of a row is its heading. `groups`: (label, columns) above the column names."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Shown]]
    caption: str = ""
    groups: Sequence[tuple[str, int]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A sentence, its tone ("good", "unsure" or "bad") and the figures or reasons behind it, if any."""

    tone: str
    text: str
    grounds: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading inside a section, level 3 or 4; `small` is shown next to it in smaller text."""

    text: str
    small: str = ""
    level: int = 3


@dataclass(frozen=True)
class Note:
    """A paragraph in small print; look: "note", "lead" for a large one, "checked" for one with a tick."""

    text: str
    look: str = "note"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with its id; below it are `text` in bold and then `lines`.

    source: a data: URL. overlay, overlay_shows: a second picture, and what it shows. link: the target of a click.
    """

    source: str
    id: str
    text: str = ""
    lines: Sequence[str] = ()
    alarm: str = ""
    overlay: str = ""
    overlay_shows: str = ""
    link: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid; look: "" for four in a row, "wide" for two, "small" for eight thumbnails."""

    pictures: Sequence[Picture]
    look: str = ""


@dataclass(frozen=True)
class Columns:
    """Columns of parts, side by side if there is room."""

    columns: Sequence[Sequence["Part"]]


@dataclass(frozen=True)
class Html:
    """HTML that a template of its own has rendered."""

    html: Markup


Part = str | Table | Verdict | Heading | Note | Gallery | Columns | Html


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading; `name` is its anchor (#name), `short` its name in the contents.

    folded: only the heading is shown until the reader opens it; on paper everything is shown.
    """

    name: str
    title: str
    parts: Sequence[Part]
    short: str = ""
    folded: bool = False
