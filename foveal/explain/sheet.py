"""A sheet of drawn photographs with outlined lesions, and the map of every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from foveal.explain.explainer import Explanation
from foveal.fundus.crop import whole_frame
from foveal.fundus.overlay import overlay

CELL = 320  # px
_HEAD = 28  # px: height of the header


def sheet(
    pictures: Sequence[tuple[np.ndarray, np.ndarray]], explained: Sequence[Mapping[str, Explanation]]
) -> np.ndarray:
    """uint8 [h, w, 3]: a row per picture, (prepared uint8 [S, S, C], lesions uint8 [S, S]), a column per method."""
    rows = [_heads(["lesions", *explained[0]])]
    for (pixels, lesions), maps in zip(pictures, explained, strict=True):
        frame = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        square = whole_frame(len(frame), len(frame))
        cells = [_with_outlines(frame, lesions)]
        cells += [_cell(overlay(frame, square, found.heat, found.retina)) for found in maps.values()]
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows)


def _with_outlines(frame: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    mask = cv2.resize(lesions, (CELL, CELL), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn: np.ndarray = cv2.drawContours(_cell(frame).copy(), contours, -1, (90, 230, 255), 1, cv2.LINE_AA)
    return drawn


def _cell(picture: np.ndarray) -> np.ndarray:
    method = cv2.INTER_AREA if len(picture) > CELL else cv2.INTER_CUBIC
    return cv2.resize(picture, (CELL, CELL), interpolation=method)


def _heads(names: Sequence[str]) -> np.ndarray:
    strip = Image.new("RGB", (CELL * len(names), _HEAD), (18, 18, 18))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(16)
    for number, name in enumerate(names):
        draw.text((number * CELL + 8, 5), name, fill=(240, 240, 240), font=font)
    return np.asarray(strip)
