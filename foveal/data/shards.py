"""Shards: image arrays that grow row by row on disk and are ordinary .npy files when closed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import pandas as pd
from numpy.lib import format as npy

ROWS_PER_SHARD = 4096


class ShardWriter:
    """Append uint8 [S, S, C] images to DATA/images/00000.npy, 00001.npy, …; memory does not grow with the set."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], rows_per_shard: int = ROWS_PER_SHARD) -> None:
        self.folder, self.shape, self.rows_per_shard = folder, shape, rows_per_shard
        self.shard, self.row = -1, rows_per_shard
        self._stream: BinaryIO | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, image: np.ndarray) -> tuple[int, int]:
        """Write one image; returns its shard and row."""
        if image.shape != self.shape or image.dtype != np.uint8:
            raise ValueError(f"expected uint8 {self.shape}, got {image.dtype} {image.shape}")
        if self.row == self.rows_per_shard:
            self.close()
            self.shard, self.row = self.shard + 1, 0
            self._stream = (self.folder / f"{self.shard:05d}.npy").open("wb")
            self._write_header(self.rows_per_shard)
        assert self._stream is not None
        self._stream.write(np.ascontiguousarray(image).data)
        self.row += 1
        return self.shard, self.row - 1

    def close(self) -> None:
        """Write the true number of rows into the header of the open shard and close it."""
        if self._stream is not None:
            self._stream.seek(0)
            self._write_header(self.row)
            self._stream.close()
            self._stream = None

    def _write_header(self, rows: int) -> None:
        # The format pads its header so that a larger row count fits later: both headers have the same length.
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self.shape)}
        assert self._stream is not None
        npy.write_array_header_1_0(self._stream, header)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def compact(data: Path, records: pd.DataFrame) -> pd.DataFrame:
    """Rewrite DATA/images so that it holds just the images of `records`; returns them with new shards and rows."""
    old = [np.load(file, mmap_mode="r") for file in sorted((data / "images").glob("*.npy"))]
    places = []
    with ShardWriter(data / "kept", old[0].shape[1:]) as writer:
        for shard, row in zip(records["shard"], records["row"], strict=True):
            places.append(writer.append(old[shard][row]))
    del old
    shutil.rmtree(data / "images")
    (data / "kept").rename(data / "images")
    return records.assign(shard=[shard for shard, _ in places], row=[row for _, row in places])
