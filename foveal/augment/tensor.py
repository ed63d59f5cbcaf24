"""Apply a table of views on any torch device: the whole batch at once, without waiting for the device.

Shapes are fixed and no branch depends on a tensor, so `torch.compile(render, fullgraph=True)` gives a single graph.
JPEG compression is simulated: colours at half resolution, cosines of 8x8 pixels, quantisation.
"""

import math
import tomllib
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.augment.draw import ViewPlan, ViewTable, column, level_sides

TABLES = tomllib.loads(Path(__file__).with_name("jpeg.toml").read_text(encoding="utf-8"))["tables"]


def apply(images: Tensor, table: ViewTable, view_size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 [B, S, S, C] -> [B, C, s, s] in 0..255 (channels-last), one view of each image; C is 1 or 3."""
    table.check(images, view_size)
    device = images.device
    return render(images, send(table.values, device), jpeg_tables(device), table.plan, view_size, dtype)


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device; to a GPU asynchronously, from pinned memory."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


@cache
def jpeg_tables(device: torch.device) -> Tensor:
    """float32 [2, 8, 8], copied to the device once."""
    return send(torch.tensor(TABLES, dtype=torch.float32).unflatten(1, (8, 8)), device)


def render(images: Tensor, values: Tensor, tables: Tensor, plan: ViewPlan, size: int, dtype: torch.dtype) -> Tensor:
    """Like `apply`, but with all tensors on one device; this is the function to compile."""
    with torch.autocast(images.device.type, enabled=False):  # always in float32
        views = sample(images.permute(0, 3, 1, 2).float(), values, plan, size)
        if "colour" in plan.stages:
            views = _recolour(views, column(values, "colour").unflatten(1, (3, 6)))
        if "light" in plan.stages:
            views = views * _gain(column(values, "light"), size)
        if "colour" in plan.stages or "light" in plan.stages:
            views = views.clamp(0, 255)
        if "detail" in plan.stages:
            views = _both_ways(views, _reducing(column(values, "detail"), size))
        if "blur" in plan.stages:
            views = _both_ways(views, _bands(column(values, "sigma"), size))
        if "solarise" in plan.stages:
            views = torch.where(column(values, "solarise")[:, :, None, None] > 0, views.minimum(255 - views), views)
        if "jpeg" in plan.stages:
            views = jpeg(views, column(values, "quality")[:, 0], tables)
        if "cutout" in plan.stages:
            views = _cut_out(views, column(values, "cutout"))
        return views.to(dtype, memory_format=torch.channels_last)


def _recolour(views: Tensor, colour: Tensor) -> Tensor:
    matrix, mean_part = colour[:, :, :3], colour[:, :, 3:]
    if views.shape[1] == 1:  # a grey picture is (x, x, x), so the columns of the matrices add up
        matrix, mean_part = matrix[:, :1].sum(2, keepdim=True), mean_part[:, :1].sum(2, keepdim=True)
    mean = views.mean((2, 3))[:, :, None]
    return torch.baddbmm(mean_part @ mean, matrix, views.flatten(2)).unflatten(2, views.shape[2:])


def _gain(light: Tensor, size: int) -> Tensor:
    """[B, 1, s, s]: 1 + a x + b y + c (x^2 + y^2 - 2/3), x and y from -1 to 1 over the view's pixels."""
    line = (2 * torch.arange(size, device=light.device, dtype=torch.float32) + 1) / size - 1
    a, b, c = light[:, :, None].unbind(1)
    bow = c * (line.square() - 1 / 3)
    return ((1 + a * line + bow)[:, None, :] + (b * line + bow)[:, :, None])[:, None]


def _both_ways(views: Tensor, matrices: Tensor) -> Tensor:
    """M x M^T for each channel x of views [B, C, s, s], with a matrix M [s, s] per view."""
    batch, channels, size, _ = views.shape
    rows = views.transpose(1, 2)  # [B, y, C, x], so that both products need no copy of the pictures
    across = torch.bmm(rows.reshape(batch, size * channels, size), matrices.transpose(1, 2))
    down = torch.bmm(matrices, across.view(batch, size, channels * size))
    return down.view(batch, size, channels, size).transpose(1, 2)


def _reducing(side: Tensor, size: int) -> Tensor:
    """[B, s, s]: means over areas to `side` [B, 1] pixels, then linear interpolation back; the identity for 0."""
    side = torch.where(side > 0, side, size)[:, :, None]
    place = torch.arange(size, device=side.device, dtype=torch.float32)
    width, bins = size / side, place[:, None]  # rows from `side` on lie outside the picture and are never read
    lower, upper = torch.maximum(place, bins * width), torch.minimum(place + 1, (bins + 1) * width)
    read = ((bins + 0.5) / width - 0.5).clamp_min(0).minimum(side - 1)
    return torch.bmm((1 - (read - place).abs()).clamp_min(0), (upper - lower).clamp_min(0) / width)


def _bands(sigma: Tensor, size: int) -> Tensor:
    """[B, s, s]: row i has the weights of a Gaussian blur of radius 3 sigma [B, 1], edges repeated; 0: the identity."""
    distance = torch.arange(size, device=sigma.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (distance / sigma.clamp_min(1e-3)).square())
    weights = torch.where(distance <= (3 * sigma).ceil(), weights, 0.0)
    weights = weights / (2 * weights.sum(1, keepdim=True) - 1)  # [B, s] by distance; both sides together sum to 1
    past = (weights.sum(1, keepdim=True) - weights.cumsum(1))[:, :, None]  # beyond that distance, on one side
    place = torch.arange(size, device=sigma.device)
    return weights[:, (place[:, None] - place).abs()] + past * (place == 0) + past.flip(1) * (place == size - 1)


def _cut_out(views: Tensor, cutout: Tensor) -> Tensor:
    line = torch.arange(views.shape[-1], device=views.device)
    left, top, right, bottom = cutout[:, :, None].unbind(1)
    across, down = (line >= left) & (line < right), (line >= top) & (line < bottom)
    return torch.where((across[:, None, :] & down[:, :, None])[:, None], views.mean((2, 3), keepdim=True), views)


def sample(pixels: Tensor, values: Tensor, plan: ViewPlan, size: int) -> Tensor:
    """Images float32 [B, C, S, S] and rows of a ViewTable -> views float32 [B, C, s, s].

    An atlas has smaller copies of each image, one below the other; each view reads the copy of its level.
    """
    source, atlas = pixels.shape[-1], pixels
    sides = level_sides(source, size)
    if len(sides) > 1:
        atlas = torch.cat([F.pad(_shrink(pixels, each), (0, source - each)) for each in sides], 2)
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
    if plan.edge != "black":
        return views
    covered = (1 - (x - inner_x).abs()).clamp_min(0) * (1 - (y - inner_y).abs()).clamp_min(0)
    return views * covered[:, None]


def _shrink(pixels: Tensor, side: int) -> Tensor:
    """Means over areas that may cut through pixels, as with cv2.INTER_AREA."""
    source = pixels.shape[-1]
    if source % side == 0:
        return pixels if source == side else F.avg_pool2d(pixels, source // side)
    step = source / side
    edge = torch.arange(side, device=pixels.device, dtype=torch.float32)[:, None] * step
    place = torch.arange(source, device=pixels.device, dtype=torch.float32)
    weights = (torch.minimum(edge + step, place + 1) - torch.maximum(edge, place)).clamp_min(0) / step  # [side, S]
    return weights @ (pixels @ weights.T)


def jpeg(views: Tensor, quality: Tensor, tables: Tensor) -> Tensor:
    """Views float32 [B, C, s, s] in 0..255 after JPEG compression at quality [B]; 0 leaves a view unchanged.

    tables: float32 [2, 8, 8], TABLES on the device. Not bit-exact with libjpeg: values may be rounded to a different
    quantisation step, so single pixels differ by tens of grey levels, and means by less than one.
    """
    # Quantisation [B, 2, 8, 8] of each view, scaled by quality as libjpeg does; 50.5, not 50, against rounding errors.
    scale = torch.where(quality < 50, (5000 / quality.clamp_min(1)).floor(), 200 - 2 * quality)[:, None, None, None]
    steps = ((tables * scale + 50.5) / 100).floor().clamp(1, 255)
    pixels = views.round()
    if views.shape[1] == 1:
        coded = _code(pixels - 128, steps[:, :1]) + 128
    else:
        red, green, blue = pixels.unbind(1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        planes = torch.stack([luma - 128, (blue - luma) / 1.772, (red - luma) / 1.402], 1).round()  # YCbCr, as in JFIF
        luma, cb, cr = _code_colour(planes, steps).unbind(1)
        luma = luma + 128
        coded = torch.stack([luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb], 1)
    return torch.where(quality[:, None, None, None] > 0, coded.round().clamp(0, 255), views)


def _code_colour(planes: Tensor, steps: Tensor) -> Tensor:
    """[B, 3, s, s]: luma at full and colours at half resolution (4:2:0), enlarged by bilinear interpolation."""
    size = planes.shape[-1]
    even = F.pad(planes[:, 1:], (0, size % 2, 0, size % 2), mode="replicate")
    colours = _code(F.avg_pool2d(even, 2).round(), steps[:, 1:])
    colours = F.interpolate(colours, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.cat([_code(planes[:, :1], steps[:, :1]), colours[:, :, :size, :size]], 1)


def _code(planes: Tensor, steps: Tensor) -> Tensor:
    """Quantise the cosine transform of 8x8 blocks. planes: [B, P, n, n], centred on 0; steps: [B, 1, 8, 8]."""
    size, short = planes.shape[-1], -planes.shape[-1] % 8
    cosines = _cosines(size + short, planes.device)
    step = steps.repeat(1, 1, (size + short) // 8, (size + short) // 8)
    waves = cosines @ (F.pad(planes, (0, short, 0, short), mode="replicate") @ cosines.T)
    return (cosines.T @ (((waves / step).round() * step) @ cosines))[:, :, :size, :size].round().clamp(-128, 127)


def _cosines(size: int, device: torch.device) -> Tensor:
    """The cosine transform of every eight pixels of a line: a matrix [size, size], faster than splitting pictures."""
    place = torch.arange(size, device=device)
    frequency, pixel = (place % 8).float()[:, None], (place % 8).float()
    waves = torch.where(frequency == 0, math.sqrt(1 / 8), torch.cos((2 * pixel + 1) * frequency * (math.pi / 16)) / 2)
    return waves * (place[:, None] // 8 == place // 8)
