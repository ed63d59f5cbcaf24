"""What every source hands to `prepare`: a table of images and labels, and how the labels read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from foveal.console import warn
from foveal.sources.cards import CARDS, ICDR

SPLITS = ("train", "val", "test", "unlabelled")
PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".jp2", ".dcm")
KEPT = "column "  # before the name of a column that is kept as the source has it, for columns.csv
EYES = re.compile(r"(?P<patient>.+?)[_-](?P<eye>left|right|OD|OS)$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a source may need beside its path; each takes what concerns it."""

    image_column: str | None = None  # columns of a table, where the usual names do not tell
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    size: int = 0  # side of drawn images in pixels, 0 = the source's own choice
    seed: int = 0  # of drawn images


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images of one data set, before any is decoded.

    table: columns id, file, label (nullable integer), split ("" = to be decided), group, eye, flags (words with
    spaces between, as the source says: `ungradable`).
    Other columns of the source, kept for columns.csv, are named "column NAME".
    images: uint8 [n, H, W, C] in row order when the source holds arrays; None when `file` names pictures in `root`.
    """

    root: Path
    table: pd.DataFrame
    classes: tuple[str, ...]
    images: np.ndarray | None = None
    scale: str | None = None  # None: as the card says
    task: str | None = None
    notes: tuple[str, ...] = ()


def make_table(
    ids: Sequence[str], files: Sequence[str], labels: Sequence[int | None], splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None, eyes: Sequence[str] | None = None, flags: Sequence[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The table of a source; missing parts are empty."""
    blank = [""] * len(ids)
    texts = {"split": splits, "group": groups, "eye": eyes, "flags": flags}
    columns = {"id": ids, "file": files, **{name: values or blank for name, values in texts.items()}}
    table = pd.DataFrame(columns).astype("object")
    table.insert(2, "label", pd.Series(list(labels), dtype="Int64"))
    return table


def keep_columns(table: pd.DataFrame, rows: pd.DataFrame, used: Iterable[str]) -> pd.DataFrame:
    """`table` with the columns of `rows` that are not `used` and not empty, row by row, named as kept ones."""
    taken = set(used)
    others = {
        f"{KEPT}{name}": rows[name].to_numpy()
        for name in rows.columns
        if name not in taken and name and not name.startswith("Unnamed:") and (rows[name] != "").any()
    }
    return table.assign(**others)


def unmet(root: Path, name: str) -> ValueError:
    """The error that says which files the source `name` looks for and did not find at `root`."""
    return ValueError(f"{root} is not laid out as {name} ({CARDS[name].title}): expected {CARDS[name].layout}")


def locate(root: Path, pattern: str) -> Path | None:
    """The first path like `pattern` in `root` or up to two folders below it, the higher first; None without one.

    Hidden files do not count: archives made on a Mac hold one, `._NAME`, beside every file.
    """
    for depth in ("", "*/", "*/*/"):
        found = sorted(path for path in root.glob(depth + pattern) if not path.name.startswith("."))
        if found:
            return found[0]
    return None


def list_pictures(root: Path) -> list[Path]:
    """All files below `root` that could be pictures, sorted, hidden ones left out; ValueError when there is none."""
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder")
    found = sorted(
        path
        for path in _walk(root)
        if path.suffix.lower() in PICTURES and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not found:
        raise ValueError(f"{root}: no pictures found; files with these endings are read: {', '.join(PICTURES)}")
    return found


def _walk(root: Path) -> Iterator[Path]:
    """All files below `root`, through linked folders too, each folder once (links may go in circles)."""
    seen = set()
    for folder, _, names in os.walk(root, onerror=_closed, followlinks=True):
        real = os.path.realpath(folder)
        if real not in seen:
            seen.add(real)
            yield from (Path(folder) / name for name in names)


def _closed(error: OSError) -> None:
    warn(f"{error.filename} cannot be opened ({error.strerror}): what lies below it is left out")


def picture_ids(files: list[Path], root: Path) -> list[str]:
    """Ids: the path below `root` without its ending; with it where two files differ only there."""
    short = [path.relative_to(root).with_suffix("").as_posix() for path in files]
    counts = pd.Series(short, dtype="object").value_counts()
    return [
        name if counts[name] == 1 else path.relative_to(root).as_posix()
        for name, path in zip(short, files, strict=True)
    ]


def match_pictures(names: Sequence[str], pictures: list[Path], folder: Path) -> list[Path | None]:
    """For each name its picture, None when missing.

    A name is a path below `folder` or a file name, with or without ending; case, back-slashes, and another ending on
    the disk do not matter. A name with a folder in it fits only a picture in that folder.
    Raises ValueError when a name fits two pictures, or a picture two names.
    """
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        relative = path.relative_to(folder).as_posix()
        for key in {relative, relative.removesuffix(path.suffix), path.name, path.stem}:
            by_name.setdefault(key.lower(), []).append(path)
    found: list[Path | None] = []
    name_of: dict[Path, str] = {}
    for name in names:
        plain = PurePosixPath(name.replace("\\", "/"))
        bare = plain.with_suffix("") if plain.suffix.lower() in PICTURES else plain
        hits = by_name.get(plain.as_posix().lower()) or by_name.get(bare.as_posix().lower(), [])
        if len(hits) > 1:
            raise ValueError(f"'{name}' fits several pictures: {', '.join(str(hit) for hit in hits[:3])}")
        if hits and name_of.setdefault(hits[0], name) != name:
            raise ValueError(f"'{name_of[hits[0]]}' and '{name}' both fit the picture {hits[0]}")
        found.append(hits[0] if hits else None)
    return found


def add_pictures(root: Path, parts: Sequence[tuple[Path, pd.DataFrame]]) -> tuple[pd.DataFrame, int]:
    """The tables of `parts` as one, with a row for each picture that none of them names; and how many those are.

    parts: the folder (in `root`, or `root` itself) where the pictures of a table are, and the table, whose `file`
    holds names as the source has them. They become paths below `root`; the name of a missing picture stays.
    """
    pictures = list_pictures(root)
    tables, used = [], set()
    for folder, table in parts:
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder, and the labels of {len(table)} pictures are for it")
        inside = pictures if folder == root else [path for path in pictures if path.is_relative_to(folder)]
        found = match_pictures(list(table["file"]), inside, folder)
        used.update(found)
        paths = [path or folder / name for path, name in zip(found, table["file"], strict=True)]
        tables.append(table.assign(file=[path.relative_to(root).as_posix() for path in paths]))
    named = pd.concat(tables, ignore_index=True)
    pool = _pool(root, [path for path in pictures if path not in used], set(named["id"]))
    return (pd.concat([named, pool], ignore_index=True) if len(pool) else named), len(pool)


def _pool(root: Path, pictures: list[Path], taken: set[str]) -> pd.DataFrame:
    """Unlabelled rows; an id that is taken (`a` by a.png, here a.jpg) keeps its ending."""
    files = [path.relative_to(root).as_posix() for path in pictures]
    short = picture_ids(pictures, root)
    ids = [file if name in taken else name for name, file in zip(short, files, strict=True)]
    patients, eyes = patients_and_eyes(short)
    return make_table(ids, files, [None] * len(ids), groups=patients, eyes=eyes)


def pool_note(count: int) -> str:
    """A note on pictures that no table names; empty when there are none."""
    return f"{count} pictures that the table does not name are an unlabelled pool" if count else ""


def patients_and_eyes(ids: list[str]) -> tuple[list[str], list[str]]:
    """Patient and eye from names such as `17_left` and `17_right`; empty where the name does not say."""
    matches = [EYES.match(name.rsplit("/", 1)[-1]) for name in ids]
    eye_names = {"left": "left", "os": "left", "right": "right", "od": "right"}
    patients = [match["patient"] if match else "" for match in matches]
    return patients, [eye_names[match["eye"].lower()] if match else "" for match in matches]


def order_classes(names: set[str]) -> tuple[str, ...]:
    """Class names in order: by number where all are whole numbers, otherwise by letter."""
    if all(re.fullmatch(r"\d+", name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def name_classes(values: set[str]) -> tuple[tuple[str, ...], tuple[str, ...], str, str]:
    """(values in label order, class names in the same order, scale, note).

    Values 0-4, or the five ICDR names, are taken for the ICDR scale, in its order; others keep their own names.
    """
    ordered = order_classes(values)
    if ordered == ("0", "1", "2", "3", "4"):
        return ordered, ICDR, "icdr", "classes 0-4 are taken for the ICDR scale; use --scale none if they are not"
    if values == set(ICDR):
        return ICDR, ICDR, "icdr", ""
    return ordered, ordered, "none", ""
