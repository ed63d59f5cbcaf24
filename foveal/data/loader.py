"""From prepared sets to batches: uint8 images gathered from memory or disk, in an order that a seed decides.

Everything is a function of (seed, epoch): a run that resumes, or runs in more processes, sees the same batches.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from foveal.data.records import PreparedSet

T = TypeVar("T")
RESIDENT_BYTES = 8 << 30  # images up to this size are kept in memory; larger sets are read from the memory map


class ImageStore:
    """The images of some records of one or more prepared sets as one indexable uint8 array [n, S, S, C]."""

    def __init__(self, parts: Sequence[tuple[PreparedSet, pd.DataFrame]]) -> None:
        first = parts[0][0]
        for prepared, _ in parts:
            if (prepared.size, prepared.channels) != (first.size, first.channels):
                raise ValueError(
                    f"{prepared.path} has {prepared.size} px images with {prepared.channels} channel(s), {first.path} "
                    f"has {first.size} px with {first.channels}; prepare both with the same --size"
                )
        self._maps = [shard for prepared, _ in parts for shard in prepared.shards]
        offsets = np.cumsum([0] + [len(prepared.shards) for prepared, _ in parts])
        self._shard = np.concatenate([r["shard"].to_numpy() + o for (_, r), o in zip(parts, offsets, strict=False)])
        self._row = np.concatenate([records["row"].to_numpy() for _, records in parts])
        self.image_shape = (first.size, first.size, first.channels)
        self._resident: np.ndarray | None = None
        if len(self) * int(np.prod(self.image_shape)) <= RESIDENT_BYTES:
            self._resident = self._read(np.arange(len(self)))

    def __len__(self) -> int:
        return len(self._row)

    def gather(self, index: np.ndarray) -> np.ndarray:
        """uint8 [len(index), S, S, C]."""
        return self._read(index) if self._resident is None else self._resident[index]

    def _read(self, index: np.ndarray) -> np.ndarray:
        images = np.empty((len(index), *self.image_shape), np.uint8)
        for position, (shard, row) in enumerate(zip(self._shard[index], self._row[index], strict=True)):
            images[position] = self._maps[shard][row]
        return images


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int, drop_last: bool) -> list[np.ndarray]:
    """Index arrays of one epoch: a permutation of 0..count-1 cut into batches."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    return batches[:-1] if drop_last and len(batches[-1]) < batch_size else batches


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of one training step, independent of all others."""
    state = np.random.SeedSequence([seed, step]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def shard_of(batch: np.ndarray, rank: int, world: int) -> slice:
    """The contiguous part of a batch that this process takes."""
    share = len(batch) // world
    return slice(rank * share, (rank + 1) * share)


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Items of an iterable, computed up to `depth` ahead in a thread; its errors are raised here."""
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(entry: tuple[bool, T | BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def fill() -> None:
        try:
            for item in items:
                hand_over((True, item))
                if stopped.is_set():
                    return
            hand_over((False, None))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that trains
            hand_over((False, error))

    thread = threading.Thread(target=fill, daemon=True, name="foveal-prefetch")
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if isinstance(item, BaseException):
                raise item
            if not more:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
