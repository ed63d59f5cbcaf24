"""Contact sheets: what the network is shown, for people to look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from torch import Generator

from foveal.augment import opencv
from foveal.augment.draw import draw
from foveal.augment.recipes import Recipe

CELL = 112  # pixels of one picture on the sheet


def write_view_sheet(
    file: Path, originals: np.ndarray, recipe: Recipe, view_size: int, generator: Generator, views: int = 4
) -> None:
    """Write a JPEG: a column per image of uint8 [n, S, S, C], the original on top, random views below."""
    rows = [originals]
    for _ in range(views):
        table = draw(recipe, len(originals), originals.shape[1], view_size, generator)
        rows.append(opencv.apply(originals, table, view_size))
    write_sheet(file, rows)


def write_sheet(file: Path, rows: list[np.ndarray]) -> None:
    """Write rows of uint8 [n, S, S, C] pictures as one JPEG."""
    lines = [np.concatenate([_cell(picture) for picture in row], axis=1) for row in rows]
    sheet = np.concatenate(lines, axis=0)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    file.write_bytes(encoded.tobytes())


def _cell(picture: np.ndarray) -> np.ndarray:
    method = cv2.INTER_AREA if picture.shape[0] > CELL else cv2.INTER_LINEAR
    cell = cv2.resize(picture, (CELL - 4, CELL - 4), interpolation=method).reshape(CELL - 4, CELL - 4, -1)
    cell = np.repeat(cell, 3, axis=2) if cell.shape[2] == 1 else cell
    return np.pad(cell, ((2, 2), (2, 2), (0, 0)), constant_values=0)
