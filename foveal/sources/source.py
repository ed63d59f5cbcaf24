"""What every source hands to `prepare`: a table of images with their labels, and what the labels mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.sources.cards import CARDS, ICDR

Found = TypeVar("Found")
SPLITS = ("train", "val", "test", "unlabelled")
PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".jp2", ".dcm")
KEPT = "column "  # prefix of the names of columns that are copied unchanged to columns.csv
EYES = re.compile(r"(?P<patient>.+?)[_-](?P<eye>left|right|OD|OS)$", re.IGNORECASE)
EYE_NAMES = {"left": "left", "os": "left", "right": "right", "od": "right"}


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a source may need besides its path; each source uses the options that apply to it."""

    image_column: str | None = None  # columns of a table that does not use the usual names
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    size: int = 0  # side of drawn images in pixels; 0 = the source decides
    seed: int = 0  # of drawn images


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images of one data set before any of them is decoded.

    table: columns id, file, label (nullable integer), split ("" = not decided yet), group, eye, flags (words separated
    by spaces, such as `ungradable`). Other columns of the source, kept for columns.csv, are named "column NAME".
    images: uint8 [n, H, W, C] in row order where the source holds arrays; None where `file` names pictures in `root`.
    """

    root: Path
    table: pd.DataFrame
    classes: tuple[str, ...]
    images: np.ndarray | None = None
    scale: str | None = None  # None: as the card says
    task: str | None = None
    notes: tuple[str, ...] = ()


def make_table(
    ids: Sequence[str], files: Sequence[str], labels: Sequence[int | None] | None = None, *,
    split: str | Sequence[str] = "", group: str | Sequence[str] = "", eye: str | Sequence[str] = "",
    flags: str | Sequence[str] = "",
) -> pd.DataFrame:  # fmt: skip
    """The table of a source. A single text applies to all rows; without `labels`, all labels are missing."""
    columns = {"id": ids, "file": files, "split": split, "group": group, "eye": eye, "flags": flags}
    table = pd.DataFrame(columns, index=range(len(ids))).astype("object")
    table.insert(2, "label", pd.Series([None] * len(ids) if labels is None else list(labels), dtype="Int64"))
    return table


def keep_columns(table: pd.DataFrame, rows: pd.DataFrame, used: Iterable[str]) -> pd.DataFrame:
    """`table` with those columns of `rows` that are neither empty nor `used`; their names get the prefix KEPT."""
    taken = set(used)
    others = {
        f"{KEPT}{name}": rows[name].to_numpy()
        for name in rows.columns
        if name not in taken and name and not name.startswith("Unnamed:") and (rows[name] != "").any()
    }
    return table.assign(**others)


def needed(found: Found | None, root: Path, name: str) -> Found:
    """`found`, unless it is None or empty: then `root` is not laid out as the source `name`."""
    if not found:
        layout = f"{root} is not laid out as {name} ({CARDS[name].title})"
        raise FovealError("source.layout", layout, expected=CARDS[name].layout)
    return found


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file; FovealError where one is missing."""
    with file.open("rb") as stream, np.load(stream) as arrays:  # numpy leaves a damaged file open
        missing = [name for name in names if name not in arrays]
        if missing:
            found = f"{file} has no arrays {', '.join(missing)}; it has {', '.join(arrays.files)}"
            raise FovealError("source.arrays", found)
        return {name: arrays[name] for name in names}


def array_source(
    root: Path, parts: Mapping[str, tuple[np.ndarray, np.ndarray]], places: Mapping[str, str], classes: tuple[str, ...]
) -> Source:
    """A source of arrays: images [n, H, W, C] and labels [n] by split; places: prefix of the image numbers in `file`.

    Ids are `train/17`, as in the published arrays.
    """
    ids, files, splits = [], [], []
    for split, (images, labels) in parts.items():
        if len(images) != len(labels):
            counts = f"{root}/{places[split]} has {len(labels)} labels for {len(images)} images"
            raise FovealError("source.arrays", counts)
        wrong = [number for number, label in enumerate(labels) if not 0 <= label < len(classes)]
        if wrong:
            what = f"the label of {root}/{places[split]}{wrong[0]} is {labels[wrong[0]]}"
            raise FovealError("label.value", what, expected=f"0 to {len(classes) - 1}")
        ids += [f"{split}/{number}" for number in range(len(images))]
        files += [f"{places[split]}{number}" for number in range(len(images))]
        splits += [split] * len(images)
    table = make_table(ids, files, [int(label) for _, labels in parts.values() for label in labels], split=splits)
    images = np.concatenate([images for images, _ in parts.values()])
    return Source(root=root, table=table, classes=classes, images=images)


def locate(root: Path, pattern: str) -> Path | None:
    """The first path that matches `pattern` in `root`, one folder below it, or two; None if there is none.

    Hidden files are ignored: archives made on a Mac hold a file `._NAME` beside every file.
    """
    for depth in ("", "*/", "*/*/"):
        found = sorted(path for path in root.glob(depth + pattern) if not path.name.startswith("."))
        if found:
            return found[0]
    return None


def list_pictures(root: Path) -> list[Path]:
    """All files below `root` that could be pictures, sorted, without hidden ones; FovealError if there are none."""
    if not root.is_dir():
        raise FovealError("source.missing", f"there is no folder {root}")
    found = sorted(
        path
        for path in _walk(root)
        if path.suffix.lower() in PICTURES and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not found:
        raise FovealError("source.no_pictures", f"{root} holds no pictures", expected=f"{', '.join(PICTURES)} files")
    return found


def _walk(root: Path) -> Iterator[Path]:
    """All files below `root`. Links are followed, but each folder is read once, since links may form a loop."""
    seen = set()
    for folder, _, names in os.walk(root, onerror=_warn_closed, followlinks=True):
        real = os.path.realpath(folder)
        if real not in seen:
            seen.add(real)
            yield from (Path(folder) / name for name in names)


def _warn_closed(error: OSError) -> None:
    warn(f"{error.filename} cannot be opened ({error.strerror}): its files are left out")


def picture_ids(files: list[Path], root: Path) -> list[str]:
    """Ids: the path below `root` without its ending, or with it where files differ only in their ending."""
    short = [path.relative_to(root).with_suffix("").as_posix() for path in files]
    counts = pd.Series(short, dtype="object").value_counts()
    full = [path.relative_to(root).as_posix() for path in files]
    return [name if counts[name] == 1 else path for name, path in zip(short, full, strict=True)]


def without_ending(name: str) -> str:
    """The name of a picture, or the path to it, without its ending; backslashes become slashes."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.with_suffix("") if path.suffix.lower() in PICTURES else path).as_posix()


def patients_and_eyes(ids: list[str]) -> tuple[list[str], list[str]]:
    """Patient and eye from names such as `17_left` and `17_OD`; empty where the name does not contain them."""
    matches = [EYES.match(name.rsplit("/", 1)[-1]) for name in ids]
    patients = [match["patient"] if match else "" for match in matches]
    return patients, [EYE_NAMES[match["eye"].lower()] if match else "" for match in matches]


def name_classes(values: set[str]) -> tuple[tuple[str, ...], tuple[str, ...], str, str]:
    """(values in label order, class names in the same order, scale, note).

    Values 0-4 and the five ICDR names are taken as the ICDR scale, in its order. Others keep their names, in numerical
    order where all of them are whole numbers, otherwise in alphabetical order.
    """
    numbers = all(re.fullmatch(r"\d+", value) for value in values)
    ordered = tuple(sorted(values, key=int)) if numbers else tuple(sorted(values))
    if ordered == ("0", "1", "2", "3", "4"):
        return ordered, ICDR, "icdr", "classes 0-4 are taken as the ICDR scale; use --scale none if they are not"
    if values == set(ICDR):
        return ICDR, ICDR, "icdr", ""
    return ordered, ordered, "none", ""
