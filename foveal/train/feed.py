"""The batches of an epoch: which images, how they are seen, and what is asked of them.

Everything is a function of (seed, epoch, step), so that a run that resumes goes on as if it had not stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foveal.augment.draw import draw
from foveal.augment.recipes import get_recipe
from foveal.augment.views import NetworkInput, random_views
from foveal.sets.loader import ImageStore, epoch_batches, step_generator
from foveal.train.balance import drawn_images
from foveal.train.learned import Learned
from foveal.train.mixing import mix
from foveal.train.options import TrainConfig

GROWING_STEP = 32  # sizes on the way are whole multiples of it: what networks halve five times
MIXING = 7  # a seed of its own, so that mixing does not change the views


@dataclass(frozen=True, kw_only=True)
class Batch:
    """inputs [B, C, s, s], or features [B, D] of a frozen encoder; targets [B, K]; index int [B] of the images."""

    inputs: Tensor
    targets: Tensor
    index: np.ndarray


def batches_of_epoch(config: TrainConfig, learned: Learned, store: ImageStore, epoch: int) -> list[np.ndarray]:
    """Index arrays of an epoch. A batch of one image is left out: batch statistics of one image mean nothing."""
    size, share = config.batch_size, sampling_share(config, epoch)
    if share == 0:
        batches = epoch_batches(len(store), size, config.seed, epoch, drop_last=False, windows=store.windows)
    else:
        order = drawn_images(learned.labels, share, np.random.default_rng([config.seed, epoch]))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batch for batch in batches if len(batch) > 1]


def sampling_share(config: TrainConfig, epoch: int) -> float:
    """How far an epoch is balanced: 0 natural, 1 every class equally often."""
    if config.sampling == "progressive":
        return epoch / max(1, config.epochs - 1)
    return float(config.sampling == "balanced")


def size_in_epoch(config: TrainConfig, epoch: int) -> int:
    """Pixels that the network sees in an epoch: three thirds from --grow-from to --image-size."""
    if not config.grow_from:
        return config.image_size
    third = 3 * epoch // config.epochs
    middle = (config.grow_from + config.image_size) / 2
    sizes = (config.grow_from, round(middle / GROWING_STEP) * GROWING_STEP, config.image_size)
    return min(max(sizes[third], config.grow_from), config.image_size)


def feed(
    config: TrainConfig, learned: Learned, store: ImageStore, spec: NetworkInput, epoch: int, first_step: int,
    features: Tensor | None, device: torch.device,
) -> Iterator[Batch]:  # fmt: skip
    """The batches of an epoch, on the device."""
    batches = batches_of_epoch(config, learned, store, epoch)
    if features is not None:
        for index in batches:
            rows = torch.from_numpy(index)
            yield Batch(inputs=features[rows.to(device)], targets=learned.targets[rows].to(device), index=index)
        return
    recipe, size = get_recipe(config.views), size_in_epoch(config, epoch)
    seen = NetworkInput(size, spec.mean, spec.std)
    for number, index in enumerate(batches):
        targets = learned.targets[torch.from_numpy(index)].to(device)
        step = first_step + number
        table = draw(recipe, len(index), store.image_shape[0], size, step_generator(config.seed, step))
        images = random_views(store.take(index), table, seen, device)
        generator = step_generator(config.seed + MIXING, step)
        images, targets = mix(images, targets, config.mixup, config.cutmix, generator)
        yield Batch(inputs=images, targets=targets, index=index)
