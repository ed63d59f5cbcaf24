"""Numerical precision of losses: at least float32, even if the network computes in bf16."""

import torch.nn.functional as F
from torch import Tensor, float64


def at_least_float32(z: Tensor) -> Tensor:
    """The values in float32; float64 is kept."""
    return z if z.dtype == float64 else z.float()


def unit(z: Tensor) -> Tensor:
    """Normalise rows [n, D] to length 1, at least in float32; a row of zeros stays zero."""
    return F.normalize(at_least_float32(z), dim=1)
