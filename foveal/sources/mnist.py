"""MNIST in the official idx format, plain or gzipped."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from foveal.sources.cards import CARDS
from foveal.sources.source import Source, SourceOptions, make_table

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def recognise(root: Path) -> bool:
    """A folder with the training images in idx format."""
    return _find(root, FILES["train"][0]) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """60,000 training and 10,000 test digits, uint8 [n, 28, 28, 1]."""
    images: list[np.ndarray] = []
    labels: list[int | None] = []
    splits: list[str] = []
    ids: list[str] = []
    for part, (image_file, label_file) in FILES.items():
        images.append(read_idx(_require(root, image_file)))
        part_labels = read_idx(_require(root, label_file))
        if len(part_labels) != len(images[-1]) or images[-1].ndim != 3:
            raise ValueError(f"{root}: {image_file} {images[-1].shape} and {label_file} {part_labels.shape} do not fit")
        labels.extend(part_labels.tolist())
        splits.extend([part] * len(part_labels))
        ids.extend(f"{part}/{number}" for number in range(len(part_labels)))
    files = [f"{FILES[name.split('/')[0]][0]}#{name.split('/')[1]}" for name in ids]
    table = make_table(ids, files, labels, splits)
    return Source(root=root, table=table, classes=CARDS["mnist"].classes, images=np.concatenate(images)[..., None])


def read_idx(file: Path) -> np.ndarray:
    """An array in idx format: magic 0 0 8 d, d big-endian sizes, then bytes; ValueError when the length is wrong."""
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{file} is not an idx file of unsigned bytes")
    dimensions = data[3]
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape):
        raise ValueError(f"{file} is cut off: {values.size} of {np.prod(shape)} bytes")
    return values.reshape(shape)


def _find(root: Path, name: str) -> Path | None:
    candidates = (root / name, root / f"{name}.gz", root / name.replace("-idx", ".idx"))
    return next((path for path in candidates if path.is_file()), None)


def _require(root: Path, name: str) -> Path:
    file = _find(root, name)
    if file is None:
        raise ValueError(f"{root}: MNIST needs {name} (or {name}.gz)")
    return file
