"""Draw the numbers of random views: one small table per batch, the same for every back end.

Legend: B views, S side of the source, s side of the view.
A view is one warp (crop, turn, flip and resize at once), one colour map and one blur. Brightness, saturation, hue and
grey are 3x3 matrices; contrast also needs the image's mean colour m, so the colour map is out = M x + K m, exactly
what the operations do one after the other in a random order, but for the clipping between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from foveal.augment.recipes import Recipe

CROP_TRIES = 10  # as torchvision's RandomResizedCrop, which this reproduces
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as PIL and torchvision
# YIQ: luma and two colour axes; the hue is an angle in the plane of the two axes.
TO_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@dataclass(frozen=True)
class ViewTable:
    """Parameters of B views; float32 on the CPU.

    warp: [B, 2, 3] maps (x, y, 1) of a view pixel to source pixel coordinates (pixel centres are whole numbers).
    colour: [B, 3, 6] = [M | K]. sigma: [B] in view pixels, 0 = no blur. edge: "repeat" or "black".
    """

    warp: Tensor
    colour: Tensor
    sigma: Tensor
    edge: str

    def __len__(self) -> int:
        return len(self.warp)

    def shrinking(self) -> Tensor:
        """int [B]: by how much each warp shrinks its image, rounded down, at least 1."""
        determinant = torch.linalg.det(self.warp[:, :, :2].double()).abs()
        return (determinant.sqrt() + 1e-3).int().clamp_min(1)

    def __getitem__(self, part: slice) -> ViewTable:
        return ViewTable(self.warp[part], self.colour[part], self.sigma[part], self.edge)


def rescale_warp(warp: Tensor, ratio: Tensor) -> Tensor:
    """The same warps [B, 2, 3] for images resized by `ratio` [B, 1, 1]; pixel centres stay where they were."""
    scaled = warp * ratio
    scaled[:, :, 2:] += 0.5 * ratio - 0.5
    return scaled


def draw(recipe: Recipe, batch: int, source_size: int, view_size: int, generator: Generator) -> ViewTable:
    """A table of `batch` views of side `view_size` from images of side `source_size`."""
    warp = _draw_warp(recipe, batch, source_size, view_size, generator)
    colour = _draw_colour(recipe, batch, generator)
    low, high = recipe.blur_sigma
    sigma = _uniform(batch, low, high, generator) * view_size
    blurred = torch.rand(batch, generator=generator) < recipe.blur_probability
    return ViewTable(warp, colour, torch.where(blurred, sigma, 0.0), recipe.edge)


def _draw_warp(recipe: Recipe, batch: int, source: int, view: int, generator: Generator) -> Tensor:
    width, height, x, y = _draw_crop(recipe, batch, generator)
    angle = _uniform(batch, -recipe.rotation, recipe.rotation, generator) * math.pi / 180
    flips = torch.rand(2, batch, generator=generator) < torch.tensor([[recipe.flip], [recipe.flip_vertical]])
    signs = torch.where(flips, -1.0, 1.0)
    scale_x, scale_y = signs[0] * width * source / view, signs[1] * height * source / view
    cos, sin = angle.cos(), angle.sin()
    linear = torch.stack([cos * scale_x, -sin * scale_y, sin * scale_x, cos * scale_y], 1).reshape(batch, 2, 2)
    centre = torch.stack([x + width / 2, y + height / 2], 1) * source - 0.5
    middle = torch.full((2, 1), (view - 1) / 2)
    return torch.cat([linear, centre[:, :, None] - linear @ middle], 2)


def _draw_crop(recipe: Recipe, batch: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Width, height, left and top of each crop as shares: the first of ten draws that fits, else the whole image."""
    narrow, wide = recipe.crop_aspect
    area = _uniform((batch, CROP_TRIES), *recipe.crop_area, generator)
    log_aspect = _uniform((batch, CROP_TRIES), math.log(narrow), math.log(wide), generator)
    width, height = (area * log_aspect.exp()).sqrt(), (area / log_aspect.exp()).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.int().argmax(1, keepdim=True)
    cropped = fits.any(1) & (torch.rand(batch, generator=generator) < recipe.crop_probability)
    width = torch.where(cropped, width.gather(1, first)[:, 0], 1.0)
    height = torch.where(cropped, height.gather(1, first)[:, 0], 1.0)
    x, y = torch.rand(2, batch, generator=generator)
    return width, height, x * (1 - width), y * (1 - height)


def _draw_colour(recipe: Recipe, batch: int, generator: Generator) -> Tensor:
    """[B, 3, 6]: brightness, contrast, saturation and hue in a random order, then maybe grey."""
    identity = torch.eye(3).expand(batch, 3, 3)
    luma = torch.tensor(GREY).expand(batch, 3, 3)
    factors = {
        name: _uniform(batch, max(0.0, 1 - x), 1 + x, generator)[:, None, None]
        for name, x in (("b", recipe.brightness), ("c", recipe.contrast), ("s", recipe.saturation))
    }
    hue = _hue_matrix(_uniform(batch, -recipe.hue, recipe.hue, generator) * 2 * math.pi)
    saturation = factors["s"] * identity + (1 - factors["s"]) * luma
    steps = torch.stack([factors["b"] * identity, factors["c"] * identity, saturation, hue], 1)  # [B, 4, 3, 3]
    order = torch.rand(batch, 4, generator=generator).argsort(1)
    matrix, mean_part = identity, torch.zeros(batch, 3, 3)
    for position in range(4):
        chosen = order[:, position]
        step = steps[torch.arange(batch), chosen]
        # Contrast adds (1 - c) times the grey mean of the picture as it is now, which is luma (M m + K m).
        offset = torch.where((chosen == 1)[:, None, None], (1 - factors["c"]) * (luma @ (matrix + mean_part)), 0.0)
        matrix, mean_part = step @ matrix, step @ mean_part + offset
    jittered = (torch.rand(batch, generator=generator) < recipe.colour_probability)[:, None, None]
    matrix, mean_part = torch.where(jittered, matrix, identity), torch.where(jittered, mean_part, 0.0)
    grey = (torch.rand(batch, generator=generator) < recipe.grey)[:, None, None]
    return torch.cat([torch.where(grey, luma @ matrix, matrix), torch.where(grey, luma @ mean_part, mean_part)], 2)


def _hue_matrix(angle: Tensor) -> Tensor:
    """[B, 3, 3]: a turn of the colour plane that keeps the luma."""
    to_yiq = torch.tensor(TO_YIQ)
    turn = torch.zeros(len(angle), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    return torch.linalg.inv(to_yiq) @ turn @ to_yiq


def _uniform(shape: int | tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)
