"""Contact sheets: what the network is shown, for people to look at."""

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

SMALLEST, LARGEST = 96, 224  # pixels of one picture on the sheet
GAP, GROUP_GAP, HEAD = 4, 14, 26
PAPER, INK = 255, 60


def write_view_sheet(
    file: Path,
    originals: ndarray,
    recipes: Recipe | Sequence[Recipe],
    view_size: int,
    generator: Generator,
    pairs: int = 2,
) -> None:
    """Write a JPEG: a row per image of uint8 [n, S, S, C], the original on the left, pairs of random views beside it.

    recipes: one for all views, or those of the first and the second view.
    """
    both = (recipes, recipes) if isinstance(recipes, Recipe) else recipes
    groups = [[("original", originals)]]
    for _ in range(pairs):
        group = []
        for name, recipe in zip(("first view", "second view"), both, strict=True):
            table = draw(recipe, len(originals), originals.shape[1], view_size, generator)
            group.append((name, opencv.apply(originals, table, view_size)))
        groups.append(group)
    _lay_out(groups, min(LARGEST, max(SMALLEST, view_size))).save(file, "JPEG", quality=92)


def _lay_out(groups: list[list[tuple[str, ndarray]]], cell: int) -> Image.Image:
    """Columns of pictures under their names; columns of a group stand close together."""
    count, step = len(groups[0][0][1]), cell + GAP
    width = sum(len(group) * step for group in groups) + (len(groups) - 1) * GROUP_GAP + GAP
    sheet = Image.new("RGB", (width, HEAD + count * step), (PAPER,) * 3)
    text, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(14), GAP
    for group in groups:
        for name, pictures in group:
            text.text((left + cell / 2, HEAD / 2), name, fill=(INK,) * 3, font=font, anchor="mm")
            for number, picture in enumerate(pictures):
                sheet.paste(_cell(picture, cell), (left, HEAD + number * step))
            left += step
        left += GROUP_GAP
    return sheet


def _cell(picture: ndarray, side: int) -> Image.Image:
    """Small pictures are shown in whole pixels, so that nothing is seen that the network does not see."""
    method = Image.Resampling.BOX if picture.shape[0] > side else Image.Resampling.NEAREST
    return Image.fromarray(np.squeeze(picture, 2) if picture.shape[2] == 1 else picture).resize((side, side), method)
