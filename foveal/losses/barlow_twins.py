"""Barlow Twins (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230, equations 1 and 2).

C[i, j] = correlation over the batch of dimension i of view 1 with dimension j of view 2
loss = sum over i of (1 - C[i, i])^2  +  redundancy * sum over i != j of C[i, j]^2
"""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.distributed import gather
from foveal.losses.precision import at_least_float32


def barlow_twins(z1: Tensor, z2: Tensor, redundancy: float) -> Tensor:
    """The loss of two views, [n, D] each: a scalar. Correlations are over the batches of all processes."""
    with torch.autocast(z1.device.type, enabled=False):
        first, second = (standardise(gather(at_least_float32(z))) for z in (z1, z2))
        correlation = first.T @ second / len(first)  # [D, D]
        diagonal = correlation.diagonal()
        others = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + redundancy * others


def standardise(z: Tensor) -> Tensor:
    """Each dimension of [N, D] with mean 0 and standard deviation 1, as batch normalisation does (epsilon 1e-5)."""
    centred = z - z.mean(0)
    return centred * torch.rsqrt(centred.square().mean(0) + 1e-5)
