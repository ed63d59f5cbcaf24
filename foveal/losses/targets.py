"""Targets of graded images as distributions over the classes, and weighted means of costs.

Legend: B images, K classes. targets: float [B, K], rows sum to 1; one-hot for a known grade, a mixture after mixup or
for a soft pseudo-label. weights: [K], one per class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """int64 [B] -> float32 [B, K]."""
    return F.one_hot(labels, classes).float()


def importance(targets: Tensor, weights: Tensor) -> Tensor:
    """The weight of each image, [B]: the weight of its class, or the weighted mean for a mixture."""
    return targets @ weights


def weighted_mean(costs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean of costs [B], weighted by the importance of each image; a scalar."""
    importances = importance(targets, weights)
    return (importances * costs).sum() / importances.sum()


def smoothed(targets: Tensor, share: float) -> Tensor:
    """Targets with `share` (0-1) of them spread evenly over all classes (Szegedy et al. 2016, section 7)."""
    return targets * (1 - share) + share / targets.shape[1] if share else targets


def exceeds(targets: Tensor) -> Tensor:
    """[B, K] -> [B, K - 1]: the probability that the grade is above 0, 1, … K - 2."""
    return targets.flip(1).cumsum(1).flip(1)[:, 1:]


def mean_grade(targets: Tensor) -> Tensor:
    """sum_k k t_k, [B, K] -> [B]."""
    return targets @ torch.arange(targets.shape[1], device=targets.device, dtype=targets.dtype)
