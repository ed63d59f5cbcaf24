"""Running averages of a network's weights, used as its teacher (BYOL, MoCo, DINO) or for grading (--ema)."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def target_of(source: Module) -> Module:
    """A copy of a network with the same weights, without gradients."""
    return copy.deepcopy(source).requires_grad_(False)


@torch.no_grad()
def update_average(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Update parameters in place to momentum * target + (1 - momentum) * source; copy buffers."""
    mine: list[Tensor] = list(target.parameters())
    other: list[Tensor] = list(source.parameters())
    if mine:
        torch._foreach_lerp_(mine, other, 1 - momentum)
    for to, value in zip(target.buffers(), source.buffers(), strict=True):
        to.copy_(value)


def rising_momentum(start: float, progress: float) -> float:
    """Momentum along a cosine, from `start` at progress 0 to 1 at progress 1 (Grill et al. 2020, section 3.2)."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
