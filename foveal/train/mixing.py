"""Mixed images: blend pairs of images (mixup), or paste a rectangle of one into the other (CutMix).

mixup: Zhang et al. 2018 (https://arxiv.org/abs/1710.09412); CutMix: Yun et al. 2019 (https://arxiv.org/abs/1905.04899).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mix(
    images: Tensor, targets: Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each image [B, C, s, s] and target [B, K] with another one of the batch.

    mixup, cutmix: parameters of the Beta distributions, 0 = off. If both are on, each batch uses one at random.
    """
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
