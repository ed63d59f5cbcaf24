"""Warp images into views: one bilinear sampling of the whole batch, on any torch device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.augment.table import ViewPlan, column, level_sides


def sample(pixels: Tensor, values: Tensor, plan: ViewPlan, size: int) -> Tensor:
    """Images float32 [B, C, S, S] and rows of a ViewTable -> views float32 [B, C, s, s].

    An atlas contains area-averaged copies of each image, one below the other; each view reads the copy of its level, so
    shapes do not depend on the drawn parameters. Coordinates are clamped to the view's box; a black edge fades over one
    pixel.
    """
    source = pixels.shape[-1]
    atlas = _atlas(pixels, level_sides(source, size))
    side, top = column(values, "level")[:, :, None, None].unbind(1)  # each [B, 1, 1]
    ratio = side / source
    left, upper, right, lower = (column(values, "box")[:, :, None, None] * ratio[:, None]).unbind(1)
    right, lower = right + ratio - 1, lower + ratio - 1
    warp = column(values, "warp")[:, :, None, None]
    line = torch.arange(size, device=pixels.device, dtype=torch.float32)
    x = (warp[:, 0] * line + warp[:, 1] * line[:, None] + warp[:, 2] + 0.5) * ratio - 0.5
    y = (warp[:, 3] * line + warp[:, 4] * line[:, None] + warp[:, 5] + 0.5) * ratio - 0.5
    inner_x, inner_y = x.clamp(left, right), y.clamp(upper, lower)
    grid_x, grid_y = (2 * inner_x + 1) / source - 1, (2 * (inner_y + top) + 1) / atlas.shape[2] - 1
    views = F.grid_sample(atlas, torch.stack([grid_x, grid_y], -1), padding_mode="border", align_corners=False)
    if plan.edge == "black":
        covered = (1 - (x - inner_x).abs()).clamp_min(0) * (1 - (y - inner_y).abs()).clamp_min(0)
        views = views * covered[:, None]
    return views


def _atlas(pixels: Tensor, sides: list[int]) -> Tensor:
    """[B, C, sum of sides, S]: the image and its smaller copies with those sides, averaged over exact areas."""
    source = pixels.shape[-1]
    if len(sides) == 1:
        return pixels
    return torch.cat([F.pad(_shrink(pixels, side), (0, source - side)) for side in sides], 2)


def _shrink(pixels: Tensor, side: int) -> Tensor:
    """Means over areas that may cut through pixels, as with cv2.INTER_AREA."""
    source = pixels.shape[-1]
    if source == side:
        return pixels
    if source % side == 0:
        return F.avg_pool2d(pixels, source // side)
    step = source / side
    edge = torch.arange(side, device=pixels.device, dtype=torch.float32)[:, None] * step
    place = torch.arange(source, device=pixels.device, dtype=torch.float32)
    overlap = torch.minimum(edge + step, place + 1) - torch.maximum(edge, place)
    weights = overlap.clamp_min(0) / step  # [side, S]
    return weights @ (pixels @ weights.T)
