"""InfoNCE between queries and keys, as in MoCo v3 (Chen, Xie & He 2021, https://arxiv.org/abs/2104.02057, equation 1).

    loss = mean over all N queries i of  -log( exp(q_i.k_i / t) / sum over j of exp(q_i.k_j / t) ),   unit vectors

The negatives of a query are the keys of the N - 1 other images, from one view only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.distributed import gather
from foveal.losses.ntxent import check_temperature, first_place
from foveal.losses.precision import unit


def infonce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """The loss of queries and keys [n, D], a scalar. Keys are collected from all processes and get no gradient."""
    check_temperature(temperature)
    with torch.autocast(queries.device.type, enabled=False):
        own = unit(keys.detach())
        everyone = gather(own)
        place = torch.arange(len(own), device=own.device) + first_place(len(own), len(everyone))
        return F.cross_entropy((unit(queries) / temperature) @ everyone.T, place)


def infonce_floor(pairs: int, temperature: float) -> float:
    """The lowest value for N pairs of unit vectors, that of a simplex: log(1 + (N - 1) exp((-1 / (N - 1) - 1) / t))."""
    if pairs < 2:
        return 0.0
    return math.log1p((pairs - 1) * math.exp((-1 / (pairs - 1) - 1) / temperature))


def infonce_chance(pairs: int) -> float:
    """log N: the value if all keys are equal."""
    return math.log(pairs)
