"""Even out what the camera did to a cropped square: surround, lighting, contrast, colour.

    mask         black outside the disc: removes a burnt-in date, a notch, a ragged rim
    local-mean   each pixel less the mean around it (Graham 2015)
    clahe        contrast raised tile by tile (Zuiderveld 1994)
    green        the green channel alone, where vessels and blood stand out most

Each depends on one square only, so training and prediction cannot differ.
They are options because none is better on every camera: compare them on a camera that is not in the training set.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.fundus.crop import check_array

ENHANCEMENTS = ("none", "local-mean", "clahe")

_KEPT_RADIUS = 0.97  # of the inscribed circle: the rim of a photograph is ragged and coloured by the aperture
_GAIN, _MIDDLE_GREY = 4.0, 128.0  # Graham's values
_SIGMA = 1 / 60  # of the side, Graham's 1/30 of the radius
_CLIP_LIMIT, _TILES = 2.0, (8, 8)  # OpenCV's default tiles; its default limit of 40 makes noise visible
_NEAR_BLACK = 10  # grey levels of 255; surrounds are rarely pure black (sensor noise, JPEG)


def normalise(square: np.ndarray, *, mask: bool = False, enhance: str = "none", green: bool = False) -> np.ndarray:
    """Apply the options to one square, in the order mask, enhancement, green channel.

    `square`: uint8 `[S, S, 3]` RGB, which is not changed. Returns uint8 `[S, S, 3]`, or `[S, S, 1]` with `green`.
    Raises FovealError for other arrays and for an `enhance` that is not in `ENHANCEMENTS`.
    """
    check_array(square, (3,), square=True)
    if enhance not in ENHANCEMENTS:
        raise FovealError("option.value", f"enhance is '{enhance}'", expected=f"one of {', '.join(ENHANCEMENTS)}")
    if mask:
        square = mask_circle(square)
    if enhance == "local-mean":
        square = subtract_local_mean(square)
    elif enhance == "clahe":
        square = equalise(square, green)
    return np.ascontiguousarray(square[..., 1:2]) if green else square


def mask_circle(square: np.ndarray) -> np.ndarray:
    """Return uint8 `[S, S, 3]`, black outside `circle`."""
    return np.where(circle(len(square))[..., None], square, np.uint8(0))


def subtract_local_mean(square: np.ndarray) -> np.ndarray:
    """Return 4 x (pixel - mean around it) + 128, clipped; 128 (no difference) outside the photograph.

    The mean is Gaussian with sigma = 1/30 of the radius, over lit pixels only: otherwise the black surround makes a
    bright rim, for which Graham cut off the outer tenth of the radius. `square` and result: uint8 `[S, S, 3]`.
    Source: B. Graham, Kaggle Diabetic Retinopathy Detection competition report, 2015.
    """
    inside = lit(square) & circle(len(square))
    weights = inside.astype(np.float32)
    sigma = max(0.5, _SIGMA * len(square))
    total = cv2.GaussianBlur(square * weights[..., None], (0, 0), sigma)
    mean = total / np.maximum(cv2.GaussianBlur(weights, (0, 0), sigma), 1e-3)[..., None]
    difference = (square - mean) * (_GAIN * weights[..., None]) + _MIDDLE_GREY
    return difference.round().clip(0, 255).astype(np.uint8)


def equalise(square: np.ndarray, green: bool = False) -> np.ndarray:
    """Return the square with its lightness (of CIE Lab), or its green channel alone, equalised in 8 x 8 tiles.

    `square` and result: uint8 `[S, S, 3]`; hues stay, and the surround becomes black.
    Source: K. Zuiderveld, Contrast limited adaptive histogram equalization, Graphics Gems IV, 1994.
    """
    equaliser = cv2.createCLAHE(_CLIP_LIMIT, _TILES)  # a new one each time: threads must not share it
    if green:
        result = square.copy()
        result[..., 1] = equaliser.apply(np.ascontiguousarray(square[..., 1]))
    else:
        lab = cv2.cvtColor(square, cv2.COLOR_RGB2LAB)
        lab[..., 0] = equaliser.apply(np.ascontiguousarray(lab[..., 0]))
        result = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.where(lit(square)[..., None], result, np.uint8(0))


def lit(square: np.ndarray) -> np.ndarray:
    """Which pixels show the eye and not the black around it: bool `[S, S]`; dark spots in the eye count as eye."""
    bright = (cv2.max(cv2.max(square[..., 0], square[..., 1]), square[..., 2]) > _NEAR_BLACK).astype(np.uint8)
    across = max(3, len(square) // 32)
    return cv2.morphologyEx(bright, cv2.MORPH_CLOSE, np.ones((across, across), np.uint8)) > 0


@cache
def circle(size: int) -> np.ndarray:
    """Which pixels of a square of `size` px lie inside its inscribed circle, less 3 % of the radius: bool `[S, S]`."""
    offset = np.arange(size) + 0.5 - size / 2
    inside = np.hypot(offset[:, None], offset) <= _KEPT_RADIUS * size / 2
    inside.flags.writeable = False  # every caller gets the same array
    return inside
