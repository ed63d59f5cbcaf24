"""Losses of two views without negatives. Legend: n images of this process, N of all, D dimensions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.distributed import gather
from foveal.losses.precision import at_least_float32, unit


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """BYOL's loss of predictions [n, D] and targets [n, D], a scalar from 0 to 4; the target gets no gradient.

    The mean of ``|| q / |q| - z / |z| ||^2 = 2 - 2 cos(q, z)`` (Grill et al. 2020, equation 2); SimSiam's ``-cos``
    (Chen & He 2021, equation 1) is half of this minus 1.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        return 2 - 2 * (unit(prediction) * unit(target.detach(), prediction.shape)).sum(1).mean()


def barlow_twins(z1: Tensor, z2: Tensor, redundancy: float) -> Tensor:
    """Barlow Twins (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230, eqs. 1 and 2) of views [n, D], a scalar.

    ``sum over i of (1 - C[i, i])^2  +  redundancy * sum over i != j of C[i, j]^2``, where C[i, j] is the correlation of
    dimension i of view 1 with dimension j of view 2, over the batches of all processes.
    """
    with torch.autocast(z1.device.type, enabled=False):
        a, b = (F.batch_norm(gather(at_least_float32(z, z1.shape)), None, None, training=True) for z in (z1, z2))
        correlation = a.T @ b / len(a)  # [D, D]
        diagonal = correlation.diagonal()
        return (1 - diagonal).square().sum() + redundancy * (correlation.square().sum() - diagonal.square().sum())


def vicreg(
    z1: Tensor, z2: Tensor, invariance_weight: float, variance_weight: float, covariance_weight: float
) -> Tensor:
    """VICReg of two views [n, D], a scalar (Bardes, Ponce & LeCun 2022, https://arxiv.org/abs/2105.04906).

    The weighted sum of the mean squared difference of the views, and of `variance` (halved) and `covariance` of both.
    As in its authors' code, the difference is a mean, to which the published weights 25, 25, 1 belong.
    """
    with torch.autocast(z1.device.type, enabled=False):
        first, second = gather(at_least_float32(z1)), gather(at_least_float32(z2, z1.shape))
        loss = invariance_weight * (first - second).square().mean()
        for z in (first, second):
            loss = loss + variance_weight * variance(z) / 2 + covariance_weight * covariance(z)
        return loss


def variance(z: Tensor) -> Tensor:
    """How far the standard deviations of [N, D] are below 1, averaged over dimensions: 0-1 (equation 1)."""
    return torch.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean()


def covariance(z: Tensor) -> Tensor:
    """Squared covariances of different dimensions of [N, D], summed and divided by D (equations 3 and 4)."""
    matrix = z.T.cov()
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]
