"""Draw the parameters of random views: one small table per batch, the same for every back end.

Legend: B views, S side of the source, s side of the view. The operations, in this order on every back end:
1 warp      crop, turn, flip and resize at once: bilinear, from a copy averaged over areas where the view shrinks
2 colour    out = M x + K mean(x): brightness, saturation, hue and grey are 3x3 matrices, contrast needs the mean colour
3 light     times a smooth gain: a tilt and a term in the squared distance from the middle; then clipped to 0..255
4 detail    reduced by areas to fewer pixels and enlarged again, bilinear: what a smaller sensor or file has lost
5 blur      Gaussian of radius 3 sigma, with the edge repeated
6 solarise  min(x, 255 - x), which inverts values from 128 upwards (Grill et al. 2020)
7 jpeg      JPEG compression, with colours at half resolution
8 cutout    a rectangle filled with the view's mean colour (DeVries & Taylor 2017 fill it with zero)
The colour step equals applying the four operations in a random order, as torchvision does, with two exceptions. Values
are not clipped between them. Hue rotates colours about the grey axis and keeps their mean, while torchvision rotates
the HSV circle and keeps the largest channel.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray
from torch import Generator, Tensor

from foveal.augment.recipes import Recipe
from foveal.errors import FovealError

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma, as in PIL and torchvision
TRIES = 10  # as in torchvision's RandomResizedCrop
DISC_POINTS = 6  # the share of a crop inside the disc is estimated at 6 x 6 points
WIDTHS = {"warp": 6, "box": 4, "level": 2, "colour": 18, "light": 3, "detail": 1, "sigma": 1, "solarise": 1,
          "quality": 1, "cutout": 4}  # fmt: skip
STARTS = {name: sum(list(WIDTHS.values())[:place]) for place, name in enumerate(WIDTHS)}


def draw(recipe: Recipe, batch: int, source_size: int, view_size: int, generator: Generator) -> "ViewTable":
    """A table of `batch` views of side `view_size` from images of side `source_size`."""
    if not isinstance(generator, Generator):  # torch would draw from its global one
        raise FovealError("option.value", f"the generator is {generator}", expected="a torch.Generator")
    warp, box, level = draw_crops(recipe, batch, source_size, view_size, generator)
    colour = _draw_colour(recipe, batch, generator).reshape(batch, 18)
    light = uniform((batch, 3), -1, 1, generator) * np.array([recipe.tilt, recipe.tilt, recipe.vignette])
    light *= _chance(batch, recipe.light_probability, generator)
    sigma = uniform((batch, 1), *recipe.blur_sigma, generator) * view_size
    sigma *= _chance(batch, recipe.blur_probability, generator)
    solarise = _chance(batch, recipe.solarise, generator)
    quality = np.rint(uniform((batch, 1), *recipe.jpeg_quality, generator))
    quality *= _chance(batch, recipe.jpeg_probability, generator)
    half = uniform((batch, 2), *recipe.cutout_side, generator) * view_size / 2
    half = half * _chance(batch, recipe.cutout_probability, generator)
    middle = uniform((batch, 2), 0, view_size, generator)  # of the cutout: anywhere in the view
    cutout = np.rint(np.concatenate([middle - half, middle + half], 1)).clip(0, view_size)
    stages, detail = stages_of(recipe), np.zeros((batch, 1))
    if "detail" in stages:  # drawn last and only then, so that other recipes give the same views as before
        detail = np.rint(uniform((batch, 1), *recipe.detail, generator) * view_size).clip(1)
        detail *= _chance(batch, recipe.detail_probability, generator)
    values = np.concatenate([warp, box, level, colour, light, detail, sigma, solarise, quality, cutout], 1)
    edge = recipe.edge if "turn" in stages else "repeat"  # without rotation, views never reach outside the image
    return ViewTable(torch.from_numpy(values.astype(np.float32)), ViewPlan(stages, edge, (source_size, view_size)))


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """The operations that views of this recipe may need, in order; "turn" means that crops may be rotated."""
    jittered = recipe.brightness + recipe.contrast + recipe.saturation + recipe.hue > 0
    used = {
        "turn": recipe.rotation > 0,
        "colour": (jittered and recipe.colour_probability > 0) or recipe.grey > 0,
        "light": recipe.light_probability > 0 and recipe.tilt + recipe.vignette > 0,
        "detail": recipe.detail_probability > 0 and recipe.detail[0] < 1,
        "blur": recipe.blur_probability > 0 and recipe.blur_sigma[1] > 0,
        "solarise": recipe.solarise > 0,
        "jpeg": recipe.jpeg_probability > 0,
        "cutout": recipe.cutout_probability > 0 and recipe.cutout_side[1] > 0,
    }
    return tuple(name for name, needed in used.items() if needed)


def _chance(batch: int, probability: float, generator: Generator) -> ndarray:
    """[B, 1]: 1 with the given probability, else 0."""
    return (uniform((batch, 1), 0, 1, generator) < probability).astype(float)


def _draw_colour(recipe: Recipe, batch: int, generator: Generator) -> ndarray:
    """[B, 3, 6]: brightness, contrast, saturation and hue in a random order, then possibly grey."""
    identity, luma = np.eye(3), np.tile(GREY, (3, 1))
    sizes = recipe.brightness, recipe.contrast, recipe.saturation
    brightness, contrast, saturation = (uniform((batch, 1, 1), 1 - x, 1 + x, generator) for x in sizes)
    hue = _hue_matrix(uniform((batch,), -recipe.hue, recipe.hue, generator) * 2 * math.pi)
    saturated = saturation * identity + (1 - saturation) * luma
    steps = np.stack([brightness * identity, contrast * identity, saturated, hue], 1)  # [B, 4, 3, 3]
    order = uniform((batch, 4), 0, 1, generator).argsort(1)
    both = np.tile(np.concatenate([identity, np.zeros((3, 3))], 1), (batch, 1, 1))  # [M | K]
    for position in range(4):
        chosen = order[:, position]
        # Contrast adds (1 - c) times the mean luma of the picture so far, luma (M m + K m).
        offset = np.where(chosen == 1, 1 - contrast[:, 0, 0], 0.0)[:, None] * (GREY @ (both[:, :, :3] + both[:, :, 3:]))
        both = steps[np.arange(batch), chosen] @ both
        both[:, :, 3:] += offset[:, None]
    jittered = uniform((batch, 1, 1), 0, 1, generator) < recipe.colour_probability
    both = np.where(jittered, both, np.concatenate([identity, np.zeros((3, 3))], 1))
    return np.where(uniform((batch, 1, 1), 0, 1, generator) < recipe.grey, (GREY @ both)[:, None], both)


def _hue_matrix(angle: ndarray) -> ndarray:
    """[B, 3, 3]: a rotation of colours about the grey axis; a third of the circle maps red to green to blue."""
    cos, sin = np.cos(angle), np.sin(angle) / math.sqrt(3)
    same, before, after = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin, (1 - cos) / 3 + sin
    return np.stack([same, before, after, after, same, before, before, after, same], 1).reshape(-1, 3, 3)


def draw_crops(recipe: Recipe, batch: int, source: int, view: int, generator: Generator) -> tuple[ndarray, ...]:
    """Warp [B, 6], box [B, 4] and level [B, 2] of each view, as columns of a ViewTable.

    Chooses the first of ten candidates that fits into the picture and shows enough of the disc; otherwise the candidate
    that shows most of it; otherwise the whole picture. Crops without rotation start and end at whole pixels.
    """
    angle = uniform((batch,), -recipe.rotation, recipe.rotation, generator) * (math.pi / 180)
    candidates = _candidates(recipe, batch, source, generator)
    score = (candidates[2:] <= source).all(0).astype(float)
    if recipe.disc > 0:
        score *= _disc_share(candidates, angle, source).clip(max=recipe.disc)
    each, chosen = np.arange(batch), score.argmax(1)  # the first of equal scores
    all_of_it = np.array([0.0, 0.0, source, source])[:, None]
    left, top, width, height = np.where(score[each, chosen] > 0, candidates[:, each, chosen], all_of_it)
    flips = uniform((2, batch), 0, 1, generator) < np.array([[recipe.flip], [recipe.flip_vertical]])
    sign_x, sign_y = np.where(flips, -1.0, 1.0)
    cos, sin, scale_x, scale_y = np.cos(angle), np.sin(angle), sign_x * width / view, sign_y * height / view
    linear = np.stack([cos * scale_x, -sin * scale_y, sin * scale_x, cos * scale_y], 1).reshape(batch, 2, 2)
    centre = np.stack([left + width / 2, top + height / 2], 1) - 0.5
    warp = np.concatenate([linear, (centre - linear.sum(2) * (view - 1) / 2)[:, :, None]], 2).reshape(batch, 6)
    sides = level_sides(source, view)
    # The level of each crop, so that no source pixel is skipped: 1 reads the picture itself.
    factor = (np.sqrt(width * height) / view + 1e-3).astype(int).clip(1, len(sides))
    level = np.array([[side, sum(sides[:place])] for place, side in enumerate(sides)])[factor - 1]
    whole = np.array([0.0, 0.0, source - 1.0, source - 1.0])
    own = np.stack([left, top, left + width - 1, top + height - 1], 1)
    return warp, np.where((factor > 1)[:, None] | (recipe.rotation > 0), whole, own), level


def _candidates(recipe: Recipe, batch: int, source: int, generator: Generator) -> ndarray:
    """Left, top, width, height [4, B, 10] in source pixels; candidates may be larger than the source."""
    narrow, wide = recipe.crop_aspect
    cropped = uniform((batch, 1), 0, 1, generator) < recipe.crop_probability
    area = np.where(cropped, uniform((batch, TRIES), *recipe.crop_area, generator), 1.0)
    aspect = np.where(cropped, np.exp(uniform((batch, TRIES), math.log(narrow), math.log(wide), generator)), 1.0)
    place = uniform((2, batch, TRIES), 0, 1, generator)
    sides = np.sqrt(np.stack([area * aspect, area / aspect])) * source
    if recipe.rotation > 0:
        return np.concatenate([place * (source - sides), sides])
    sides = np.rint(sides).clip(1)
    return np.concatenate([np.floor(place * (source - sides + 1)), sides])


def _disc_share(candidates: ndarray, angle: ndarray, source: int) -> ndarray:
    """[B, 10]: share of each rotated crop that lies in the disc inscribed in the picture."""
    left, top, width, height = (candidates / source).astype(np.float32)[..., None, None]
    line = ((np.arange(DISC_POINTS) + 0.5) / DISC_POINTS - 0.5).astype(np.float32)
    x, y = width * line, height * line[:, None]
    cos, sin = np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)[..., None, None, None]
    across, down = left + width / 2 - 0.5 + cos * x - sin * y, top + height / 2 - 0.5 + sin * x + cos * y
    return (across * across + down * down <= 0.25).mean((2, 3))


def uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> ndarray:
    """Numbers drawn uniformly between low and high, in numpy: torch synchronises its threads in each operation."""
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64).numpy()


@dataclass(frozen=True)
class ViewPlan:
    """What all views of a batch share, whatever was drawn: a constant for torch.compile."""

    stages: tuple[str, ...]  # the operations that any view may need, in the order they are applied
    edge: str  # "repeat" or "black"
    sizes: tuple[int, int]  # of source and view


@dataclass(frozen=True)
class ViewTable:
    """Parameters of B views: values float32 [B, 41] on the CPU, one row per view; see `column` for their meaning."""

    values: Tensor
    plan: ViewPlan

    def __getitem__(self, part: slice) -> "ViewTable":
        return ViewTable(self.values[part], self.plan)

    def check(self, images: ndarray | Tensor, view_size: int) -> None:
        """FovealError unless the images uint8 [B, S, S, C] and the side of their views are those of this table."""
        count, (source, view), dtype = len(self.values), self.plan.sizes, str(images.dtype).removeprefix("torch.")
        if (dtype, view_size) != ("uint8", view) or images.shape not in [(count, source, source, c) for c in (1, 3)]:
            what = f"images {dtype} {[*images.shape]} for views of {view_size} px"
            raise FovealError("views.table", what, expected=f"uint8 {[count, source, source, 3]}, views of {view} px")

    @property
    def warp(self) -> Tensor:
        """[B, 2, 3]: maps (x, y, 1) of a view pixel to source pixels; pixel centres are whole numbers."""
        return column(self.values, "warp").unflatten(1, (2, 3))

    @property
    def colour(self) -> Tensor:
        """[B, 3, 6] = [M | K]: out = M x + K mean(x)."""
        return column(self.values, "colour").unflatten(1, (3, 6))


def column(values: Tensor, name: str) -> Tensor:
    """[B, n]: some columns of the table, without a copy.

    box (4): left, top, right, bottom of the pixel centres that may be read, in source pixels. level (2): side of the
    shrunken copy to read, and the row of the atlas where it starts. light (3): gain = 1 + a x + b y + c (x^2 + y^2 -
    2/3) over -1..1. detail (1): side of the reduced view in pixels, 0 = none. quality (1): of the JPEG, 0 = none.
    cutout (4): left, top, right, bottom in view pixels, right and bottom excluded.
    """
    return values[:, STARTS[name] : STARTS[name] + WIDTHS[name]]


def level_sides(source_size: int, view_size: int) -> list[int]:
    """Sides of the shrunken copies that views may read: the source divided by 1, 2, … while at least a view in size."""
    return [source_size // factor for factor in range(1, max(1, source_size // view_size) + 1)]
