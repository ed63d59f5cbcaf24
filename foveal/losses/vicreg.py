"""VICReg (Bardes, Ponce & LeCun 2022, https://arxiv.org/abs/2105.04906, equations 1-6), scaled as in its authors' code.

    invariance = mean over images and dimensions of (z1 - z2)^2
    variance   = mean over dimensions of max(0, 1 - std), of both views, halved
    covariance = sum over i != j of cov[i, j]^2 / D, of both views

The paper's equation 5 sums the invariance over dimensions, but the published weights 25, 25, 1 are for the mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.distributed import gather
from foveal.losses.precision import at_least_float32


def vicreg(
    z1: Tensor, z2: Tensor, invariance_weight: float, variance_weight: float, covariance_weight: float
) -> Tensor:
    """The loss of two views, [n, D] each: a scalar. Statistics need 2 images or more, over all processes."""
    with torch.autocast(z1.device.type, enabled=False):
        first, second = gather(at_least_float32(z1)), gather(at_least_float32(z2))
        loss = invariance_weight * (first - second).square().mean()
        for z in (first, second):
            loss = loss + variance_weight * variance(z) / 2 + covariance_weight * covariance(z)
        return loss


def variance(z: Tensor) -> Tensor:
    """How far the standard deviations of [N, D] are below 1, averaged over dimensions: 0-1 (equation 1)."""
    return torch.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean()


def covariance(z: Tensor) -> Tensor:
    """Squared covariances of different dimensions of [N, D], summed and divided by D (equations 3 and 4)."""
    centred = z - z.mean(0)
    matrix = centred.T @ centred / (len(z) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]
