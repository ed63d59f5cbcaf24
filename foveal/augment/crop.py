"""Draw crops: where a view lies in its source, as a warp."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from foveal.augment.recipes import Recipe
from foveal.augment.table import level_sides

TRIES = 10  # as torchvision's RandomResizedCrop
DISC_POINTS = 8  # a crop's share of the disc is judged at 8 x 8 places


def draw_crops(recipe: Recipe, batch: int, source: int, view: int, generator: Generator) -> tuple[Tensor, ...]:
    """Warp [B, 6], box [B, 4] and level [B, 2] of each view, as the columns of a table.

    Of ten candidates, the first that fits into the picture and shows enough of the disc; else the one that shows most
    of it; else the whole picture. Crops that are not turned are whole pixels and are resized by themselves, as with
    torchvision; those that are turned may look past their own edge.
    """
    angle = uniform(batch, -recipe.rotation, recipe.rotation, generator) * math.pi / 180
    left, top, width, height = _choose(recipe, _candidates(recipe, batch, source, generator), angle, source)
    flips = torch.rand(2, batch, generator=generator) < torch.tensor([[recipe.flip], [recipe.flip_vertical]])
    sign_x, sign_y = torch.where(flips, -1.0, 1.0)
    cos, sin, scale_x, scale_y = angle.cos(), angle.sin(), sign_x * width / view, sign_y * height / view
    linear = torch.stack([cos * scale_x, -sin * scale_y, sin * scale_x, cos * scale_y], 1).unflatten(1, (2, 2))
    centre = torch.stack([left + width / 2, top + height / 2], 1) - 0.5
    warp = torch.cat([linear, (centre - linear.sum(2) * (view - 1) / 2)[:, :, None]], 2).flatten(1)
    level, shrunk = _levels(width * height, source, view)
    whole = torch.tensor([0.0, 0.0, source - 1.0, source - 1.0])
    own = torch.stack([left, top, left + width - 1, top + height - 1], 1)
    return warp, torch.where(shrunk[:, None] | (recipe.rotation > 0), whole, own), level


def _candidates(recipe: Recipe, batch: int, source: int, generator: Generator) -> Tensor:
    """Left, top, width, height [4, B, 10] in source pixels; those that do not fit have a width or height above it."""
    narrow, wide = recipe.crop_aspect
    cropped = (torch.rand(batch, 1, generator=generator) < recipe.crop_probability).expand(batch, TRIES)
    area = torch.where(cropped, uniform((batch, TRIES), *recipe.crop_area, generator), 1.0)
    aspect = uniform((batch, TRIES), math.log(narrow), math.log(wide), generator).exp()
    aspect = torch.where(cropped, aspect, 1.0)
    x, y = torch.rand(2, batch, TRIES, generator=generator)
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()]) * source
    if recipe.rotation > 0:
        return torch.cat([torch.stack([x, y]) * (source - sides), sides])
    sides = sides.round().clamp_min(1)
    return torch.cat([(torch.stack([x, y]) * (source - sides + 1)).floor(), sides])


def _choose(recipe: Recipe, candidates: Tensor, angle: Tensor, source: int) -> tuple[Tensor, ...]:
    """Left, top, width, height [B] of the candidate that is taken."""
    score = (candidates[2:] <= source).all(0).float()
    if recipe.disc > 0:
        score = score * _disc_share(candidates, angle, source).clamp_max(recipe.disc)
    best, place = score.max(1, keepdim=True)[0][:, 0], score.argmax(1, keepdim=True)  # the first of equal ones
    taken = candidates.gather(2, place.expand(4, -1, -1))[:, :, 0]
    whole = torch.tensor([0.0, 0.0, source, source])[:, None]
    left, top, width, height = torch.where(best > 0, taken, whole)
    return left, top, width, height


def _disc_share(candidates: Tensor, angle: Tensor, source: int) -> Tensor:
    """[B, 10]: share of each turned crop that lies in the disc inscribed in the picture."""
    left, top, width, height = candidates / source
    line = (torch.arange(DISC_POINTS) + 0.5) / DISC_POINTS - 0.5
    x, y = width[..., None, None] * line, height[..., None, None] * line[:, None]
    cos, sin = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
    across = (left + width / 2 - 0.5)[..., None, None] + cos * x - sin * y
    down = (top + height / 2 - 0.5)[..., None, None] + sin * x + cos * y
    return (across.square() + down.square() <= 0.25).float().mean((2, 3))


def _levels(area: Tensor, source: int, view: int) -> tuple[Tensor, Tensor]:
    """Level [B, 2] of crops by their area in pixels, and where it is a shrunken one: no view skips a source pixel."""
    sides = level_sides(source, view)
    factor = (area.sqrt() / view + 1e-3).int().clamp(1, len(sides))
    levels = torch.tensor([[side, sum(sides[:place])] for place, side in enumerate(sides)], dtype=torch.float32)
    return levels[factor - 1], factor > 1


def uniform(shape: int | tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    """Numbers drawn evenly from low to high."""
    return low + (high - low) * torch.rand(shape, generator=generator)
