"""From prepared sets to batches: uint8 images, in an order that is a function of (seed, epoch) on every machine."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.hardware import free_memory, processes_here
from foveal.sets.records import PreparedSet

T = TypeVar("T")
CPU = torch.device("cpu")
SHUFFLED_WHOLE = 8 << 30  # bytes; a larger set is shuffled in windows, so that disks read mostly in order
WINDOW_SHARDS = 64  # of at most 64 MiB: 4 GiB are shuffled together
RESIDENT_SHARE = 0.6  # of the free memory: a larger set is not kept there


class ImageStore:
    """The images of some records of one or more prepared sets as one indexable uint8 array [n, S, S, C].

    They are kept on `device` if they fit there, else in memory, else they are read from disk (memory-mapped).
    """

    def __init__(self, parts: Sequence[tuple[PreparedSet, pd.DataFrame]], device: torch.device = CPU) -> None:
        first = parts[0][0]
        self._sets = [prepared.shards for prepared, _ in parts]
        self._set = np.repeat(np.arange(len(parts)), [len(records) for _, records in parts])
        self._shard = np.concatenate([records["shard"].to_numpy() for _, records in parts])
        self._row = np.concatenate([records["row"].to_numpy() for _, records in parts])
        self.image_shape = (first.size, first.size, first.channels)
        self._resident: np.ndarray | None = None
        self._on_device: Tensor | None = None
        if device.type == "cuda" and self.bytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._on_device = self._copy_to(device)
        elif self.bytes <= RESIDENT_SHARE * free_memory() / processes_here():
            self._resident = self.gather(np.arange(len(self)))

    def __len__(self) -> int:
        return len(self._row)

    @property
    def bytes(self) -> int:
        """Size of all images."""
        return len(self) * int(np.prod(self.image_shape))

    @property
    def windows(self) -> np.ndarray | None:
        """int [n]: the shard of each image of a set that is too large to be shuffled whole; else None."""
        return self._set * (self._shard.max() + 1) + self._shard if self.bytes > SHUFFLED_WHOLE else None

    def gather(self, index: np.ndarray) -> np.ndarray:
        """uint8 [len(index), S, S, C] in the machine's memory."""
        if self._resident is not None:
            return self._resident[index]
        images = np.empty((len(index), *self.image_shape), np.uint8)
        places = zip(self._set[index].tolist(), self._shard[index].tolist(), self._row[index].tolist(), strict=True)
        for position, (number, shard, row) in enumerate(places):
            images[position] = self._sets[number][shard][row]
        return images

    def take(self, index: np.ndarray) -> np.ndarray | Tensor:
        """uint8 [len(index), S, S, C] where the images are: a tensor on the device, or an array in memory."""
        if self._on_device is None:
            return self.gather(index)
        return self._on_device[torch.from_numpy(index).to(self._on_device.device, non_blocking=True)]

    def _copy_to(self, device: torch.device, rows: int = 4096) -> Tensor:
        images = torch.empty((len(self), *self.image_shape), dtype=torch.uint8, device=device)
        for start in range(0, len(self), rows):  # in parts, since the whole set may not fit into memory
            part = np.arange(start, min(start + rows, len(self)))
            images[start : start + rows] = torch.from_numpy(self.gather(part)).to(device)
        return images


def epoch_batches(
    count: int, batch_size: int, seed: int, epoch: int, *, drop_last: bool, windows: np.ndarray | None = None
) -> list[np.ndarray]:
    """Batches of a permutation of 0..count-1, within some shards if `windows`, int [count], gives that of each."""
    generator = np.random.default_rng([seed, epoch])
    if windows is None:
        order = generator.permutation(count)
    else:
        shards = generator.permutation(np.unique(windows))
        parts = np.array_split(shards, max(1, len(shards) // WINDOW_SHARDS))
        order = np.concatenate([generator.permutation(np.flatnonzero(np.isin(windows, part))) for part in parts])
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    return batches[:-1] if drop_last and len(batches[-1]) < batch_size else batches


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random generator of one training step, independent of those of other steps."""
    state = np.random.SeedSequence([seed, step]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def shard_of(batch: np.ndarray, rank: int, world: int) -> slice:
    """The contiguous part of a batch that this process takes."""
    share = len(batch) // world
    return slice(rank * share, (rank + 1) * share)


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The items of an iterable, computed up to `depth` ahead in a thread; its errors are raised here."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="foveal-prefetch") as thread:
        ahead = deque(thread.submit(next, iterator, end) for _ in range(depth + 1))
        try:
            while (item := ahead.popleft().result()) is not end:
                ahead.append(thread.submit(next, iterator, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(cancel_futures=True)
