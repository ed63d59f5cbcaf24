"""One photograph into the square that every later step sees: decode, find the disc, crop, shrink.

`prepare` and `predict` both come through here, so training, evaluation and prediction cannot differ.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foveal.fundus.crop import crop_square, find_disc, whole_frame
from foveal.fundus.decode import decode


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How pictures become arrays; kept in card.json and model.json."""

    size: int  # side of the result in pixels
    crop: str  # "disc": the retinal disc, or the whole frame where none is found; "none": the whole frame, padded
    channels: int = 3  # 3 (RGB) or 1 (grey)

    def __post_init__(self) -> None:
        if self.size < 8 or self.crop not in ("disc", "none") or self.channels not in (1, 3):
            raise ValueError(f"a preparation needs size >= 8, crop disc or none, channels 1 or 3; got {self}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Prepared:
    """pixels: uint8 [S, S, C]; width, height: of the original; flags: words, such as `no-disc`."""

    pixels: np.ndarray
    width: int
    height: int
    flags: tuple[str, ...] = ()


def prepare_file(path: Path, preparation: Preparation) -> Prepared:
    """Decode and prepare one picture file; raises DecodeError with a reason in plain words."""
    # Twice the final size leaves the disc finder and the area filter enough pixels after the decoder's shrinking.
    decoded = decode(path, 2 * preparation.size)
    return prepare_pixels(decoded.pixels, preparation, decoded.width, decoded.height)


def prepare_pixels(
    pixels: np.ndarray, preparation: Preparation, width: int | None = None, height: int | None = None
) -> Prepared:
    """Prepare uint8 [h, w, 3 or 1]; width and height are those of the original where it was larger."""
    rows, columns = pixels.shape[:2]
    pixels = _to_channels(pixels, preparation.channels)
    disc = find_disc(_to_channels(pixels, 3)) if preparation.crop == "disc" else whole_frame(columns, rows)
    flags = ("no-disc",) if preparation.crop == "disc" and not disc.found else ()
    square = rows == columns == preparation.size and disc.side == rows and disc.left == disc.top == 0
    result = pixels if square else crop_square(pixels, disc, preparation.size)
    return Prepared(result.reshape(preparation.size, preparation.size, -1), width or columns, height or rows, flags)


def _to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
