"""MNIST in the official idx format, plain or gzipped."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from foveal.errors import FovealError
from foveal.sources.cards import CARDS
from foveal.sources.source import Source, SourceOptions, array_source

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def recognise(root: Path) -> bool:
    """A folder with the training images in idx format."""
    return _find(root, FILES["train"][0]) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """60,000 training and 10,000 test digits, uint8 [n, 28, 28, 1]."""
    parts = {part: (_read(root, images)[..., None], _read(root, labels)) for part, (images, labels) in FILES.items()}
    places = {part: f"{images}#" for part, (images, _) in FILES.items()}
    return array_source(root, parts, places, CARDS["mnist"].classes)


def _read(root: Path, name: str) -> np.ndarray:
    file = _find(root, name)
    if file is None:
        raise FovealError("source.missing_file", f"{root} has no file {name} or {name}.gz")
    return _read_idx(file)


def _find(root: Path, name: str) -> Path | None:
    candidates = (root / name, root / f"{name}.gz", root / name.replace("-idx", ".idx"))
    return next((path for path in candidates if path.is_file()), None)


def _read_idx(file: Path) -> np.ndarray:
    """An array in idx format: 0 0 8 d, then d sizes of four bytes (big-endian), then the values, a byte each."""
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise FovealError("source.damaged", f"{file} is not an idx file of unsigned bytes")
    dimensions = data[3]
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape):
        raise FovealError("source.damaged", f"{file} is cut off: {values.size} of {np.prod(shape)} bytes")
    return values.reshape(shape)
