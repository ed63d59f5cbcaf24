"""Tiles: occlusion on the prepared picture, which has more pixels than the network sees, in windows of three sizes.

The large windows go everywhere, the smaller ones only where larger ones mattered: some 700 passes of the network
instead of more than 5,000.

Legend: C channels, s pixels a side of the network's input, S pixels a side of the prepared picture.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from foveal.explain.attribution import AT_ONCE, Attribution
from foveal.explain.target import Scorer

WINDOWS = (8, 16, 32)  # side by side over the whole side; they move by half of their own
TRIED = (1, 1 / 4, 1 / 16)  # share of the windows of each size that is tried, those of the strongest places

Corner = tuple[int, int]


@torch.no_grad()
def tiled_occlusion(scorer: Scorer, shrink: Tensor, image: Tensor, baseline: Tensor) -> Attribution:
    """The mean fall of the score per area while a pixel is hidden, over the sizes that were tried there.

    image, baseline: normalised [1, C, S, S], the picture and the same with nothing to see; shrink: float32 [s, S], R
    such that R X R^T is the network's input. A fall is divided by the area of its window, so that a lesion counts
    alike in each size. `heat` is float32 [S, S] >= 0.
    """
    change, small = baseline - image, shrink @ image @ shrink.T
    size = image.shape[3]
    differs = (change != 0).any(1)[0].float()
    sums, sizes = torch.zeros((2, size, size), device=image.device)
    heat = None
    for windows, share in zip(WINDOWS, TRIED, strict=True):
        width = max(round(size / windows), 2)
        chosen = _strongest(_corners(size, width), width, share, differs, heat)
        falls = _falls(scorer, shrink, small, change, chosen, width)
        level, tried = _laid_out(chosen, falls * windows**2, width, size)
        sums, sizes = sums + level, sizes + tried
        heat = sums / sizes.clamp_min(1)
    assert heat is not None
    return Attribution(heat, 2 * max(WINDOWS))


def _corners(size: int, width: int) -> list[Corner]:
    """Upper left corners of windows that cover the side; the last ones end with it."""
    starts = sorted({*range(0, size - width, max(width // 2, 1)), size - width})
    return list(product(starts, starts))


def _strongest(
    corners: list[Corner], width: int, share: float, differs: Tensor, heat: Tensor | None
) -> list[Corner]:  # fmt: skip
    """The windows to try: those that hide something and, once there is heat [S, S], the strongest `share` of them."""
    inside = [corner for corner in corners if _window(differs, corner, width).any()]
    if heat is None:
        return inside
    strength = {corner: float(_window(heat, corner, width).mean()) for corner in inside}
    ranked = sorted((corner for corner in inside if strength[corner] > 0), key=strength.__getitem__, reverse=True)
    return ranked[: math.ceil(share * len(inside))]


def _window(map_: Tensor, corner: Corner, width: int) -> Tensor:
    return map_[..., corner[0] : corner[0] + width, corner[1] : corner[1] + width]


def _falls(
    scorer: Scorer, shrink: Tensor, small: Tensor, change: Tensor, corners: list[Corner], width: int
) -> Tensor:  # fmt: skip
    """How far the score falls when each window alone is hidden, float32 [n].

    To shrink is linear, so only the hidden window is shrunk each time, and added to the picture that is small already.
    """
    whole, falls = scorer(small), [torch.zeros(0, device=small.device)]
    for start in range(0, len(corners), AT_ONCE):
        hidden = [
            shrink[:, y : y + width] @ _window(change, (y, x), width) @ shrink[:, x : x + width].T
            for y, x in corners[start : start + AT_ONCE]
        ]
        falls.append(whole - scorer(small + torch.cat(hidden)))
    return torch.cat(falls)


def _laid_out(corners: list[Corner], falls: Tensor, width: int, size: int) -> tuple[Tensor, Tensor]:
    """The mean fall over the windows that hide each pixel [S, S], >= 0, and 1.0 where there is such a window."""
    sums, counts = torch.zeros((2, size, size), device=falls.device)
    for corner, fall in zip(corners, falls, strict=True):
        _window(sums, corner, width).add_(fall)
        _window(counts, corner, width).add_(1)
    return (sums / counts.clamp_min(1)).clamp_min(0), (counts > 0).float()
