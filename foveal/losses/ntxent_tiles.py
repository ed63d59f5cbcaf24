"""NT-Xent without the full matrix of logits: exact values and gradients from tiles.

Legend: A own unit vectors (anchors), M of all processes, D dimensions. The log-sum-exp of a row is accumulated over
tiles, which the backward pass recomputes, as in Inf-CL (Cheng et al. 2024, arXiv 2410.17243). rows, partner: int64 [A],
the indices among all vectors of the anchors and of their positives. groups: int64 [M].
"""

import math
from typing import Any

import torch
from torch import Tensor

WHOLE = slice(None)


def tile_of_logits(
    temperature: float, above: slice, left: slice,
    own: Tensor, everyone: Tensor, rows: Tensor, partner: Tensor, groups: Tensor | None,
) -> Tensor:  # fmt: skip
    """The tile `above`, `left` of the logits a.b / t of anchors and vectors, [A, D], [M, D] -> [A, M].

    -inf for an anchor itself and, where `groups` are given, for all of its group but its own positive.
    """
    logits = (own[above] / temperature) @ everyone[left].T
    columns = torch.arange(len(everyone), device=own.device)[left]
    excluded = rows[above, None] == columns
    if groups is not None:
        excluded |= (groups[rows[above], None] == groups[left]) & (partner[above, None] != columns)
    return logits.masked_fill_(excluded, -math.inf)


def logsumexp_of_others(
    own: Tensor, everyone: Tensor, rows: Tensor, partner: Tensor, groups: Tensor | None, temperature: float, tile: int
) -> Tensor:
    """The log-sum-exp of each row of logits, [A, D], [M, D] -> [A], in tiles of `tile` rows and columns."""
    sums: Tensor = _LogSumExp.apply(own, everyone, rows, partner, groups, temperature, tile)
    return sums


def group_mean(own: Tensor, everyone: Tensor, group: Tensor, groups: Tensor, tile: int) -> Tensor:
    """The mean of the other vectors in an anchor's group: [A, D], [M, D], int64 [A], int64 [M] -> [A, D]."""
    ones = torch.ones(len(everyone), 1, dtype=own.dtype, device=own.device)
    sums: Tensor = _GroupSum.apply(torch.cat([everyone, ones], 1), group, groups, tile)
    return (sums[:, :-1] - own) / (sums[:, -1:] - 1)


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        *tensors, ctx.temperature, ctx.tile = given
        own, everyone = tensors[:2]
        sums: Tensor = own.new_full((len(own),), -math.inf)
        for above, left in _tiles(len(own), len(everyone), ctx.tile):
            logits = tile_of_logits(ctx.temperature, above, left, *tensors)
            sums[above] = torch.logaddexp(sums[above], logits.logsumexp(1))
        ctx.save_for_backward(*tensors, sums)
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, sums = ctx.saved_tensors
        own, everyone = tensors[:2]
        scale = gradient / ctx.temperature
        to_own, to_everyone = torch.zeros_like(own), torch.zeros_like(everyone)
        for above, left in _tiles(len(own), len(everyone), ctx.tile):
            logits = tile_of_logits(ctx.temperature, above, left, *tensors)
            shares = logits.sub_(sums[above, None]).exp_().mul_(scale[above, None])
            to_own[above].addmm_(shares, everyone[left])
            to_everyone[left].addmm_(shares.T, own[above])
        return to_own, to_everyone, None, None, None, None, None


class _GroupSum(torch.autograd.Function):
    """Sums of vectors over groups, [M, D] -> [A, D], without the full matrix of group membership."""

    @staticmethod
    def forward(ctx: Any, everyone: Tensor, group: Tensor, groups: Tensor, tile: int) -> Tensor:
        ctx.save_for_backward(group, groups)
        ctx.tile = tile
        sums = everyone.new_zeros(len(group), everyone.shape[1])
        for above, left in _tiles(len(group), len(groups), tile):
            sums[above].addmm_((group[above, None] == groups[left]).to(sums.dtype), everyone[left])
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        group, groups = ctx.saved_tensors
        total = gradient.new_zeros(len(groups), gradient.shape[1])
        for above, left in _tiles(len(group), len(groups), ctx.tile):
            total[left].addmm_((groups[left, None] == group[above]).to(total.dtype), gradient[above])
        return total, None, None, None


def _tiles(height: int, width: int, tile: int) -> list[tuple[slice, slice]]:
    return [(slice(i, i + tile), slice(j, j + tile)) for i in range(0, height, tile) for j in range(0, width, tile)]
