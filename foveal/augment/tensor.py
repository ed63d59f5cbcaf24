"""Apply a table of views on any torch device: the whole batch at once, without a wait for the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.augment.draw import ViewTable, rescale_warp

PADDING = {"repeat": "border", "black": "zeros"}


def apply(images: Tensor, table: ViewTable, view_size: int) -> Tensor:
    """uint8 [B, S, S, C] -> float32 [B, C, s, s] in 0..255 (channels-last), one view of each image; C is 1 or 3."""
    device = images.device
    pixels = images.permute(0, 3, 1, 2).float()
    views = _warp_shrinking(pixels, table, view_size)
    views = _recolour(views, table.colour.to(device, non_blocking=True))
    if bool(table.sigma.any()):  # the table is on the CPU: no wait for the device
        views = _blur(views, table.sigma)
    return views.contiguous(memory_format=torch.channels_last)


def _warp_shrinking(pixels: Tensor, table: ViewTable, size: int) -> Tensor:
    """Warp; images that shrink by two or more are averaged first. The table is on the CPU, so nothing waits."""
    factors, side, padding = table.shrinking(), pixels.shape[-1], PADDING[table.edge]
    if int(factors.max()) == 1:
        return _warp(pixels, table.warp.to(pixels.device, non_blocking=True), size, padding)
    views = pixels.new_empty(len(table), pixels.shape[1], size, size)
    for factor in factors.unique().tolist():
        chosen = (factors == factor).nonzero()[:, 0]
        small = side // factor
        warp = rescale_warp(table.warp[chosen], torch.tensor(small / side)).to(pixels.device, non_blocking=True)
        shrunk = F.interpolate(pixels[chosen], (small, small), mode="area") if factor > 1 else pixels[chosen]
        views[chosen] = _warp(shrunk, warp, size, padding)
    return views


def _warp(pixels: Tensor, warp: Tensor, size: int, padding: str) -> Tensor:
    """Bilinear sampling at warp (x, y, 1), in source pixels."""
    line = torch.arange(size, device=pixels.device, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1)  # [s, s, 3]
    source = torch.einsum("bij,yxj->byxi", warp, points)
    grid = (2 * source + 1) / pixels.shape[-1] - 1  # pixel centres to -1..1 over the image's outer edges
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _recolour(views: Tensor, colour: Tensor) -> Tensor:
    channels = views.shape[1]
    matrix, mean_part = colour[:, :, :3], colour[:, :, 3:]
    if channels == 1:
        matrix, mean_part = matrix[:, :1].sum(2, keepdim=True), mean_part[:, :1].sum(2, keepdim=True)
    mean = views.mean((2, 3))[:, :, None]
    return torch.baddbmm(mean_part @ mean, matrix, views.flatten(2)).reshape(views.shape).clamp(0, 255)


def _blur(views: Tensor, sigma: Tensor) -> Tensor:
    """Separable Gaussian, a kernel per image; sigma 0 leaves the image as it is."""
    batch, channels, height, width = views.shape
    radius = max(1, int(4 * float(sigma.max()) + 0.5))
    offsets = torch.arange(-radius, radius + 1, device=views.device, dtype=torch.float32)
    spread = sigma.to(views.device, non_blocking=True).clamp_min(1e-3)[:, None]
    kernel = torch.exp(-0.5 * (offsets / spread) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # [B*C, k]
    planes = F.pad(views.reshape(1, batch * channels, height, width), (radius,) * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=batch * channels)
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=batch * channels)
    return planes.reshape(views.shape)
