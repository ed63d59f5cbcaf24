"""NT-Xent without the full matrix of logits: exact values and gradients from tiles of chunk x chunk logits.

Legend: A own unit vectors (anchors), M of all processes, D dimensions. The log-sum-exp of a row is accumulated over
tiles, which the backward pass recomputes, as in Inf-CL (Cheng et al. 2024, arXiv 2410.17243).
"""

import math
from typing import Any

import torch
from torch import Tensor


def excluded(rows: Tensor, columns: Tensor, partner: Tensor, same: Tensor | None) -> Tensor:
    """bool [A, M]: vectors outside an anchor's denominator: itself, and its group (`same`) but for its own positive.

    rows, partner: int64 [A], and columns: int64 [M], are indices among all vectors.
    """
    itself = rows[:, None] == columns
    return itself if same is None else itself | (same & (partner[:, None] != columns))


def logsumexp_of_others(
    own: Tensor, everyone: Tensor, rows: Tensor, partner: Tensor, groups: Tensor | None, temperature: float, chunk: int
) -> Tensor:
    """log of the sum of exp(a.b / t) over all b that are not `excluded`: [A, D], [M, D] -> [A]; groups: int64 [M]."""
    sums: Tensor = _LogSumExp.apply(own, everyone, rows, partner, groups, temperature, chunk)
    return sums


def group_mean(own: Tensor, everyone: Tensor, group: Tensor, groups: Tensor, chunk: int) -> Tensor:
    """The mean of the other vectors in an anchor's group: [A, D], [M, D], int64 [A], int64 [M] -> [A, D]."""
    ones = torch.ones(len(everyone), 1, dtype=own.dtype, device=own.device)
    sums: Tensor = _GroupSum.apply(torch.cat([everyone, ones], 1), group, groups, chunk)
    return (sums[:, :-1] - own) / (sums[:, -1:] - 1)


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, own: Tensor, everyone: Tensor, rows: Tensor, partner: Tensor, groups: Tensor | None,
        temperature: float, chunk: int,
    ) -> Tensor:  # fmt: skip
        sums = own.new_full((len(own),), -math.inf)
        for above, left in _tiles(len(own), len(everyone), chunk):
            logits = _tile(own, everyone, rows, partner, groups, temperature, above, left)
            sums[above] = torch.logaddexp(sums[above], logits.logsumexp(1))
        ctx.save_for_backward(own, everyone, rows, partner, groups, sums)
        ctx.temperature, ctx.chunk = temperature, chunk
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        own, everyone, rows, partner, groups, sums = ctx.saved_tensors
        scale = gradient / ctx.temperature
        to_own, to_everyone = torch.zeros_like(own), torch.zeros_like(everyone)
        for above, left in _tiles(len(own), len(everyone), ctx.chunk):
            logits = _tile(own, everyone, rows, partner, groups, ctx.temperature, above, left)
            shares = logits.sub_(sums[above, None]).exp_().mul_(scale[above, None])
            to_own[above].addmm_(shares, everyone[left])
            to_everyone[left].addmm_(shares.T, own[above])
        return to_own, to_everyone, None, None, None, None, None


class _GroupSum(torch.autograd.Function):
    """Sums of vectors over groups, [M, D] -> [A, D], without the full matrix of group membership."""

    @staticmethod
    def forward(ctx: Any, everyone: Tensor, group: Tensor, groups: Tensor, chunk: int) -> Tensor:
        ctx.save_for_backward(group, groups)
        ctx.chunk = chunk
        sums = everyone.new_zeros(len(group), everyone.shape[1])
        for above, left in _tiles(len(group), len(groups), chunk):
            sums[above].addmm_((group[above, None] == groups[left]).to(sums.dtype), everyone[left])
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        group, groups = ctx.saved_tensors
        total = gradient.new_zeros(len(groups), gradient.shape[1])
        for above, left in _tiles(len(group), len(groups), ctx.chunk):
            total[left].addmm_((groups[left, None] == group[above]).to(total.dtype), gradient[above])
        return total, None, None, None


def _tiles(height: int, width: int, chunk: int) -> list[tuple[slice, slice]]:
    return [(slice(i, i + chunk), slice(j, j + chunk)) for i in range(0, height, chunk) for j in range(0, width, chunk)]


def _tile(
    own: Tensor, everyone: Tensor, rows: Tensor, partner: Tensor, groups: Tensor | None, temperature: float,
    above: slice, left: slice,
) -> Tensor:  # fmt: skip
    logits = (own[above] / temperature) @ everyone[left].T
    columns = torch.arange(len(everyone), device=own.device)[left]
    same = None if groups is None else groups[rows[above], None] == groups[left]
    return logits.masked_fill_(excluded(rows[above], columns, partner[above], same), -math.inf)
