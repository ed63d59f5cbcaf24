"""Shards: a part of a source, decoded once, as an array with a table of facts beside it.

The table has a row per file: stamp (size in bytes @ time of change), row in the array or reason why there is none.

`write_shard` depends on nothing but its job, so threads, a resumed run, and the machines of a cluster all write the
same bytes. The table is written last: without it the shard does not exist.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.lib import format as npy

from foveal.errors import FovealError
from foveal.files import replacing, sha256_of, write_table
from foveal.fundus.fingerprint import fingerprint, to_text
from foveal.fundus.preparation import Preparation, Prepared, prepare_file, prepare_pixels

T = TypeVar("T")
AHEAD = 8  # items per thread, so that a slow one does not hold up the others
OPEN_AT_ONCE = 128  # memory maps: each holds a file open, and some systems allow 256 open files
# The columns of a shard's table, before the measures, and what they hold for a file that could not be read.
FACTS = {"file": "", "stamp": "", "row": -1, "reason": "", "width": -1, "height": -1, "sha256": "", "file_sha256": "",
         "flags": "", "fingerprint": ""}  # fmt: skip
RETRY = "retry"  # the stamp of a file that may be readable the next time
_RETRIED = ("image.unavailable", "package.missing")


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """A part of a source and where it goes; plain values only, so that it can be sent to another machine."""

    number: int
    folder: Path  # DATA/images
    preparation: Preparation
    root: Path
    files: tuple[str, ...]
    stamps: tuple[str, ...]  # of the files: size and time of change, or "missing"
    positions: tuple[int, ...]  # of the files in the source
    photographs: bool  # whether they are fundus photographs, which are measured and fingerprinted
    images: np.ndarray | None = None  # uint8 [n, h, w, C] in the order of `files`, for sources that hold arrays


def write_shard(job: ShardJob, advance: Callable[[], None] = lambda: None) -> None:
    """Write the array of one job, prepared in threads, and then its table; `advance` is called after each image."""
    cv2.setNumThreads(1)  # one image a thread: OpenCV's own threads would compete with ours
    job.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    side, channels, count = job.preparation.size, job.preparation.channels, 0

    def prepare(position: int) -> Prepared:
        if job.images is not None:
            return prepare_pixels(job.images[position], job.preparation, measure=job.photographs)
        file = job.root / job.files[position]
        return replace(prepare_file(file, job.preparation, measure=job.photographs), file_sha256=sha256_of(file))

    with replacing(job.folder / f"{job.number:05d}.npy") as partial, partial.open("wb") as stream:
        _write_header(stream, (len(job.files), side, side, channels))
        for position, result in in_threads(prepare, range(len(job.files))):
            facts: dict[str, Any] = {**FACTS, "file": job.files[position], "stamp": job.stamps[position]}
            if isinstance(result, FovealError):
                facts["reason"] = result.what
                facts["stamp"] = RETRY if result.code in _RETRIED else facts["stamp"]
            else:
                pixels = np.ascontiguousarray(result.pixels).data
                stream.write(pixels)
                digest, flags = hashlib.sha256(pixels).hexdigest(), " ".join(result.flags)
                facts |= {"row": count, "width": result.width, "height": result.height}
                facts |= {"sha256": digest, "file_sha256": result.file_sha256, "flags": flags, **result.measures}
                if job.photographs:
                    facts["fingerprint"] = to_text(fingerprint(result.square))
                count += 1
            rows.append(facts)
            advance()
        stream.seek(0)
        _write_header(stream, (count, side, side, channels))
    write_table(job.folder / f"{job.number:05d}.csv", pd.DataFrame(rows))


def _write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    """The header of an array, whose length does not depend on the number of rows."""
    npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def shard_numbers(folder: Path) -> list[int]:
    """The numbers of the finished shards in a folder, in order."""
    return sorted(int(file.stem) for file in folder.glob("[0-9]*.csv"))


def read_facts(folder: Path) -> pd.DataFrame:
    """The facts of all finished shards in order, with their `shard`; if a file is in two shards, the later ones."""
    text, tables = {name: str for name, value in FACTS.items() if value == ""}, []
    for number in shard_numbers(folder):
        # Only an empty cell is a missing value: a file may be called "NA".
        table = pd.read_csv(folder / f"{number:05d}.csv", dtype=text, keep_default_na=False, na_values=[""])
        added = dict.fromkeys(text.keys() - set(table), "")  # by later versions
        tables.append(table.fillna(dict.fromkeys(text, "")).assign(shard=number, **added))
    if not tables:
        return pd.DataFrame(columns=[*FACTS, "shard"])
    return pd.concat(tables, ignore_index=True).drop_duplicates("file", keep="last").reset_index(drop=True)


class Shards:
    """The arrays of a folder by number, memory-mapped on first use; the last `OPEN_AT_ONCE` stay open."""

    def __init__(self, folder: Path) -> None:
        self._open = lru_cache(OPEN_AT_ONCE)(lambda number: np.load(folder / f"{number:05d}.npy", mmap_mode="r"))

    def __getitem__(self, number: int) -> np.ndarray:
        """uint8 [n, S, S, C]."""
        return np.asarray(self._open(number))

    def rows(self, number: int) -> int:
        """Images in a shard; 0 if it is missing or truncated."""
        try:
            return len(self[number])
        except (OSError, ValueError, EOFError):  # numpy refuses to map a file that is shorter than its header says
            return 0


def gather(shards: Shards, shard: np.ndarray, row: np.ndarray) -> np.ndarray:
    """uint8 [n, S, S, C]: the images at (shard[k], row[k]), in this order; n at least 1."""
    images = np.empty((len(shard), *shards[int(shard[0])].shape[1:]), np.uint8)
    for position, (number, place) in enumerate(zip(shard.tolist(), row.tolist(), strict=True)):
        images[position] = shards[number][place]
    return images


def in_threads(work: Callable[[T], Prepared], items: Iterable[T]) -> Iterator[tuple[T, Prepared | FovealError]]:
    """(item, work(item) or its error) in order, computed in threads, a few items for each thread in advance."""

    def attempt(item: T) -> tuple[T, Prepared | FovealError]:
        try:
            return item, work(item)
        except FovealError as error:
            return item, error

    waiting: deque[Future[tuple[T, Prepared | FovealError]]] = deque()
    with ThreadPoolExecutor(cores()) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(attempt, item))
                if len(waiting) > AHEAD * cores():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
