"""The batches of an epoch: which images, how balanced, their random views, and their targets, mixed or not.

Everything depends only on (seed, epoch, step), so a resumed run gives the same result as an uninterrupted one.
mixup: Zhang et al. 2018 (https://arxiv.org/abs/1710.09412).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foveal.augment.given import draw_views
from foveal.augment.recipes import get_recipe
from foveal.augment.views import NetworkInput, random_views
from foveal.distributed import place
from foveal.schedule import size_in_epoch
from foveal.sets.loader import ImageStore, epoch_batches, step_generator
from foveal.train.learned import Learned
from foveal.train.options import TrainConfig
from foveal.train.task import Task

MIXING = 7  # added to the seed, so that mixing does not change the random views


@dataclass(frozen=True, kw_only=True)
class Batch:
    """inputs: [B, C, s, s], or features [B, D] of a frozen encoder. targets: [B, K]. index: int [B], image numbers."""

    inputs: Tensor
    targets: Tensor
    index: np.ndarray


def batches_of_epoch(config: TrainConfig, learned: Learned, store: ImageStore, epoch: int) -> list[np.ndarray]:
    """Index arrays of an epoch, without a last batch that is smaller than `least_batch`."""
    size = config.batch_size
    if config.sampling == "natural":
        batches = epoch_batches(len(store), size, config.seed, epoch, drop_last=False, windows=store.windows)
    else:
        order = balanced(learned.labels, np.random.default_rng([config.seed, epoch]))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batch for batch in batches if len(batch) >= least_batch()]


def least_batch() -> int:
    """Two images, because batch normalisation needs them, and one for each process."""
    return max(2, place()[1])


def feed(
    task: Task, learned: Learned, store: ImageStore, epoch: int, first_step: int, features: Tensor | None
) -> Iterator[Batch]:
    """The batches of an epoch, on the device; taken from `features` [n, D] if the encoder is frozen."""
    config, device = task.config, task.device
    size = size_in_epoch(config.grow_from, config.image_size, epoch, config.epochs)
    seen = NetworkInput(size, task.spec.mean, task.spec.std)
    for number, index in enumerate(batches_of_epoch(config, learned, store, epoch)):
        rows = torch.from_numpy(index)
        targets = learned.targets[rows].to(device)
        if features is not None:
            yield Batch(inputs=features[rows.to(device)], targets=targets, index=index)
            continue
        step = first_step + number
        generator = step_generator(config.seed, step)
        table = draw_views(get_recipe(config.views), len(index), store.image_shape[0], size, generator)
        images = random_views(store.take(index), table, seen, device)
        mixing = step_generator(config.seed + MIXING, step)
        images, targets = mix(images, targets, config.mixup, mixing)
        yield Batch(inputs=images, targets=targets, index=index)


def mix(images: Tensor, targets: Tensor, mixup: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend each image [B, C, s, s] and target [B, K] with another one, by a share drawn from Beta(mixup, mixup)."""
    if not mixup:
        return images, targets
    order = torch.randperm(len(images), generator=generator).to(images.device)
    # A draw of Beta(a, a) from two of Gamma(a, 1).
    first, second = torch._standard_gamma(torch.tensor([mixup, mixup]), generator=generator).double().tolist()
    share = first / (first + second) if first + second > 0 else 0.5
    return images * share + images[order] * (1 - share), targets * share + targets[order] * (1 - share)


def balanced(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """int [n]: the images of an epoch, drawn with replacement so that every class comes equally often."""
    counts = np.bincount(labels)
    chance = (counts > 0) / (counts > 0).sum() / np.maximum(counts, 1)
    return generator.choice(len(labels), len(labels), p=chance[labels])
