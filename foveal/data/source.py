"""What every source hands to `prepare`: a table of images and labels, and how the labels read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.data.cards import ICDR

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".jp2")
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
    ids: list[str], files: list[str], labels: list[int | None], splits: list[str] | None = None,
    groups: list[str] | None = None, eyes: list[str] | None = None, flags: list[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The table of a source; missing parts are empty."""
    blank = [""] * len(ids)
    texts = {"split": splits, "group": groups, "eye": eyes, "flags": flags}
    columns = {"id": ids, "file": files, **{name: values or blank for name, values in texts.items()}}
    table = pd.DataFrame(columns).astype("object")
    table.insert(2, "label", pd.Series(labels, dtype="Int64"))
    return table


def list_pictures(root: Path) -> list[Path]:
    """All files below `root` that could be pictures, sorted, hidden ones left out; ValueError when there is none."""
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder")
    found = sorted(
        path
        for path in _walk(root)
        if path.suffix.lower() in PICTURES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not found:
        raise ValueError(f"{root}: no pictures found; files with these endings are read: {', '.join(PICTURES)}")
    return found


def _walk(root: Path) -> Iterator[Path]:
    """All files below `root`, through linked folders too, each folder once (links may go in circles)."""
    seen = set()
    for folder, _, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real not in seen:
            seen.add(real)
            yield from (Path(folder) / name for name in names)


def picture_ids(files: list[Path], root: Path) -> list[str]:
    """Ids: the path below `root` without its ending; with it where two files differ only there."""
    short = [path.relative_to(root).with_suffix("").as_posix() for path in files]
    counts = pd.Series(short, dtype="object").value_counts()
    return [
        name if counts[name] == 1 else path.relative_to(root).as_posix()
        for name, path in zip(short, files, strict=True)
    ]


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
