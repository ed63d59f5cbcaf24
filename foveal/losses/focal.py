"""Focal loss (Lin et al. 2017, eq. 4): images that are already classified correctly cost almost nothing.

cost = - sum_k t_k (1 - p_k)^gamma log p_k
"""

from __future__ import annotations

from torch import Tensor

from foveal.losses.precision import at_least_float32
from foveal.losses.targets import smoothed, weighted_mean

GAMMA = 2.0  # the paper's


def focal(logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The loss of logits [B, K], a scalar."""
    logs = at_least_float32(logits).log_softmax(1)
    wanted = smoothed(targets, label_smoothing)
    return weighted_mean(-(wanted * (1 - logs.exp()).pow(GAMMA) * logs).sum(1), targets, weights)
