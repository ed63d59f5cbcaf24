"""The distance of a prediction from its target on the unit sphere (BYOL, Grill et al. 2020, equation 2).

    loss = mean over images of  || q / |q| - z / |z| ||^2 = 2 - 2 cos(q, z)

SimSiam's -cos (Chen & He 2021, equation 1) is half of this minus 1. Without negatives, a loss of 0 can mean perfect
predictions or a collapse.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.losses.precision import unit


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """The loss of predictions [n, D] and targets [n, D], a scalar from 0 to 4; the target gets no gradient."""
    with torch.autocast(prediction.device.type, enabled=False):
        return 2 - 2 * (unit(prediction) * unit(target.detach())).sum(1).mean()
