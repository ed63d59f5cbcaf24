"""MedMNIST (v2 and its larger sizes): any of its 2-D sets with one label per image, in the official split.

A file NAME.npz (or NAME_64, _128, _224.npz) holds {train,val,test}_images, uint8 [n, S, S] grey or [n, S, S, 3]
RGB, and {train,val,test}_labels [n, 1]. Traps: ChestMNIST has 14 labels per image and the 3-D sets hold volumes;
both are refused. The files do not name their classes, so classes are called by their numbers.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import is_zipfile

import numpy as np

from foveal.errors import FovealError
from foveal.sources.source import Source, SourceOptions, array_source, needed, read_arrays

PARTS = ("train", "val", "test")
KEYS = tuple(f"{part}_{kind}" for part in PARTS for kind in ("images", "labels"))


def recognise(root: Path) -> bool:
    """An .npz file with all six arrays, or a folder whose only .npz file has them."""
    file = find_arrays(root, "*.npz")
    if file is None or not is_zipfile(file):
        return False
    with np.load(file) as arrays:
        return set(KEYS) <= set(arrays.files)


def load(root: Path, options: SourceOptions) -> Source:
    """All three official parts; classes "0", "1", … up to the largest label."""
    return medmnist_source(needed(find_arrays(root, "*.npz"), root, "medmnist"))


def find_arrays(root: Path, pattern: str) -> Path | None:
    """The file itself, or the only one in a folder that matches `pattern`; None where there is none, or several."""
    if root.is_file():
        return root if root.match(pattern) else None
    found = sorted(root.glob(pattern)) if root.is_dir() else []
    return found[0] if len(found) == 1 else None


def medmnist_source(file: Path, classes: tuple[str, ...] = ()) -> Source:
    """Images, labels and split of one file, with the classes named or numbered."""
    arrays = read_arrays(file, KEYS)
    parts = {}
    for part in PARTS:
        images = _pictures(arrays[f"{part}_images"], f"{file}: {part}_images")
        parts[part] = (images, _labels(arrays[f"{part}_labels"], f"{file}: {part}_labels"))
    largest = max((int(labels.max(initial=0)) for _, labels in parts.values()), default=0)
    names = classes or tuple(str(number) for number in range(largest + 1))
    return array_source(file.parent, parts, {part: f"{file.name}#{part}/" for part in PARTS}, names)


def _pictures(array: np.ndarray, where: str) -> np.ndarray:
    """uint8 [n, S, S, C]."""
    grey, colour = array.ndim == 3, array.ndim == 4 and array.shape[3] == 3
    if array.dtype != np.uint8 or not (grey or colour):
        found = f"{where} holds {array.dtype} {list(array.shape)}"
        raise FovealError("source.arrays", found, expected="uint8 [n, S, S] or [n, S, S, 3]")
    return array[..., None] if grey else array


def _labels(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] > 1:
        raise FovealError("source.arrays", f"{where} holds {array.shape[1]} labels per image", expected="one label")
    return array.reshape(-1)
