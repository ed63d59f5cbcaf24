"""Overlays: a map laid over the original photograph, with its top tenth outlined and a legend below."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from foveal.fundus.crop import Disc

LEAST_SIDE = 640  # px: smaller pictures are enlarged, or the legend could not be read
OPACITY = 0.6  # of the strongest places; nothing is laid over where the map is empty
TOP = 0.9  # the outlined places are those above this share of the retina
_MARGIN = 0.6  # of the legend's letter height
_CLIPPED = 99.8  # percentile of the retina that gets the last colour: one pixel must not darken all others


@cache
def _colours() -> np.ndarray:
    """uint8 [256, 3]: viridis, which is perceptually uniform and unlike anything in an eye."""
    return (np.asarray(colormaps["viridis"](np.arange(256)))[:, :3] * 255).round().astype(np.uint8)


def overlay(frame: np.ndarray, square: Disc, heat: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """A photograph uint8 [h, w, 3] with the map float [s, s] of its `square` over it, uint8 of the same or larger size.

    `retina`: bool [S, S], of the same square: the scale and the outlined tenth are taken from it. Photographs with a
    short side below `LEAST_SIDE` are enlarged by a whole factor.
    """
    frame, square = _enlarged(frame, square)
    side = max(round(square.side), 1)
    small_retina = cv2.resize(retina.astype(np.uint8), heat.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    top = float(np.percentile(heat[small_retina], _CLIPPED)) if small_retina.any() else 0.0
    if top <= 0:
        return frame
    strength = _placed(cv2.resize((heat / top).astype(np.float32), (side, side)).clip(0, 1), square, frame.shape[:2])
    alpha = (OPACITY * np.sqrt(strength))[..., None]
    painted = (frame * (1 - alpha) + _colours()[(strength * 255).astype(np.uint8)] * alpha).round().astype(np.uint8)
    return _outlined(painted, strength, float(np.quantile(heat[small_retina], TOP)) / top)


def _enlarged(frame: np.ndarray, square: Disc) -> tuple[np.ndarray, Disc]:
    factor = -(-LEAST_SIDE // min(frame.shape[:2]))
    if factor <= 1:
        return frame, square
    larger = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return larger, Disc(square.left * factor, square.top * factor, square.side * factor, square.found)


def _placed(map_: np.ndarray, square: Disc, shape: tuple[int, int]) -> np.ndarray:
    """The map [side, side] where its square lies in a frame of this shape, 0 elsewhere: crop_square turned round."""
    left, top, side = round(square.left), round(square.top), len(map_)
    rows = slice(max(top, 0), min(top + side, shape[0]))
    columns = slice(max(left, 0), min(left + side, shape[1]))
    placed = np.zeros(shape, np.float32)
    placed[rows, columns] = map_[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return placed


def _outlined(picture: np.ndarray, strength: np.ndarray, level: float) -> np.ndarray:
    """White lines with a dark edge around what is above `level`: seen on bright and on dark retina."""
    if level <= 0:
        return picture
    contours, _ = cv2.findContours((strength > level).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = max(round(min(picture.shape[:2]) / 350), 2)  # a line of one pixel is grey once it is smoothed
    for colour, thickness in (((0, 0, 0), 3 * width), ((255, 255, 255), width)):
        cv2.drawContours(picture, contours, -1, colour, thickness, cv2.LINE_AA)
    return picture


def with_legend(picture: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """uint8 [h, w, 3] with the colour scale and `lines` of text in a strip below it; long lines are folded."""
    width = picture.shape[1]
    height = max(round(width / 42), 13)
    font = ImageFont.load_default(height)
    margin = round(_MARGIN * height)
    folded = [part for line in lines for part in _folded(line, font, width - 2 * margin)]
    strip = Image.new("RGB", (width, round(1.35 * height * (len(folded) + 1)) + 2 * margin), (18, 18, 18))
    draw = ImageDraw.Draw(strip)
    scale = cv2.resize(_colours()[None], (10 * height, round(0.8 * height)))
    strip.paste(Image.fromarray(scale), (margin, margin))
    draw.text((margin + 11 * height, margin - 0.15 * height), "nothing to most", fill=(240, 240, 240), font=font)
    for number, line in enumerate(folded, start=1):
        draw.text((margin, margin + round(1.35 * height * number)), line, fill=(240, 240, 240), font=font)
    return np.concatenate([picture, np.asarray(strip)])


def _folded(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    parts = [""]
    for word in line.split(" "):
        longer = f"{parts[-1]} {word}".strip()
        if parts[-1] and font.getlength(longer) > width:
            parts.append(word)
        else:
            parts[-1] = longer
    return parts


def to_jpeg(picture: np.ndarray) -> bytes:
    """The bytes of a JPEG file of uint8 [h, w, 3] RGB."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return encoded.tobytes()
