"""NT-Xent, the contrastive loss of SimCLR (Chen et al. 2020, equation 1).

Legend: N pairs, D dimensions. z1[i] and z2[i] are two views of image i; all 2N - 2 other vectors are its negatives.

    loss = mean over all 2N anchors a of  -log( exp(a.p / t) / sum over b != a of exp(a.b / t) ),   unit vectors

Vectors are normalised here, and logits are float32 even under autocast. The value never falls below `ntxent_floor`, and
is log(2N - 1) if all vectors are equal: a loss of 0.0000 at a temperature of 0.5 is a bug, not a success.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.distributed import gather
from foveal.errors import FovealError
from foveal.losses.ntxent_chunked import excluded, group_mean, logsumexp_of_others
from foveal.losses.precision import unit

SameGroup = Literal["ignore", "mask", "positive"]


def ntxent(
    z1: Tensor, z2: Tensor, temperature: float, identity: Tensor | None = None, same_group: SameGroup = "ignore",
    chunk: int = 0,
) -> Tensor:  # fmt: skip
    """The loss of two views, [n, D] each: a scalar in float32 (float64 for float64 vectors).

    identity: int64 [n], equal for images of the same group (a patient or a class). same_group: images of the group are
    ordinary negatives (ignore), are left out of the denominator (mask), or are further positives with equal weight
    (positive: L_out of Khosla et al. 2020, equation 2). chunk: above 0, at most chunk x chunk logits are in memory at a
    time, with the same result. Under torch.distributed, negatives come from all processes; the mean loss and gradient
    over processes are those of the whole batch. FovealError if the temperature is not positive, or if identities are
    needed but missing.
    """
    check_temperature(temperature)
    if same_group not in get_args(SameGroup):
        raise FovealError("option.value", f"--same-group is {same_group}", expected=" or ".join(get_args(SameGroup)))
    if same_group != "ignore" and identity is None:
        raise FovealError("option.conflict", f"--same-group {same_group} needs the identity of each image")
    with torch.autocast(z1.device.type, enabled=False):
        own = torch.cat([unit(z1), unit(z2)])  # [2n, D]
        everyone = gather(own)  # [world * 2n, D], rank after rank
        rows, partner = places(len(z1), len(everyone), own.device)
        group = None if same_group == "ignore" or identity is None else identity.repeat(2)
        groups = None if group is None else gather(group)
        masked = None if same_group != "mask" else groups
        if chunk:
            denominator = logsumexp_of_others(own, everyone, rows, partner, masked, temperature, chunk)
            if same_group == "positive":
                assert group is not None and groups is not None
                attraction = (own * group_mean(own, everyone, group, groups, chunk)).sum(1)
            else:
                attraction = (own * own.roll(len(z1), 0)).sum(1)
            return (denominator - attraction / temperature).mean()
        columns = torch.arange(len(everyone), device=own.device)
        logits = (own / temperature) @ everyone.T  # [2n, world * 2n]
        same = None if masked is None else masked[rows, None] == masked
        logits = logits.masked_fill_(excluded(rows, columns, partner, same), -math.inf)
        if same_group != "positive":
            return F.cross_entropy(logits, partner)
        assert group is not None and groups is not None
        positives = (group[:, None] == groups) & (rows[:, None] != columns)
        shares = logits.log_softmax(1).masked_fill(~positives, 0).sum(1) / positives.sum(1)
        return -shares.mean()


def check_temperature(temperature: float) -> None:
    """FovealError unless the temperature is positive."""
    if not temperature > 0:
        raise FovealError("option.value", f"--temperature is {temperature}", expected="a number above 0")


def places(n: int, total: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of this process's 2n vectors, and of their positives, among the `total` vectors: int64 [2n] each."""
    start, anchor = first_place(2 * n, total), torch.arange(2 * n, device=device)
    return anchor + start, (anchor + n) % (2 * n) + start


def first_place(own: int, total: int) -> int:
    """Index of this process's first vector among those of all processes, in order of rank."""
    return torch.distributed.get_rank() * own if total != own else 0


def ntxent_floor(pairs: int, temperature: float) -> float:
    """The lowest value for N pairs of unit vectors: positives equal, images evenly spread (a simplex).

    log(1 + (2N - 2) exp((-1 / (N - 1) - 1) / t)); for a single pair, which has no negatives, 0.
    """
    if pairs < 2:
        return 0.0
    return math.log1p((2 * pairs - 2) * math.exp((-1 / (pairs - 1) - 1) / temperature))


def masked_bounds(identity: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(a lower bound, the loss of equal vectors) for same_group `mask`, scalars. identity: int64 [n] of a batch.

    An anchor has s = 2 (N - images of its group) negatives. The bound is log(1 + s exp(-2 / t)), which may not be
    reachable; equal vectors give log(1 + s). Several processes: see `ntxent`.
    """
    strangers, _ = _strangers_and_all(identity)
    return torch.log1p(strangers * math.exp(-2 / temperature)).mean(), torch.log1p(strangers).mean()


def drawn_bounds(identity: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(a lower bound, the loss of equal vectors) for same_group `positive` and SupCon, scalars; as `masked_bounds`.

    The loss of an anchor is the mean over its p positives (its group and its own other view). The best case is that
    all positives equal the anchor and its s negatives are opposite (Jensen): log(p + s exp(-2 / t)), which is reachable
    only with two groups. Equal vectors give log(2N - 1).
    """
    strangers, others = _strangers_and_all(identity)
    lowest = torch.log(others - strangers + strangers * math.exp(-2 / temperature))
    return lowest.mean(), torch.full_like(lowest, others).log().mean()


def _strangers_and_all(identity: Tensor) -> tuple[Tensor, int]:
    """Number of vectors of other groups for each image [n], and number of all other vectors, over all processes."""
    groups = gather(identity).sort().values
    own = torch.searchsorted(groups, identity, right=True) - torch.searchsorted(groups, identity)
    return 2 * (len(groups) - own).float(), 2 * len(groups) - 1


def ntxent_chance(pairs: int) -> float:
    """log(2N - 1): the value if all vectors are equal, or nothing has been learned."""
    return math.log(2 * pairs - 1)
