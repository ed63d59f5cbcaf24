"""The batches of an epoch: which images, how balanced, their random views, and their targets, mixed or not.

Everything depends only on (seed, epoch, step), so a resumed run gives the same result as an uninterrupted one.
mixup: Zhang et al. 2018 (https://arxiv.org/abs/1710.09412); CutMix: Yun et al. 2019 (https://arxiv.org/abs/1905.04899).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foveal.augment.given import draw_views
from foveal.augment.recipes import get_recipe
from foveal.augment.views import NetworkInput, random_views
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
    """Index arrays of an epoch. A batch of one image is skipped, because batch normalisation needs two."""
    size, share = config.batch_size, sampling_share(config, epoch)
    if share == 0:
        batches = epoch_batches(len(store), size, config.seed, epoch, drop_last=False, windows=store.windows)
    else:
        order = drawn_images(learned.labels, share, np.random.default_rng([config.seed, epoch]))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batch for batch in batches if len(batch) > 1]


def sampling_share(config: TrainConfig, epoch: int) -> float:
    """How balanced the sampling of an epoch is: 0 natural, 1 every class equally often."""
    if config.sampling == "progressive":
        return epoch / max(1, config.epochs - 1)
    return float(config.sampling == "balanced")


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
        images, targets = mix(images, targets, config.mixup, config.cutmix, mixing)
        yield Batch(inputs=images, targets=targets, index=index)


def mix(
    images: Tensor, targets: Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each image [B, C, s, s] and target [B, K] with another one; if both are on, each batch uses one at random."""
    if not mixup and not cutmix:
        return images, targets
    order = torch.randperm(len(images), generator=generator).to(images.device)
    pasting = bool(cutmix) and (not mixup or float(torch.rand((), generator=generator)) < 0.5)
    share = _beta(cutmix if pasting else mixup, generator)
    if pasting:
        top, left, bottom, right = _rectangle(images.shape[2], images.shape[3], 1 - share, generator)
        mixed = images.clone(memory_format=torch.preserve_format)
        mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    else:
        mixed = images * share + images[order] * (1 - share)
    return mixed, targets * share + targets[order] * (1 - share)


def _beta(parameter: float, generator: torch.Generator) -> float:
    """A draw of Beta(a, a) from two of Gamma(a, 1)."""
    first, second = torch._standard_gamma(torch.tensor([parameter, parameter]), generator=generator).double().tolist()
    return first / (first + second) if first + second > 0 else 0.5


def _rectangle(height: int, width: int, area: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """top, left, bottom, right of a rectangle of that share of the area at a random place, clipped to the image."""
    tall, wide = (round(side * math.sqrt(area) / 2) for side in (height, width))
    y, x = (int(torch.randint(side, (), generator=generator)) for side in (height, width))
    return max(0, y - tall), max(0, x - wide), min(height, y + tall), min(width, x + wide)


def drawn_images(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """int [n]: the images of an epoch in order. share 0: each image once; share 1: every class equally often.

    In between, the probability of a class is interpolated (Kang et al. 2020, section 4.1).
    """
    if share == 0:
        return generator.permutation(len(labels))
    counts = np.bincount(labels)
    present = counts > 0
    chance = (1 - share) * counts / counts.sum() + share * present / present.sum()
    return generator.choice(len(labels), len(labels), p=(chance / np.maximum(counts, 1))[labels])
