"""Simulated JPEG compression, batched on any torch device: colours at half resolution, 8x8 cosines, quantisation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Standard tables of ITU-T T.81, annex K: luma, then colour.
TABLES = (
    (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
     87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120,
     101, 72, 92, 95, 98, 112, 100, 103, 99),
    (17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
     99, 99, 99) + (99,) * 32,
)  # fmt: skip


def jpeg(views: Tensor, quality: Tensor, tables: Tensor) -> Tensor:
    """Views float32 [B, C, s, s] in 0..255 after JPEG compression at quality [B]; 0 leaves a view unchanged.

    tables: float32 [2, 8, 8], TABLES on the device. Not bit-exact with libjpeg: values may be rounded to a different
    quantisation step, so single pixels differ by tens of grey levels, and means by less than one.
    """
    steps = _steps(quality, tables)
    pixels = views.round()
    if views.shape[1] == 1:
        coded = _code(pixels - 128, steps[:, :1]) + 128
    else:
        coded = _to_rgb(_code_colour(_to_ycc(pixels), steps))
    return torch.where(quality[:, None, None, None] > 0, coded.round().clamp(0, 255), views)


def _steps(quality: Tensor, tables: Tensor) -> Tensor:
    """Quantisation [B, 2, 8, 8] of each view, scaled by quality as libjpeg does."""
    scale = torch.where(quality < 50, (5000 / quality.clamp_min(1)).floor(), 200 - 2 * quality)[:, None, None, None]
    return ((tables * scale + 50.5) / 100).floor().clamp(1, 255)  # 50.5, not 50, against rounding errors


def _code_colour(planes: Tensor, steps: Tensor) -> Tensor:
    """[B, 3, s, s]: luma at full and colours at half resolution (4:2:0), enlarged by bilinear interpolation."""
    size = planes.shape[-1]
    even = F.pad(planes[:, 1:], (0, size % 2, 0, size % 2), mode="replicate")
    colours = _code(F.avg_pool2d(even, 2).round(), steps[:, 1:])
    colours = F.interpolate(colours, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.cat([_code(planes[:, :1], steps[:, :1]), colours[:, :, :size, :size]], 1)


def _code(planes: Tensor, steps: Tensor) -> Tensor:
    """Quantise the cosine transform of 8x8 blocks. planes: [B, P, n, n], centred on 0; steps: [B, 1, 8, 8]."""
    size = planes.shape[-1]
    short = -size % 8
    padded = F.pad(planes, (0, short, 0, short), mode="replicate")
    cosines = _cosines(size + short, planes.device)
    step = steps.repeat(1, 1, (size + short) // 8, (size + short) // 8)
    waves = cosines @ (padded @ cosines.T)
    coded = cosines.T @ (((waves / step).round() * step) @ cosines)
    return coded[:, :, :size, :size].round().clamp(-128, 127)


def _cosines(size: int, device: torch.device) -> Tensor:
    """The cosine transform of every eight pixels of a line: a matrix [size, size], faster than splitting pictures."""
    place = torch.arange(size, device=device)
    frequency, pixel = (place % 8).float()[:, None], (place % 8).float()
    waves = torch.cos((2 * pixel + 1) * frequency * (math.pi / 16)) / 2
    waves = torch.where(frequency == 0, math.sqrt(1 / 8), waves)
    return waves * (place[:, None] // 8 == place // 8)


def _to_ycc(pixels: Tensor) -> Tensor:
    """JFIF colours (YCbCr) in whole numbers, centred on 0."""
    red, green, blue = pixels.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([luma - 128, (blue - luma) / 1.772, (red - luma) / 1.402], 1).round()


def _to_rgb(planes: Tensor) -> Tensor:
    luma, cb, cr = planes.unbind(1)
    luma = luma + 128
    return torch.stack([luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb], 1)
