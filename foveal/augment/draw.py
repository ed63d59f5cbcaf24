"""Draw the parameters of random views: one small table per batch, the same for every back end.

Legend: B views, S side of the source, s side of the view. The operations, in this order on every back end:
1 warp      crop, turn, flip and resize at once: bilinear, from a copy averaged over areas where the view shrinks
2 colour    out = M x + K mean(x): brightness, saturation, hue and grey are 3x3 matrices, contrast needs the mean colour
3 light     times a smooth gain: a tilt and a term in the squared distance from the middle; then clipped to 0..255
4 blur      Gaussian of radius 3 sigma, with the edge repeated
5 solarise  min(x, 255 - x), which inverts values from 128 upwards (Grill et al. 2020)
6 jpeg      JPEG compression, with colours at half resolution
7 cutout    a rectangle filled with the view's mean colour (DeVries & Taylor 2017 fill it with zero)
The colour step equals applying the four operations in a random order, as torchvision does, with two exceptions. Values
are not clipped between them. Hue rotates colours about the grey axis and keeps their mean, while torchvision rotates
the HSV circle and keeps the largest channel. Both agree at thirds of the circle; in between, the mean difference is
about as large as the change itself at 0.02 and half as large at 0.2 (1 % and 6 % of the range, for random colours).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy import ndarray
from torch import Generator

from foveal.augment.crop import draw_crops, uniform
from foveal.augment.recipes import Recipe
from foveal.augment.table import ViewPlan, ViewTable

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma, as in PIL and torchvision


def draw(recipe: Recipe, batch: int, source_size: int, view_size: int, generator: Generator) -> ViewTable:
    """A table of `batch` views of side `view_size` from images of side `source_size`."""
    warp, box, level = draw_crops(recipe, batch, source_size, view_size, generator)
    colour = _draw_colour(recipe, batch, generator).reshape(batch, 18)
    light = uniform((batch, 3), -1, 1, generator) * np.array([recipe.tilt, recipe.tilt, recipe.vignette])
    light = light * _chance(batch, recipe.light_probability, generator)
    sigma = uniform((batch, 1), *recipe.blur_sigma, generator) * view_size
    sigma = sigma * _chance(batch, recipe.blur_probability, generator)
    solarise = _chance(batch, recipe.solarise, generator)
    quality = np.rint(uniform((batch, 1), *recipe.jpeg_quality, generator))
    quality = quality * _chance(batch, recipe.jpeg_probability, generator)
    cutout = _draw_cutout(recipe, batch, view_size, generator)
    values = np.concatenate([warp, box, level, colour, light, sigma, solarise, quality, cutout], 1)
    stages = stages_of(recipe)
    edge = recipe.edge if "turn" in stages else "repeat"  # without rotation, views never reach outside the image
    return ViewTable(torch.from_numpy(values.astype(np.float32)), ViewPlan(stages=stages, edge=edge))


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """The operations that views of this recipe may need, in order; "turn" means that crops may be rotated."""
    jittered = recipe.brightness + recipe.contrast + recipe.saturation + recipe.hue > 0
    used = {
        "turn": recipe.rotation > 0,
        "colour": (jittered and recipe.colour_probability > 0) or recipe.grey > 0,
        "light": recipe.light_probability > 0 and recipe.tilt + recipe.vignette > 0,
        "blur": recipe.blur_probability > 0 and recipe.blur_sigma[1] > 0,
        "solarise": recipe.solarise > 0,
        "jpeg": recipe.jpeg_probability > 0,
        "cutout": recipe.cutout_probability > 0 and recipe.cutout_side[1] > 0,
    }
    return tuple(name for name, needed in used.items() if needed)


def _chance(batch: int, probability: float, generator: Generator) -> ndarray:
    """[B, 1]: 1 with the given probability, else 0."""
    return (uniform((batch, 1), 0, 1, generator) < probability).astype(float)


def _draw_cutout(recipe: Recipe, batch: int, view: int, generator: Generator) -> ndarray:
    """[B, 4], in whole pixels. The centre may be anywhere in the view, so a rectangle may be cut off at its edge."""
    half = uniform((batch, 2), *recipe.cutout_side, generator) * view / 2
    half = half * _chance(batch, recipe.cutout_probability, generator)
    middle = uniform((batch, 2), 0, view, generator)
    return np.rint(np.concatenate([middle - half, middle + half], 1)).clip(0, view)


def _draw_colour(recipe: Recipe, batch: int, generator: Generator) -> ndarray:
    """[B, 3, 6]: brightness, contrast, saturation and hue in a random order, then possibly grey."""
    identity, luma = np.eye(3), np.tile(GREY, (3, 1))
    brightness, contrast, saturation = (
        uniform((batch, 1, 1), 1 - x, 1 + x, generator) for x in (recipe.brightness, recipe.contrast, recipe.saturation)
    )
    hue = _hue_matrix(uniform((batch,), -recipe.hue, recipe.hue, generator) * 2 * math.pi)
    saturated = saturation * identity + (1 - saturation) * luma
    steps = np.stack([brightness * identity, contrast * identity, saturated, hue], 1)  # [B, 4, 3, 3]
    order = uniform((batch, 4), 0, 1, generator).argsort(1)
    both = np.tile(np.concatenate([identity, np.zeros((3, 3))], 1), (batch, 1, 1))  # [M | K]
    for position in range(4):
        chosen = order[:, position]
        # Contrast adds (1 - c) times the mean luma of the picture so far, luma (M m + K m).
        grey_mean = GREY @ (both[:, :, :3] + both[:, :, 3:])
        offset = np.where(chosen == 1, 1 - contrast[:, 0, 0], 0.0)[:, None] * grey_mean
        both = steps[np.arange(batch), chosen] @ both
        both[:, :, 3:] += offset[:, None]
    jittered = uniform((batch, 1, 1), 0, 1, generator) < recipe.colour_probability
    both = np.where(jittered, both, np.concatenate([identity, np.zeros((3, 3))], 1))
    grey = uniform((batch, 1, 1), 0, 1, generator) < recipe.grey
    return np.where(grey, (GREY @ both)[:, None], both)


def _hue_matrix(angle: ndarray) -> ndarray:
    """[B, 3, 3]: a rotation of colours about the grey axis; a third of the circle maps red to green to blue."""
    cos, sin = np.cos(angle), np.sin(angle) / math.sqrt(3)
    same, before, after = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin, (1 - cos) / 3 + sin
    rows = [same, before, after, after, same, before, before, after, same]
    return np.stack(rows, 1).reshape(-1, 3, 3)
