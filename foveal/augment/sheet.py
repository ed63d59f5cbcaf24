"""Contact sheets of random views, to check what the network is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont
from torch import Generator

from foveal.augment import opencv
from foveal.augment.draw import draw
from foveal.augment.recipes import Recipe
from foveal.files import replacing

SMALLEST, LARGEST = 96, 224  # pixels of one picture on the sheet
GAP, GROUP_GAP, HEAD = 4, 14, 26


def write_view_sheet(
    file: Path, originals: ndarray, recipes: Recipe | Sequence[Recipe], view_size: int, generator: Generator,
    pairs: int = 2,
) -> None:  # fmt: skip
    """Write a JPEG with one row per image: the original on the left, then pairs of random views.

    originals: uint8 [n, S, S, C]. recipes: one for all views, or one for the first and one for the second view.
    """
    both = (recipes, recipes) if isinstance(recipes, Recipe) else recipes
    columns = [("original", originals, 0)]  # name, pictures, extra space before them
    for _ in range(pairs):
        for name, recipe, space in zip(("first view", "second view"), both, (GROUP_GAP, 0), strict=True):
            table = draw(recipe, len(originals), originals.shape[1], view_size, generator)
            columns.append((name, opencv.apply(originals, table, view_size), space))
    with replacing(file) as partial:
        _lay_out(columns, min(LARGEST, max(SMALLEST, view_size))).save(partial, "JPEG", quality=92)


def _lay_out(columns: list[tuple[str, ndarray, int]], cell: int) -> Image.Image:
    """Arrange columns of pictures of `cell` pixels, each under its name."""
    step = cell + GAP
    width = GAP + sum(space + step for _, _, space in columns)
    sheet = Image.new("RGB", (width, HEAD + len(columns[0][1]) * step), "white")
    text, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(14), GAP
    for name, pictures, space in columns:
        left += space
        text.text((left + cell / 2, HEAD / 2), name, fill=(60, 60, 60), font=font, anchor="mm")
        for number, picture in enumerate(pictures):
            sheet.paste(_cell(picture, cell), (left, HEAD + number * step))
        left += step
    return sheet


def _cell(picture: ndarray, side: int) -> Image.Image:
    """The picture at that size; a small one is enlarged without interpolation, to show the exact pixels."""
    method = Image.Resampling.BOX if picture.shape[0] > side else Image.Resampling.NEAREST
    return Image.fromarray(np.squeeze(picture, 2) if picture.shape[2] == 1 else picture).resize((side, side), method)
