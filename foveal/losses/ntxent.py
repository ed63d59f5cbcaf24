"""Contrastive losses: NT-Xent of SimCLR (Chen et al. 2020, equation 1), SupCon, and InfoNCE.

Legend: N pairs, D dimensions. z1[i] and z2[i] are two views of image i; all 2N - 2 other vectors are its negatives.

    loss = mean over all 2N anchors a of  -log( exp(a.p / t) / sum over b != a of exp(a.b / t) ),   unit vectors

Vectors are normalised here, and logits are float32 even under autocast.
"""

import math
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from foveal.distributed import gather
from foveal.errors import FovealError
from foveal.losses.precision import check_positive, unit

SameGroup = Literal["ignore", "mask", "positive"]
TILE = 8192  # vectors: more logits than the square of this are computed in parts


def ntxent(z1: Tensor, z2: Tensor, temperature: float, identity: Tensor | None = None,
           same_group: SameGroup = "ignore", tile: int = TILE) -> Tensor:  # fmt: skip
    """The loss of two views, [n, D] each: a scalar in float32 (float64 for float64 vectors).

    identity: int64 [n], equal for images of the same group (a patient or a class). same_group: images of the group are
    ordinary negatives (ignore), are left out of the denominator (mask), or are further positives with equal weight
    (positive: SupCon, ``L_out`` of Khosla et al. 2020, https://arxiv.org/abs/2004.11362, equation 2, without its factor
    temperature / base_temperature). tile: at most tile x tile logits are in memory at a time; the backward pass
    computes them again, as in Inf-CL (Cheng et al. 2024, arXiv 2410.17243). Under torch.distributed, the mean loss and
    gradient over processes are those of the whole batch. FovealError for other shapes, if temperature or tile are not
    positive, or if identities are needed but missing.
    """
    check_positive(temperature=temperature, tile=tile)
    if same_group not in get_args(SameGroup):
        raise FovealError("option.value", f"same_group is {same_group}", expected=" or ".join(get_args(SameGroup)))
    if same_group != "ignore" and (identity is None or identity.shape != z1.shape[:1]):
        raise FovealError("option.conflict", f"same_group {same_group} needs the identity of each image, [n]")
    with torch.autocast(z1.device.type, enabled=False):
        own = torch.cat([unit(z1), unit(z2, z1.shape)])  # [2n, D]
        everyone = gather(own)  # [world * 2n, D], rank after rank
        places = torch.arange(len(own), device=own.device) + _first_place(len(own), len(everyone))
        partners = places.roll(len(z1))
        group = places if identity is None or same_group == "ignore" else identity.repeat(2)
        others = (everyone, group if group is places else gather(group), temperature, same_group)
        rows = max(1, tile**2 // len(everyone))
        if len(own) <= rows:
            return _costs(own, places, partners, group, *others).mean()
        parts = zip(*(each.split(rows) for each in (own, places, partners, group)), strict=True)
        again = partial(checkpoint, _costs, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([again(*part, *others) for part in parts]).mean()


def _costs(own: Tensor, places: Tensor, partners: Tensor, group: Tensor,
           everyone: Tensor, groups: Tensor, temperature: float, same_group: SameGroup) -> Tensor:  # fmt: skip
    """The cost [A] of each anchor of `own` [A, D], given its index among `everyone` [M, D], and that of its partner."""
    logits = (own / temperature) @ everyone.T
    columns = torch.arange(len(everyone), device=own.device)
    excluded = places[:, None] == columns
    if same_group == "mask":
        excluded |= (group[:, None] == groups) & (partners[:, None] != columns)
    if same_group != "positive":
        return F.cross_entropy(logits.masked_fill_(excluded, -math.inf), partners, reduction="none")
    positives = (group[:, None] == groups) & ~excluded
    attraction = logits.masked_fill(~positives, 0).sum(1) / positives.sum(1)
    return logits.masked_fill(excluded, -math.inf).logsumexp(1) - attraction


def infonce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE of queries and keys [n, D], a scalar, as in MoCo v3 (Chen, Xie & He 2021, equation 1).

    The mean over all N queries i of ``-log( exp(q_i.k_i / t) / sum over j of exp(q_i.k_j / t) )``, of unit vectors.
    Keys are collected from all processes and get no gradient. FovealError as for `ntxent`.
    """
    check_positive(temperature=temperature)
    with torch.autocast(queries.device.type, enabled=False):
        own = unit(keys.detach(), queries.shape)
        everyone = gather(own)
        place = torch.arange(len(own), device=own.device) + _first_place(len(own), len(everyone))
        return F.cross_entropy((unit(queries) / temperature) @ everyone.T, place)


def _first_place(own: int, total: int) -> int:
    """Index of this process's first vector among those of all processes, in order of rank."""
    return torch.distributed.get_rank() * own if total != own else 0


def contrast_bounds(pairs: int, temperature: float, views: int = 2) -> tuple[float, float]:
    """The lowest loss of N pairs, and that of equal vectors: of NT-Xent, and with one view, of InfoNCE.

    The lowest is that of equal positives and evenly spread images (a simplex): log(1 + s exp((-1 / (N - 1) - 1) / t))
    with s = 2N - 2 or N - 1 negatives, and 0 for a single pair.
    """
    negatives = views * (pairs - 1)
    floor = negatives * math.exp((-1 / (pairs - 1) - 1) / temperature) if negatives else 0.0
    return math.log1p(floor), math.log1p(negatives)


def group_bounds(identity: Tensor, temperature: float, same_group: SameGroup) -> tuple[Tensor, Tensor]:
    """(a lower bound, the loss of equal vectors) for same_group `mask` or `positive`, scalars.

    identity: int64 [n] of a batch. An anchor has s = 2 (N - images of its group) negatives. With `mask`, the bound is
    log(1 + s exp(-2 / t)), and equal vectors give log(1 + s). With `positive`, at best all p positives equal the anchor
    and its negatives are opposite (Jensen): log(p + s exp(-2 / t)); equal vectors give log(2N - 1).
    """
    groups = gather(identity).sort().values
    own = torch.searchsorted(groups, identity, right=True) - torch.searchsorted(groups, identity)
    strangers = 2 * (len(groups) - own).float()
    further = 2 * len(groups) - 2 - strangers if same_group == "positive" else torch.zeros_like(strangers)
    return torch.log1p(further + strangers * math.exp(-2 / temperature)).mean(), torch.log1p(further + strangers).mean()
