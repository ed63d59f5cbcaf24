"""The feed of pre-training: two random views of the images of every step, and the identity of each image.

Everything is a function of (seed, epoch, step) and the batch size, not of the number of processes: each takes its part
of the tables of views of the whole batch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from foveal.augment.recipes import recipe_pair
from foveal.augment.views import GivenViews, NetworkInput, Table, draw_views, random_views, to_tensor
from foveal.errors import FovealError
from foveal.pretrain.options import PretrainConfig
from foveal.sets.loader import ImageStore, epoch_batches, shard_of, step_generator
from foveal.sets.records import PreparedSet, patients
from foveal.sources.messidor import COARSE

Views = tuple[Tensor, Tensor]
Batch = tuple[Sequence[Views], Tensor | None]
Pool = Sequence[tuple[PreparedSet, pd.DataFrame]]  # sets and the records used of each


class MicroBatches(Sequence[Views]):
    """The views of the micro-batches of a step, made when asked for; `waited`: seconds that making them took."""

    def __init__(self, makers: Sequence[Callable[[], Views]]) -> None:
        self._makers, self.waited = makers, 0.0

    def __len__(self) -> int:
        return len(self._makers)

    def __getitem__(self, number: Any) -> Any:
        asked = time.perf_counter()
        views = self._makers[number]()
        self.waited += time.perf_counter() - asked
        return views


@dataclass(frozen=True)
class Feed:
    """The images, how they are processed, and the share of this process."""

    config: PretrainConfig
    store: ImageStore
    spec: NetworkInput
    device: torch.device
    identity: np.ndarray | None  # int64 [n]; images with the same number belong together
    rank: int = 0
    world: int = 1

    @property
    def steps(self) -> int:
        """Steps of one epoch. Images that do not fill a batch are left out, different ones in each epoch."""
        return len(self.store) // self.config.batch_size

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from its step `first` on."""
        size, seed, windows = self.config.batch_size, self.config.seed, self.store.windows
        batches = epoch_batches(len(self.store), size, seed, epoch, drop_last=True, windows=windows)
        for number, batch in list(enumerate(batches))[first:]:
            yield self.batch(batch, epoch * self.steps + number)

    def batch(self, index: np.ndarray, step: int) -> Batch:
        """Views of this process's part of the images `index`, in micro-batches, and their identities."""
        size, source, part = self.spec.image_size, self.store.image_shape[0], shard_of(index, self.rank, self.world)
        generator = step_generator(self.config.seed, step)
        recipes, own = recipe_pair(self.config.views), index[part]
        tables = [draw_views(recipe, len(index), source, size, generator)[part] for recipe in recipes]
        images = self.store.take(own)
        if isinstance(images, np.ndarray) and self.device.type != "cpu":
            images = to_tensor(images, self.device)
        identity = None if self.identity is None else torch.from_numpy(self.identity[own]).to(self.device)
        whole, later = self.config.micro_batch == "whole", any(isinstance(table, GivenViews) for table in tables)
        if whole and not later:
            return [self._views(images, tables, slice(None))], identity
        # Functions of a program run in the thread that trains, since threads share torch's generator.
        micro = len(own) if whole else int(self.config.micro_batch)
        cuts = [slice(start, start + micro) for start in range(0, len(own), micro)]
        return MicroBatches([partial(self._views, images, tables, cut) for cut in cuts]), identity

    def _views(self, images: np.ndarray | Tensor, tables: list[Table], cut: slice) -> Views:
        first, second = (random_views(images[cut], table[cut], self.spec, self.device) for table in tables)
        return first, second


def identities(pool: Pool, by_label: bool, draws_together: bool = False) -> np.ndarray:
    """int64 [n]: the patient (or the label) of each image of the pool as a number; a number of its own if it has none.

    FovealError if none or all images have one, no two share one, or groups that attract are coarser than patients.
    """
    if by_label:
        room, option, what, fix = "label", "--method supcon", "label", "use --method simclr"
        labelled = [(prepared.classes, label) for prepared, records in pool for label in records["label"]]
        names = ["" if pd.isna(label) else classes[int(label)] for classes, label in labelled]
    else:
        room, option, what, fix = "set", "--simclr.same-group", "group (patient)", "leave out --simclr.same-group"
        names = [name for prepared, records in pool for name in patients(prepared.card, records["group"]).tolist()]
        if draws_together and (coarse := sum(bool(COARSE.search(name)) for name in names)):
            told = f"{option} positive: the groups of {coarse:,} Messidor images are dates or blocks of numbers"
            fix = "use --simclr.same-group mask, or prepare Messidor-2 with its table of pairs, messidor-2.csv"
            raise FovealError("set.coarse_groups", f"{told}, each with several patients", fix=fix)
        names = _tied(names)
    named = [name or f"\r{number}" for number, name in enumerate(names)]
    found = np.unique(named, return_inverse=True)[1].astype(np.int64)
    for problem, is_so, said in (
        ("none", not any(names), f"no image of the pool has a {what}"),
        ("all_different", found.max() + 1 == len(found), f"no two images of the pool share a {what}"),
        ("all_same", found.max() == 0, f"all images of the pool have the same {what}, so there are no negatives"),
    ):
        if is_so:
            raise FovealError(f"{room}.{problem}", f"{option}: {said}", fix=fix)
    return found


def _tied(names: list[str]) -> list[str]:
    """One name for all patients that copies tie together: "a+b" makes "a", "b" and "a+b" one; "" stays ""."""
    patient = pd.Series(names).str.split("+").explode()
    image, node = patient.index.to_numpy(), len(names) + pd.factorize(patient)[0]
    edges = sparse.coo_matrix((np.ones(len(node)), (image, node)), (node.max() + 1,) * 2)
    tied = sparse.csgraph.connected_components(edges, directed=False)[1]
    return [str(tied[number]) if name else "" for number, name in enumerate(names)]
