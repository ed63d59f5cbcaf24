"""Turn one photograph into the square that every later step sees: decode, find the disc, crop, normalise, measure.

`prepare` and `predict` both use this, so training, evaluation and prediction cannot differ.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.fundus import quality
from foveal.fundus.crop import Disc, blacken_surround, crop_square, find_disc, whole_frame
from foveal.fundus.decode import Decoded, decode
from foveal.fundus.header import MAXIMUM_PIXELS
from foveal.fundus.normalise import ENHANCEMENTS, normalise

# Least side of the disc in the decoded pixels, as a multiple of the final size. Reducing a JPEG while decoding filters
# well by itself, so the last step needs few additional pixels: docs/crops.md has the differences.
_LEAST_OVERSAMPLING = 1.35
_FRAME_OVERSAMPLING = 1.5  # first try, of the frame's short side: enough for discs of 0.9 of it and more
_ALWAYS_WRITTEN = ("size", "crop", "channels")


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How pictures become arrays; stored in card.json and model.json. FovealError for impossible values."""

    size: int  # side of the result in pixels
    crop: str  # "disc": the retinal disc, or the whole frame where none is found; "none": the whole frame
    channels: int = 3  # 3 (RGB) or 1 (grey, or green)
    fit: str = "pad"  # of a whole frame that is not square: "pad": all of it, with black; "cut": its centre
    mask: bool = False  # black outside the inscribed circle
    enhance: str = "none"  # "none", "local-mean", "clahe": see normalise.py
    green: bool = False  # the one channel is green, not grey

    def __post_init__(self) -> None:
        known = {"crop": ("disc", "none"), "channels": (1, 3), "fit": ("pad", "cut"), "enhance": ENHANCEMENTS}
        for name, values in known.items():
            if getattr(self, name) not in values:
                what = f"{name} of a preparation is {getattr(self, name)!r}"
                raise FovealError("option.value", what, expected=f"one of {', '.join(map(str, values))}")
        if self.size < 8:
            raise FovealError("option.value", f"size of a preparation is {self.size} px", expected="at least 8")
        if self.green and self.channels != 1:
            raise FovealError("option.conflict", "green keeps one channel, but channels is 3", expected="channels 1")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; omits options at their default, so that files older than these options stay equal."""
        defaults = {option.name: option.default for option in fields(self)}
        return {k: v for k, v in asdict(self).items() if k in _ALWAYS_WRITTEN or v != defaults[k]}


@dataclass(frozen=True)
class Prepared:
    """One picture, ready to be stored or graded.

    `pixels`: uint8 `[S, S, C]`, what the network sees. `width`, `height`: of the original in px.
    `square`: uint8 `[S, S, 3]` RGB, the same crop before mask, enhancement and change of channels.
    `flags`: words such as `no-disc`. `measures`: see quality.py; empty where nothing was measured.
    """

    pixels: np.ndarray
    width: int
    height: int
    square: np.ndarray
    flags: tuple[str, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)


def prepare_file(
    source: Path | bytes, preparation: Preparation, measure: bool = False, *, name: str = "",
    most_pixels: int = MAXIMUM_PIXELS,
) -> Prepared:  # fmt: skip
    """Decode and prepare one picture file, or the bytes of one; `measure` adds its quality.

    `name`, `most_pixels` and errors: as of `decode`.
    """
    read = partial(decode, source, name=name, most_pixels=most_pixels)
    decoded = read(minimum=round(_FRAME_OVERSAMPLING * preparation.size))
    frame, disc = locate(decoded.pixels, preparation)
    reduced = max(decoded.width, decoded.height) > max(frame.shape)
    if reduced and disc.side < _LEAST_OVERSAMPLING * preparation.size:
        short = min(frame.shape[:2])
        decoded = read(minimum=math.ceil(_LEAST_OVERSAMPLING * preparation.size * short / disc.side))
        frame, disc = locate(decoded.pixels, preparation)
    return _finish(Decoded(frame, decoded.width, decoded.height), disc, preparation, measure)


def prepare_pixels(
    pixels: np.ndarray, preparation: Preparation, width: int | None = None, height: int | None = None,
    measure: bool = False,
) -> Prepared:  # fmt: skip
    """Prepare uint8 [h, w, 3 or 1]; `width` and `height`: of the original, where it was larger."""
    rows, columns = pixels.shape[:2]
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    frame, disc = locate(pixels, preparation)
    return _finish(Decoded(frame, width or columns, height or rows), disc, preparation, measure)


def at_size(images: np.ndarray, size: int) -> np.ndarray:
    """Resize prepared squares uint8 [n, S, S, C] to [n, size, size, C]; by area where they shrink."""
    if images.shape[1] == size:
        return np.ascontiguousarray(images)
    method = cv2.INTER_AREA if images.shape[1] > size else cv2.INTER_LINEAR
    resized = [cv2.resize(image, (size, size), interpolation=method) for image in images]
    return np.stack(resized).reshape(len(images), size, size, images.shape[3])


def locate(pixels: np.ndarray, preparation: Preparation) -> tuple[np.ndarray, Disc]:
    """Return the frame, and the square to cut from it; if a white surround hid the disc, it is made black."""
    if preparation.crop == "disc":
        disc = find_disc(pixels)
        if disc.found:
            return pixels, disc
        darkened = blacken_surround(pixels)
        disc = disc if darkened is pixels else find_disc(darkened)
        if disc.found:
            return darkened, disc
    rows, columns = pixels.shape[:2]
    if preparation.fit == "pad":
        return pixels, whole_frame(columns, rows)
    side = min(rows, columns)
    return pixels, Disc((columns - side) / 2, (rows - side) / 2, float(side), found=False)


def _finish(decoded: Decoded, disc: Disc, preparation: Preparation, measured: bool) -> Prepared:
    frame, size = decoded.pixels, preparation.size
    whole = frame.shape[:2] == (size, size) and (disc.left, disc.top, disc.side) == (0, 0, size)
    square = frame if whole else crop_square(frame, disc, size)
    flags: tuple[str, ...] = ("no-disc",) if preparation.crop == "disc" and not disc.found else ()
    measures = quality.measure(square, disc, frame) if measured else {}
    if size >= quality.RELIABLE_FROM:
        flags += quality.flags_of(measures)
    pixels = normalise(square, mask=preparation.mask, enhance=preparation.enhance, green=preparation.green)
    if pixels.shape[2] > preparation.channels:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    return Prepared(pixels, decoded.width, decoded.height, square, flags, measures)
