"""Tables of labels and the pictures they name: matched by name, and all other pictures are an unlabelled pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.source import Source, list_pictures, make_table, patients_and_eyes, picture_ids, without_ending


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One table of labels: `rows` as made by `make_table`, whose `file` column names pictures in `folder`."""

    table: Path
    folder: Path
    rows: pd.DataFrame
    first_row: int = 2  # number of the first row of labels in the file: row 1 holds the names of the columns


def graded(root: Path, parts: Sequence[Labelled], classes: tuple[str, ...], *notes: str) -> Source:
    """A source of pictures below `root` with grades from tables; pictures without a grade are a pool."""
    table, pool = add_pictures(root, parts)
    flags = table["flags"].str.split().explode().value_counts()
    grades = f"grades from {', '.join(part.table.name for part in parts)}"
    flagged = "; ".join(f"{counted(count, 'photograph')} with the flag {flag}" for flag, count in flags.items())
    return Source(root=root, table=table, classes=classes, notes=(grades, *notes, flagged, pool_note(pool)))


def add_pictures(root: Path, parts: Sequence[Labelled]) -> tuple[pd.DataFrame, int]:
    """The rows of all parts, then a row for each picture that none of them names; also the number of the latter.

    Names in `file` become paths below `root`; the name of a missing picture stays unchanged. FovealError where a folder
    does not exist, a name matches two pictures, or two names match one picture.
    """
    pictures = list_pictures(root)
    for part in parts:
        if not part.folder.is_dir():
            missing = f"{part.table} has labels for {len(part.rows)} pictures in {part.folder}, which does not exist"
            raise FovealError("source.missing_folder", missing)
    by_name = {folder: _by_name(pictures, folder) for folder in {part.folder for part in parts}}
    tables: list[pd.DataFrame] = []
    name_of: dict[Path, str] = {}
    for part in parts:
        found = _match(part, by_name[part.folder], name_of)
        paths = [path or part.folder / name for path, name in zip(found, part.rows["file"], strict=True)]
        tables.append(part.rows.assign(file=[path.relative_to(root).as_posix() for path in paths]))
    named = pd.concat(tables, ignore_index=True)
    pool = _pool(root, [path for path in pictures if path not in name_of], set(named["id"]))
    return (pd.concat([named, pool], ignore_index=True) if len(pool) else named), len(pool)


def _by_name(pictures: list[Path], folder: Path) -> dict[str, list[Path]]:
    """The pictures in a folder by what a table may call them, in lower case: path or name, with or without ending."""
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        if path.is_relative_to(folder):
            relative = path.relative_to(folder).as_posix()
            for key in {relative, relative.removesuffix(path.suffix), path.name, path.stem}:
                by_name.setdefault(key.lower(), []).append(path)
    return by_name


def _match(part: Labelled, by_name: dict[str, list[Path]], name_of: dict[Path, str]) -> list[Path | None]:
    """The picture of each name in a table, None where it is missing; fills `name_of` with the name of each picture.

    A name is a path below the folder or a file name, with or without its ending. Case, backslashes and a different
    ending on disk do not matter. A name with a folder in it matches only a picture in that folder.
    """
    found: list[Path | None] = []
    for row, name in enumerate(part.rows["file"], part.first_row):
        plain = PurePosixPath(name.replace("\\", "/")).as_posix()
        hits = by_name.get(plain.lower()) or by_name.get(without_ending(name).lower(), [])
        where = f"{part.table}, row {row}"
        if len(hits) > 1:
            several = f"{where}: '{name}' matches several pictures: {', '.join(str(hit) for hit in hits[:3])}"
            raise FovealError("table.ambiguous_image", several, fix="write the path of the picture into the table")
        if hits and name_of.setdefault(hits[0], name) != name:
            both = f"{where}: '{name_of[hits[0]]}' and '{name}' match the same picture, {hits[0]}"
            raise FovealError("table.ambiguous_image", both, fix="keep one of the rows")
        found.append(hits[0] if hits else None)
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
