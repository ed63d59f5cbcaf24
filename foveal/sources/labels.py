"""Tables of labels and the pictures they name; pictures that no row names are an unlabelled pool."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.cards import ICDR
from foveal.sources.columns import row_per_picture, usual_columns
from foveal.sources.matching import Matcher
from foveal.sources.names import MASKS, UNGRADABLE, grade_of, is_date, is_missing, plain_label
from foveal.sources.patients import patients_and_eyes
from foveal.sources.source import Source, list_files, make_table, picture_ids, without_ending
from foveal.sources.tables import has_labels, keep_columns, read_rows


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One table of labels: `rows` as made by `make_table`, whose `file` column names pictures in `folder`."""

    table: Path
    folder: Path
    rows: pd.DataFrame
    first_row: int | None = 2  # number of the first row of labels in the file, whose row 1 holds the names of columns;
    # None if a row of the file became two
    given: frozenset[str] = frozenset()  # as of `Source`


def label_rows(
    table: Path, names: Iterable[str], cells: Iterable[str], classes: Sequence[str] = ICDR, *,
    folder: Path | None = None, prefix: str = "", ungradable: str | None = None, flags: Sequence[str] = (),
    first_row: int = 2, keep: pd.DataFrame | None = None, **columns: str | Sequence[str],
) -> Labelled:  # fmt: skip
    """The rows of a table of grades: `cells` hold the grade of each picture in `names`, 0 … len(classes) - 1.

    Cells that equal `ungradable` give no label and a flag, before those in `flags`, and empty ones no label.
    FovealError for the first cell that is anything else. folder: of the pictures, by default that of the table; prefix:
    of the ids; keep: other columns (`keep_columns`); columns: split, group and eye, as of `make_table`.
    """
    files, grades = list(names), [plain_label(cell) for cell in cells]
    numbers: dict[str, int | None] = {"": None} | {str(grade): grade for grade in range(len(classes))}
    if ungradable is not None:
        numbers[ungradable] = None
    check_cells(table, "grade", files, grades, "|".join(numbers), ", ".join(numbers), "label.value")
    labels = [numbers[grade] for grade in grades]
    pairs = zip(grades, flags or [""] * len(files), strict=True)
    flags = [f"ungradable {flag}".strip() if grade == ungradable else flag for grade, flag in pairs]
    rows = make_table([prefix + without_ending(file) for file in files], files, labels, flags=flags, **columns)
    rows = rows if keep is None else keep_columns(rows, keep)
    return Labelled(table=table, folder=folder or table.parent, rows=rows, first_row=first_row)


def check_cells(
    file: Path, what: str, names: Sequence[str], cells: Iterable[str], pattern: str, expected: str, code: str
) -> None:
    """FovealError, with file, row and image, for the first cell that does not fit the pattern."""
    for row, (name, cell) in enumerate(zip(names, cells, strict=True), 2):  # row 1 holds the names of the columns
        if not re.fullmatch(pattern, cell):
            raise FovealError(code, f"{file}, row {row}: {what} of image {name} is '{cell}'", expected=expected)


def read_labels(cells: pd.Series, file: Path, scale: str) -> tuple[list[str], list[str]]:
    """Labels in words, "" for missing ones, and flags, `ungradable` for those that say so, from a column of a table.

    FovealError as of `check_grades`.
    """
    plain = [plain_label(cell) for cell in cells]
    flags = ["ungradable" if UNGRADABLE.search(cell) else "" for cell in plain]
    labels = ["" if flag or is_missing(cell) else cell for cell, flag in zip(plain, flags, strict=True)]
    if any(map(str.isdecimal, labels)):  # beside numbers, None is no class
        labels = ["" if label.lower() == "none" else label for label in labels]
    check_grades(labels, file, scale, cells.index + 2)
    return labels, flags


def check_grades(labels: Sequence[str], where: Path, scale: str, numbers: Iterable[int] | None = None) -> None:
    """FovealError for numbers among names, names among numbers, and others beside grades 0-4, as 5 is in DDR.

    numbers: of rows in a table; without them, the labels are names of folders.
    """
    whole = {label for label in labels if label.isdecimal()}
    named = set(labels) - whole - {""}
    kind, bad = " outside 0-4", whole - set("01234")
    least, fix = min(map(int, whole), default=0), "if they mean ungradable, write that or empty the cell"
    are_classes = len(whole) > 6 and whole == set(map(str, range(least, least + len(whole))))
    strange = [label for label in named if grade_of(label) is None and not (numbers is None and is_date(label))]
    if whole and named and (strange if scale != "none" else numbers is not None):
        bad = named if 2 * sum(label in whole for label in labels) >= sum(map(bool, labels)) else whole
        kind, fix = f" among {'numbers' if bad is named else 'names'}", "correct these cells, or empty them"
    elif scale not in ("auto", "icdr") or not bad or len(whole - bad) < 3 or are_classes:
        return
    places = [""] * len(labels) if numbers is None else [f" in row {number}" for number in numbers]
    rows = [f"{label!r}{place}" for place, label in zip(places, labels, strict=True) if label in bad]
    fix = "rename these folders" if numbers is None else fix
    fix += f"; give {'--unlabelled to ignore the folders, or ' * (numbers is None)}--scale none if they are classes"
    listed = ", ".join(list(dict.fromkeys(rows))[:5])
    raise FovealError("label.value", f"{where} has {counted(len(rows), 'label')}{kind}: {listed}", fix=fix)


def graded(root: Path, parts: Sequence[Labelled], classes: tuple[str, ...] = ICDR, *notes: str) -> Source:
    """A source of pictures below `root` with grades from tables; pictures without a grade are a pool."""
    table, pool = add_pictures(root, parts, *list_files(root))
    flags = table["flags"].str.split().explode().value_counts()
    grades = f"grades from {', '.join(part.table.name for part in parts)}"
    flagged = "; ".join(f"{counted(count, 'photograph')} with the flag {flag}" for flag, count in flags.items())
    without = int(table["label"].isna().sum()) - int(flags.get("ungradable", 0)) - pool
    told = grades, *notes, flagged, f"{counted(without, 'row')} without a label" if without else "", pool_note(pool)
    return Source(root=root, table=table, classes=classes, notes=told, pool=pool)


def _check_unread(root: Path, used: Sequence[Path], left: Sequence[Path], tables: Iterable[Path]) -> None:
    """FovealError if a table that is not used has labels of pictures that are left."""
    for file in (file for file in tables if file not in used and has_labels(file)):
        rows, matcher = row_per_picture(read_rows(file)), Matcher(left, root)
        names = matcher.relative(list(rows[usual_columns(rows, "image")[0]]))
        if named := {path for name in names for path in matcher.find(name)}.intersection(left):
            what = f"{file} also has labels, of {counted(len(named), 'picture')} that {', '.join(map(str, used))} lacks"
            fix = "give one of the tables as the source, or use --dataset table to read all that name pictures"
            raise FovealError("table.several", what, fix=fix)


def add_pictures(
    root: Path, parts: Sequence[Labelled], everything: Sequence[Path], tables: Iterable[Path]
) -> tuple[pd.DataFrame, int]:
    """The rows of all parts, then a row for each picture that none of them names; also the number of the latter.

    everything, tables: the files below `root`. Names in `file` become paths below `root`, except of missing pictures.
    FovealError if a folder is missing, too few names match, two match one picture, or another table labels the rest.
    """
    pictures = without_masks(root, everything)
    rows: list[pd.DataFrame] = []
    name_of: dict[Path, str] = {}
    for part in parts:
        if not part.folder.is_dir():
            raise FovealError("source.missing_folder", f"{part.table}: there is no folder {part.folder}")
        names = list(part.rows["file"])
        paths = Matcher(pictures, part.folder).match(names, part.table, first_row=part.first_row)
        for row, (name, path) in enumerate(zip(names, paths, strict=True), part.first_row or 0):
            if path and name_of.setdefault(path, name) != name:
                place = f"{part.table}, row {row}" if part.first_row else part.table
                what = f"{place}: '{name_of[path]}' and '{name}' both match {path}"
                raise FovealError("table.ambiguous_image", what, fix="keep one of the rows")
        files = [path or part.folder / name for name, path in zip(names, paths, strict=True)]
        relative = [file.relative_to(root) if file.is_relative_to(root) else file for file in files]
        rows.append(part.rows.assign(file=[file.as_posix() for file in relative]))
    named = pd.concat(rows, ignore_index=True)
    if not (left := [path for path in pictures if path not in name_of]):
        return named, 0
    _check_unread(root, [part.table for part in parts], left, tables)
    short, files = picture_ids(left, root), [path.relative_to(root) for path in left]
    # Where an id is in use already, the ending is added: if `a` is a.png, a.jpg becomes `a.jpg`.
    taken = set(named["id"])
    ids = [file.as_posix() if name in taken else name for name, file in zip(short, files, strict=True)]
    patients, eyes = patients_and_eyes(short, [path.with_suffix("").as_posix() for path in pictures])
    pool = make_table(ids, [file.as_posix() for file in files], group=patients, eye=eyes)
    return pd.concat([named, pool], ignore_index=True), len(pool)


def without_masks(root: Path, pictures: Sequence[Path]) -> list[Path]:
    """The pictures that are not in folders of masks below `root`; all if there are no others."""
    kept = [path for path in pictures if not any(map(MASKS.search, path.relative_to(root).parts[:-1]))]
    if 0 < len(kept) < len(pictures):
        warn(f"{root}: left out: {counted(len(pictures) - len(kept), 'picture')} in folders of masks or annotations")
    return kept or list(pictures)


def pool_note(count: int) -> str:
    """A note on pictures that no table names; empty if there are none."""
    return f"{counted(count, 'picture')} not in the table: an unlabelled pool" if count else ""
