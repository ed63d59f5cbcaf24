"""Draw crops: the position of a view in its source image, as a warp."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy import ndarray
from torch import Generator

from foveal.augment.recipes import Recipe
from foveal.augment.table import level_sides

TRIES = 10  # as in torchvision's RandomResizedCrop
DISC_POINTS = 6  # the share of a crop inside the disc is estimated at 6 x 6 points


def draw_crops(recipe: Recipe, batch: int, source: int, view: int, generator: Generator) -> tuple[ndarray, ...]:
    """Warp [B, 6], box [B, 4] and level [B, 2] of each view, as columns of a ViewTable.

    Chooses the first of ten candidates that fits into the picture and shows enough of the disc; otherwise the candidate
    that shows most of it; otherwise the whole picture. Crops without rotation start and end at whole pixels and read
    nothing outside their edges, as in torchvision; rotated crops may.
    """
    angle = uniform((batch,), -recipe.rotation, recipe.rotation, generator) * (math.pi / 180)
    left, top, width, height = _choose(recipe, _candidates(recipe, batch, source, generator), angle, source)
    flips = uniform((2, batch), 0, 1, generator) < np.array([[recipe.flip], [recipe.flip_vertical]])
    sign_x, sign_y = np.where(flips, -1.0, 1.0)
    cos, sin, scale_x, scale_y = np.cos(angle), np.sin(angle), sign_x * width / view, sign_y * height / view
    linear = np.stack([cos * scale_x, -sin * scale_y, sin * scale_x, cos * scale_y], 1).reshape(batch, 2, 2)
    centre = np.stack([left + width / 2, top + height / 2], 1) - 0.5
    warp = np.concatenate([linear, (centre - linear.sum(2) * (view - 1) / 2)[:, :, None]], 2).reshape(batch, 6)
    level, shrunk = _levels(width * height, source, view)
    whole = np.array([0.0, 0.0, source - 1.0, source - 1.0])
    own = np.stack([left, top, left + width - 1, top + height - 1], 1)
    return warp, np.where(shrunk[:, None] | (recipe.rotation > 0), whole, own), level


def _candidates(recipe: Recipe, batch: int, source: int, generator: Generator) -> ndarray:
    """Left, top, width, height [4, B, 10] in source pixels; candidates may be larger than the source."""
    narrow, wide = recipe.crop_aspect
    cropped = uniform((batch, 1), 0, 1, generator) < recipe.crop_probability
    area = np.where(cropped, uniform((batch, TRIES), *recipe.crop_area, generator), 1.0)
    aspect = np.exp(uniform((batch, TRIES), math.log(narrow), math.log(wide), generator))
    aspect = np.where(cropped, aspect, 1.0)
    place = uniform((2, batch, TRIES), 0, 1, generator)
    sides = np.sqrt(np.stack([area * aspect, area / aspect])) * source
    if recipe.rotation > 0:
        return np.concatenate([place * (source - sides), sides])
    sides = np.rint(sides).clip(1)
    return np.concatenate([np.floor(place * (source - sides + 1)), sides])


def _choose(recipe: Recipe, candidates: ndarray, angle: ndarray, source: int) -> tuple[ndarray, ...]:
    """Left, top, width, height [B] of the chosen candidate."""
    score = (candidates[2:] <= source).all(0).astype(float)
    if recipe.disc > 0:
        score *= _disc_share(candidates, angle, source).clip(max=recipe.disc)
    each, place = np.arange(len(score)), score.argmax(1)  # the first of equal scores
    whole = np.array([0.0, 0.0, source, source])[:, None]
    left, top, width, height = np.where(score[each, place] > 0, candidates[:, each, place], whole)
    return left, top, width, height


def _disc_share(candidates: ndarray, angle: ndarray, source: int) -> ndarray:
    """[B, 10]: share of each rotated crop that lies in the disc inscribed in the picture."""
    left, top, width, height = (candidates / source).astype(np.float32)[..., None, None]
    line = ((np.arange(DISC_POINTS) + 0.5) / DISC_POINTS - 0.5).astype(np.float32)
    x, y = width * line, height * line[:, None]
    cos, sin = np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)[..., None, None, None]
    across, down = left + width / 2 - 0.5 + cos * x - sin * y, top + height / 2 - 0.5 + sin * x + cos * y
    return (across * across + down * down <= 0.25).mean((2, 3))


def _levels(area: ndarray, source: int, view: int) -> tuple[ndarray, ndarray]:
    """Level [B, 2] of each crop, from its area in pixels so that no source pixel is skipped; and whether it shrinks."""
    sides = level_sides(source, view)
    factor = (np.sqrt(area) / view + 1e-3).astype(int).clip(1, len(sides))
    return np.array([[side, sum(sides[:place])] for place, side in enumerate(sides)])[factor - 1], factor > 1


def uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> ndarray:
    """Numbers drawn uniformly between low and high.

    Returns numpy arrays, because torch synchronises its threads in each of many small operations, which is a hundred
    times slower if the cores are busy.
    """
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64).numpy()
