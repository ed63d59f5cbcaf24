"""CIFAR-10: the official python batches, or an npz with x_train, y_train, x_test, y_test."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import FovealError
from foveal.sources.cards import CARDS
from foveal.sources.source import Source, SourceOptions, array_source, needed, read_arrays

PICKLED = {("numpy", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


def recognise(root: Path) -> bool:
    """cifar10.npz or a folder with it, or a folder with data_batch_1 (directly or in cifar-10-batches-py)."""
    return _npz(root) is not None or _batches(root) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """50,000 training and 10,000 test images, uint8 [n, 32, 32, 3]."""
    file = _npz(root)
    if file is not None:
        arrays = read_arrays(file, ("x_train", "y_train", "x_test", "y_test"))
        parts = {part: (arrays[f"x_{part}"], arrays[f"y_{part}"].reshape(-1)) for part in ("train", "test")}
    else:
        folder = needed(_batches(root), root, "cifar10")
        batches = [_read_batch(folder / f"data_batch_{number}") for number in range(1, 6)]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        parts = {"train": (images, labels), "test": _read_batch(folder / "test_batch")}
    return array_source(root, parts, {part: f"cifar10#{part}/" for part in parts}, CARDS["cifar10"].classes)


def _npz(root: Path) -> Path | None:
    file = root / "cifar10.npz" if root.is_dir() else root
    return file if file.is_file() and file.name == "cifar10.npz" else None


def _batches(root: Path) -> Path | None:
    return next((f for f in (root, root / "cifar-10-batches-py") if (f / "data_batch_1").is_file()), None)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles only the four names that the published batches need; anything else is refused before it can run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".", maxsplit=1)[0], name) in PICKLED:
            return super().find_class(module, name)
        raise FovealError(
            "source.unsafe", f"a CIFAR-10 batch contains {module}.{name}, which the published ones do not"
        )


def _read_batch(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 32, 32, 3] and labels [n]; the file holds each image as 3 planes of 1,024 bytes."""
    with file.open("rb") as stream:
        batch = _ArraysOnly(stream, encoding="bytes").load()
    planes = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), np.asarray(batch[b"labels"])
