"""The arithmetic of losses: float32 whatever the network computed in, float64 where it is given."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, float64


def at_least_float32(z: Tensor) -> Tensor:
    """The same numbers in float32, or in float64 when they are float64 already."""
    return z if z.dtype == float64 else z.float()


def unit(z: Tensor) -> Tensor:
    """Rows of length 1, [n, D] -> [n, D], in float32 at least; a row of zeros stays zero."""
    return F.normalize(at_least_float32(z), dim=1)
