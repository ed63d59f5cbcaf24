"""MedMNIST (v2 and its larger sizes): any of its 2-D sets with one label an image, in the official split.

A file NAME.npz (or NAME_64, _128, _224.npz) holds {train,val,test}_images, uint8 [n, S, S] grey or [n, S, S, 3]
RGB, and {train,val,test}_labels [n, 1]. Traps: ChestMNIST has 14 labels an image, the 3-D sets a volume; both are
refused. The files do not name their classes, so they are called by their numbers.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import is_zipfile

import numpy as np

from foveal.sources.source import Source, SourceOptions, make_table, unmet

PARTS = ("train", "val", "test")
KEYS = tuple(f"{part}_{kind}" for part in PARTS for kind in ("images", "labels"))


def recognise(root: Path) -> bool:
    """An .npz file with all six arrays, or a folder with exactly one .npz file, such a one."""
    file = find_arrays(root, "*.npz")
    if file is None or not is_zipfile(file):
        return False
    with np.load(file) as arrays:
        return set(KEYS) <= set(arrays.files)


def load(root: Path, options: SourceOptions) -> Source:
    """All three official parts; classes "0", "1", … as far as the labels go."""
    file = find_arrays(root, "*.npz")
    if file is None:
        raise unmet(root, "medmnist")
    return read_arrays(file, None)


def find_arrays(root: Path, pattern: str) -> Path | None:
    """The file itself, or the only one like `pattern` in a folder; None without one, or with several."""
    if root.is_file():
        return root if root.match(pattern) else None
    found = sorted(root.glob(pattern)) if root.is_dir() else []
    return found[0] if len(found) == 1 else None


def read_arrays(file: Path, classes: tuple[str, ...] | None) -> Source:
    """Images, labels and split of one file; ids are `train/17`, as in the published arrays."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    ids: list[str] = []
    with np.load(file) as arrays:
        missing = [key for key in KEYS if key not in arrays]
        if missing:
            raise ValueError(f"{file}: missing arrays {', '.join(missing)}; found {', '.join(arrays.files)}")
        for part in PARTS:
            images.append(_pictures(arrays[f"{part}_images"], f"{file}: {part}_images"))
            labels.extend(_labels(arrays[f"{part}_labels"], len(images[-1]), f"{file}: {part}_labels"))
            ids.extend(f"{part}/{number}" for number in range(len(images[-1])))
    names = classes or tuple(str(number) for number in range(max(labels, default=-1) + 1))
    wrong = [number for number, label in enumerate(labels) if not 0 <= label < len(names)]
    if wrong:
        raise ValueError(
            f"{file}: label {labels[wrong[0]]} of {ids[wrong[0]]} is not in the classes 0-{len(names) - 1}"
        )
    splits = [name.split("/")[0] for name in ids]
    table = make_table(ids, [f"{file.name}#{name}" for name in ids], labels, splits)
    notes = (f"images and labels from {file.name}",)
    return Source(root=file.parent, table=table, classes=names, images=np.concatenate(images), notes=notes)


def _pictures(array: np.ndarray, where: str) -> np.ndarray:
    """uint8 [n, S, S, C]."""
    grey, colour = array.ndim == 3, array.ndim == 4 and array.shape[3] == 3
    if array.dtype != np.uint8 or not (grey or colour):
        raise ValueError(f"{where}: expected uint8 [n, S, S] or [n, S, S, 3], found {array.dtype} {list(array.shape)}")
    return array[..., None] if grey else array


def _labels(array: np.ndarray, count: int, where: str) -> list[int]:
    if array.ndim == 2 and array.shape[1] > 1:
        raise ValueError(f"{where}: {array.shape[1]} labels an image; only sets with one label an image can be read")
    if array.size != count:
        raise ValueError(f"{where}: {array.size} labels for {count} images")
    return [int(label) for label in array.reshape(-1)]
