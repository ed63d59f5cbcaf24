"""Tables of labels and the pictures they name.

Rows, as tables.py reads them, get grades as numbers or text, and are matched to pictures by name; pictures that no row
names are an unlabelled pool.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.cards import ICDR
from foveal.sources.matching import Matcher
from foveal.sources.names import UNGRADABLE, grade_of, is_mask, is_missing, patients_and_eyes, plain_number
from foveal.sources.source import Source, keep_columns, list_pictures, make_table, picture_ids, without_ending


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One table of labels: `rows` as made by `make_table`, whose `file` column names pictures in `folder`."""

    table: Path
    folder: Path
    rows: pd.DataFrame
    first_row: int = 2  # number of the first row of labels in the file: row 1 holds the names of the columns


def label_rows(
    table: Path, names: Iterable[str], cells: Iterable[str], classes: Sequence[str] = ICDR, *,
    folder: Path | None = None, prefix: str = "", ungradable: str | None = None, flags: Sequence[str] = (),
    first_row: int = 2, keep: pd.DataFrame | None = None, **columns: str | Sequence[str],
) -> Labelled:  # fmt: skip
    """The rows of a table of grades: `cells` hold the grade of each picture in `names`, 0 … len(classes) - 1.

    Cells that equal `ungradable` give no label and the flag `ungradable`, before those in `flags`. FovealError for the
    first cell that is anything else, or empty. folder: of the pictures, by default that of the table; prefix: of the
    ids; keep: other columns, see `keep_columns`; columns: split, group and eye, as of `make_table`.
    """
    files, grades = list(names), plain_numbers(cells)
    numbers: dict[str, int | None] = {str(grade): grade for grade in range(len(classes))}
    if ungradable is not None:
        numbers[ungradable] = None
    check_cells(table, "grade", files, grades, "|".join(numbers), ", ".join(numbers), "label.value")
    labels = [numbers[grade] for grade in grades]
    pairs = zip(labels, flags or [""] * len(files), strict=True)
    marks = [flag if label is not None else f"ungradable {flag}".strip() for label, flag in pairs]
    rows = make_table([prefix + without_ending(file) for file in files], files, labels, flags=marks, **columns)
    rows = rows if keep is None else keep_columns(rows, keep)
    return Labelled(table=table, folder=folder or table.parent, rows=rows, first_row=first_row)


def check_cells(
    file: Path, what: str, names: Sequence[str], cells: Iterable[str], pattern: str, expected: str, code: str
) -> None:
    """FovealError, with file, row and image, for the first cell that does not fit the pattern."""
    for row, (name, cell) in enumerate(zip(names, cells, strict=True), 2):  # row 1 holds the names of the columns
        if not re.fullmatch(pattern, cell):
            raise FovealError(code, f"{file}, row {row}: {what} of image {name} is '{cell}'", expected=expected)


def plain_numbers(cells: Iterable[str]) -> list[str]:
    """Cells as text: '2.0' and ' 2' read as '2', an empty cell as ''."""
    return [plain_number(cell) for cell in cells]


def read_labels(cells: Mapping[str, str], file: Path, scale: str) -> tuple[list[str], list[str]]:
    """Labels in words and flags, from the cells of a table: place of the cell (such as `row 3`) -> text.

    Missing labels become "", and those that say so get the flag `ungradable`. FovealError (label.value) for numbers
    among names, other signs among numbers, and a grade 5 beside the grades 0-4, where DDR means ungradable.
    """
    plain = plain_numbers(cells.values())
    flags = ["ungradable" if UNGRADABLE.search(cell) else "" for cell in plain]
    labels = ["" if flag or is_missing(cell) else cell for cell, flag in zip(plain, flags, strict=True)]
    whole = {label for label in labels if label.isdecimal()}
    named = {label for label in labels if label} - whole
    if whole:  # beside numbers, None is no class
        labels = ["" if label.lower() == "none" else label for label in labels]
        named = {label for label in named if label.lower() != "none"}
    bad, advice = set(), "correct these cells, or empty them"
    if whole and named and (scale == "none" or any(grade_of(label) is None for label in named)):
        counts = pd.Series(labels).isin(whole).sum(), pd.Series(labels).isin(named).sum()
        bad = named if counts[0] >= counts[1] else whole
    elif scale in ("auto", "icdr") and "5" in whole and whole <= set("012345") and len(whole) >= 4:
        bad, advice = {"5"}, "write ungradable if 5 means that, as in DDR; give --scale none if it is a class"
    if bad:
        rows = [f"{label!r} in {place}" for place, label in zip(cells, labels, strict=True) if label in bad]
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        raise FovealError("label.value", f"{file} has labels such as {', '.join(rows[:5])}{more}", fix=advice)
    return labels, flags


def graded(root: Path, parts: Sequence[Labelled], classes: tuple[str, ...] = ICDR, *notes: str) -> Source:
    """A source of pictures below `root` with grades from tables; pictures without a grade are a pool."""
    table, pool = add_pictures(root, parts, list_pictures(root))
    flags = table["flags"].str.split().explode().value_counts()
    grades = f"grades from {', '.join(part.table.name for part in parts)}"
    flagged = "; ".join(f"{counted(count, 'photograph')} with the flag {flag}" for flag, count in flags.items())
    return Source(root=root, table=table, classes=classes, notes=(grades, *notes, flagged, pool_note(pool)))


def add_pictures(root: Path, parts: Sequence[Labelled], everything: Sequence[Path]) -> tuple[pd.DataFrame, int]:
    """The rows of all parts, then a row for each picture that none of them names; also the number of the latter.

    everything: the pictures below `root`. Names in `file` become paths below `root`; the name of a missing picture
    stays unchanged. FovealError where a folder does not exist, fewer than nine tenths of the names match a picture, a
    name matches two pictures, or two names match one picture.
    """
    pictures = [path for path in everything if not any(map(is_mask, path.relative_to(root).parts[:-1]))]
    if len(pictures) < len(everything):
        warn(f"{root}: {len(everything) - len(pictures):,} pictures in folders of masks are left out")
    tables: list[pd.DataFrame] = []
    name_of: dict[Path, str] = {}
    for part in parts:
        if not part.folder.is_dir():
            missing = f"{part.table} has labels for {len(part.rows)} pictures in {part.folder}, which does not exist"
            raise FovealError("source.missing_folder", missing)
        paths = _match(part, Matcher(pictures, part.folder), name_of)
        files = [path.relative_to(root) if path.is_relative_to(root) else path for path in paths]
        tables.append(part.rows.assign(file=[file.as_posix() for file in files]))
    named = pd.concat(tables, ignore_index=True)
    pool = _pool(root, [path for path in pictures if path not in name_of], set(named["id"]))
    return (pd.concat([named, pool], ignore_index=True) if len(pool) else named), len(pool)


def _match(part: Labelled, matcher: Matcher, name_of: dict[Path, str]) -> list[Path]:
    """The picture of each name in a table, or where it is missing from; fills `name_of`, the name of each picture."""
    names, found = list(part.rows["file"]), []
    hits = [matcher.find(name) for name in matcher.relative(names)]
    matcher.check(names, hits, part.table)
    for row, (name, paths) in enumerate(zip(names, hits, strict=True), part.first_row):
        where = f"{part.table}, row {row}"
        if len(paths) > 1:
            several = f"{where}: '{name}' matches several pictures: {', '.join(str(path) for path in paths[:3])}"
            raise FovealError("table.ambiguous_image", several, fix="write the path of the picture into the table")
        if paths and name_of.setdefault(paths[0], name) != name:
            both = f"{where}: '{name_of[paths[0]]}' and '{name}' match the same picture, {paths[0]}"
            raise FovealError("table.ambiguous_image", both, fix="keep one of the rows")
        found.append(paths[0] if paths else part.folder / name)
    return found


def _pool(root: Path, pictures: list[Path], taken: set[str]) -> pd.DataFrame:
    """Unlabelled rows. Where an id is in use already, the ending is added: if `a` is a.png, a.jpg becomes `a.jpg`."""
    files = [path.relative_to(root).as_posix() for path in pictures]
    short = picture_ids(pictures, root)
    ids = [file if name in taken else name for name, file in zip(short, files, strict=True)]
    patients, eyes = patients_and_eyes(short)
    return make_table(ids, files, group=patients, eye=eyes)


def pool_note(count: int) -> str:
    """A note on pictures that no table names; empty where there are none."""
    return f"{counted(count, 'picture')} not in the table: an unlabelled pool" if count else ""
