"""NT-Xent, the contrastive loss of SimCLR (Chen et al. 2020, equation 1).

Legend: N pairs, D dimensions. z1[i] and z2[i] are two views of image i; all 2N - 2 other vectors are its negatives.

    loss = mean over all 2N anchors a of  -log( exp(a.p / t) / sum over b != a of exp(a.b / t) ),   unit vectors

Vectors are normalised here and logits are float32 even under autocast. For unit vectors the value lies between
`ntxent_floor` and log(2N - 1): a loss of 0.0000 at a temperature of 0.5 is a fault, not a success.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.distributed import gather


def ntxent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """The loss of two views [n, D] each, a scalar in float32.

    Under torch.distributed the negatives are those of all processes; the mean over processes is the loss of the
    whole batch, and averaged gradients are its gradients. Raises ValueError for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"--temperature must be positive, got {temperature}")
    with torch.autocast(z1.device.type, enabled=False):
        own = torch.cat([F.normalize(z1.float(), dim=1), F.normalize(z2.float(), dim=1)])  # [2n, D]
        everyone = gather(own)  # [world * 2n, D], rank after rank
        logits = own @ everyone.T / temperature  # [2n, world * 2n]
        n, rank = len(z1), _rank_of(len(everyone), len(own))
        anchor = torch.arange(2 * n, device=own.device)
        start = rank * 2 * n
        itself = F.one_hot(anchor + start, logits.shape[1]).bool()  # no boolean indexing: no wait for the device
        logits = logits.masked_fill(itself, -math.inf)
        positive = start + (anchor + n) % (2 * n)
        return F.cross_entropy(logits, positive)


def _rank_of(total: int, own: int) -> int:
    return torch.distributed.get_rank() if total != own else 0


def ntxent_floor(pairs: int, temperature: float) -> float:
    """The lowest value for N pairs of unit vectors: positives equal, all others spread evenly (a simplex).

    log(1 + (2N - 2) exp((-1 / (N - 1) - 1) / t)); a single pair has no negatives and the loss 0.
    """
    if pairs < 2:
        return 0.0
    return math.log1p((2 * pairs - 2) * math.exp((-1 / (pairs - 1) - 1) / temperature))


def ntxent_chance(pairs: int) -> float:
    """log(2N - 1): the value when every vector is the same, or nothing has been learned."""
    return math.log(2 * pairs - 1)
