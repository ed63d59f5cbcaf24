"""The decoupled contrastive loss (Yeh et al. 2022, https://arxiv.org/abs/2110.06848, equation 6): for small batches.

    loss = mean over all 2N anchors a of  -a.p / t + log sum over b other than a and p of exp(a.b / t)

NT-Xent without the positive in the denominator, so an easy positive does not weaken the gradient of the negatives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from foveal.distributed import gather
from foveal.errors import FovealError
from foveal.losses.ntxent import check_temperature, places
from foveal.losses.precision import unit


def decoupled(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """The loss of two views, [n, D] each: a scalar, which may be negative. Several processes: see `ntxent`.

    FovealError if the temperature is not positive, or for a single image, which has no negatives.
    """
    check_temperature(temperature)
    with torch.autocast(z1.device.type, enabled=False):
        own = torch.cat([unit(z1), unit(z2)])
        everyone = gather(own)
        if len(everyone) < 4:
            raise FovealError(
                "option.value", "with --batch-size 1 the decoupled loss has no negatives", expected="2 or more"
            )
        rows, partner = places(len(z1), len(everyone), own.device)
        columns = torch.arange(len(everyone), device=own.device)
        logits = (own / temperature) @ everyone.T
        positive = logits.gather(1, partner[:, None])[:, 0]
        either = (rows[:, None] == columns) | (partner[:, None] == columns)
        return (logits.masked_fill(either, -math.inf).logsumexp(1) - positive).mean()


def decoupled_floor(pairs: int, temperature: float) -> float:
    """The lowest value for N >= 2 pairs of unit vectors: log(2N - 2) - (1 + 1 / (N - 1)) / t, that of a simplex."""
    return math.log(2 * pairs - 2) - (1 + 1 / (pairs - 1)) / temperature


def decoupled_chance(pairs: int) -> float:
    """log(2N - 2): the value if all vectors are equal."""
    return math.log(2 * pairs - 2)
