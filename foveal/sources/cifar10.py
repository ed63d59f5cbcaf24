"""CIFAR-10: the official python batches, or an npz with x_train, y_train, x_test, y_test."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from foveal.sources.cards import CARDS
from foveal.sources.source import Source, SourceOptions, make_table

PICKLED = {("numpy", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
KEYS = ("x_train", "y_train", "x_test", "y_test")


def recognise(root: Path) -> bool:
    """cifar10.npz or a folder with it, or a folder with data_batch_1 (directly or in cifar-10-batches-py)."""
    return _npz(root) is not None or _batches(root) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """50,000 training and 10,000 test images, uint8 [n, 32, 32, 3]."""
    file, folder = _npz(root), _batches(root)
    if file is not None:
        train, train_labels, test, test_labels = _read_npz(file)
    elif folder is not None:
        parts = [_read_batch(folder / f"data_batch_{number}") for number in range(1, 6)]
        train, train_labels = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        test, test_labels = _read_batch(folder / "test_batch")
    else:
        raise ValueError(f"{root}: expected cifar10.npz ({', '.join(KEYS)}) or the folder cifar-10-batches-py")
    ids = [f"{part}/{n}" for part, images in (("train", train), ("test", test)) for n in range(len(images))]
    labels: list[int | None] = [int(label) for label in (*train_labels, *test_labels)]
    table = make_table(ids, [f"cifar10#{name}" for name in ids], labels, [name.split("/")[0] for name in ids])
    return Source(root=root, table=table, classes=CARDS["cifar10"].classes, images=np.concatenate([train, test]))


def _npz(root: Path) -> Path | None:
    file = root / "cifar10.npz" if root.is_dir() else root
    return file if file.is_file() and file.name == "cifar10.npz" else None


def _batches(root: Path) -> Path | None:
    return next((f for f in (root, root / "cifar-10-batches-py") if (f / "data_batch_1").is_file()), None)


def _read_npz(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    with np.load(file) as arrays:
        missing = [key for key in KEYS if key not in arrays]
        if missing:
            raise ValueError(f"{file}: missing arrays {', '.join(missing)}; found {', '.join(arrays.files)}")
        return arrays["x_train"], arrays["y_train"].reshape(-1), arrays["x_test"], arrays["y_test"].reshape(-1)


class _ArraysOnly(pickle.Unpickler):
    """Reads the published pickles, which need three names; anything else in a file is refused, not run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".", maxsplit=1)[0], name) in PICKLED:
            return super().find_class(module, name)
        raise ValueError(f"a CIFAR-10 batch may not contain {module}.{name}: not the published file")


def _read_batch(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 32, 32, 3] and labels [n]; the file holds each image as 3 planes of 1,024 bytes."""
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; CIFAR-10 has data_batch_1 to 5 and test_batch")
    with file.open("rb") as stream:
        batch = _ArraysOnly(stream, encoding="bytes").load()
    planes = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), np.asarray(batch[b"labels"])
