"""Turn one photograph into the square that every later step sees: decode, find the disc, crop, normalise, measure.

`prepare` and `predict` both use this, so training, evaluation and prediction cannot differ.

`normalise` evens out what the camera did to a square: surround, lighting, contrast, colour. Its parts are options
because none is better on every camera: compare them on a camera that is not in the training set.

    mask         black outside the disc: removes a burnt-in date, a notch, a ragged rim
    local-mean   each pixel less the mean around it
    clahe        contrast raised tile by tile
    green        the green channel alone, where vessels and blood stand out most
"""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.fundus import quality
from foveal.fundus.crop import Disc, blacken_surround, crop_square, inscribed, whole_frame
from foveal.fundus.decode import decode
from foveal.fundus.disc import find_circle, find_disc
from foveal.fundus.header import MAXIMUM_PIXELS

# Least side of the disc in the decoded pixels, as a multiple of the final size. Reducing a JPEG while decoding filters
# well by itself, so the last step needs few additional pixels: docs/ideas/decoding.md has the differences.
_LEAST_OVERSAMPLING = 1.35
_FRAME_OVERSAMPLING = 1.5  # first try, of the frame's short side: enough for discs of 0.9 of it and more
_ALWAYS_WRITTEN = ("size", "crop", "channels")
_GREY_RIM = 100  # grey level: of a rim between a white surround and a retina, which has little blue
CROPS = ("ellipse", "disc", "none")
ENHANCEMENTS = ("none", "local-mean", "clahe")
_KEPT_RADIUS = 0.97  # of the inscribed circle: the rim of a photograph is ragged and coloured by the aperture
_GAIN, _MIDDLE_GREY = 4.0, 128.0  # Graham's values
_SIGMA = 1 / 60  # of the side, Graham's 1/30 of the radius
_CLIP_LIMIT, _TILES = 2.0, (8, 8)  # OpenCV's default tiles; its default limit of 40 makes noise visible
_NEAR_BLACK = 10  # grey levels of 255; surrounds are rarely pure black (sensor noise, JPEG)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How pictures become arrays; stored in card.json and model.json. FovealError for impossible values."""

    size: int  #: side of the result in pixels
    #: "ellipse": the retinal disc, made round where it was squeezed; "disc": the disc if it is round, as in older sets;
    #: both the whole frame where none is found. "none": the whole frame.
    crop: str
    channels: int = 3  #: 3 (RGB) or 1 (grey, or green)
    fit: str = "pad"  #: of a whole frame that is not square: "pad": all of it, with black; "cut": its centre
    mask: bool = False  #: black outside the inscribed circle
    enhance: str = "none"  #: "none", "local-mean" (each pixel less the mean around it), or "clahe" (contrast by tiles)
    green: bool = False  #: the one channel is green, not grey

    def __post_init__(self) -> None:
        for name, values in (("crop", CROPS), ("channels", (1, 3)), ("fit", ("pad", "cut")), ("enhance", ENHANCEMENTS)):
            if getattr(self, name) not in values:
                what = f"the option {name} is {getattr(self, name)!r}"
                raise FovealError("option.value", what, expected=f"one of {', '.join(map(str, values))}")
        if not isinstance(self.size, int | np.integer) or self.size < 8:
            raise FovealError("option.value", f"the size is {self.size} px", expected="a whole number, at least 8")
        if self.green and self.channels != 1:
            raise FovealError("option.conflict", "green keeps one channel, but channels is 3", expected="channels 1")

    def asked(self, fundus: bool) -> dict[str, Any]:
        """The options of `foveal prepare` for this preparation."""
        return {k: v for k, v in asdict(self).items() if k != "channels"} | {"fundus": "yes" if fundus else "no"}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; omits options at their default, so that files older than these options stay equal."""
        defaults = {option.name: option.default for option in fields(self)}
        return {k: v for k, v in asdict(self).items() if k in _ALWAYS_WRITTEN or v != defaults[k]}


@dataclass(frozen=True)
class Prepared:
    """One picture, ready to be stored or graded."""

    pixels: np.ndarray  #: uint8 [S, S, C], what the network sees
    width: int  #: of the original in px
    height: int
    square: np.ndarray  #: uint8 [S, S, 3] RGB, the same crop before mask, enhancement and change of channels
    flags: tuple[str, ...] = ()  #: words such as `no-disc`
    measures: dict[str, float] = field(default_factory=dict)  #: as in measures.csv; empty if not measured
    sides: tuple[str, ...] = ()  #: on which the disc is cut off, for the flag `cut-off`
    file_sha256: str = ""  #: where `prepare` read a file


def prepare_file(
    source: Path | bytes, preparation: Preparation, measure: bool = False, *, name: str = "",
    most_pixels: int = MAXIMUM_PIXELS,
) -> Prepared:  # fmt: skip
    """Decode and prepare one picture file, or the bytes of one, as `decode` takes it; `measure` adds its quality."""
    read = partial(decode, source, name=name, most_pixels=most_pixels)
    decoded = read(minimum=round(_FRAME_OVERSAMPLING * preparation.size))
    frame, disc = locate(decoded.pixels, preparation)
    reduced, side = max(decoded.width, decoded.height) > max(frame.shape), min(disc.width, disc.height)
    if reduced and side < _LEAST_OVERSAMPLING * preparation.size:
        decoded = read(minimum=math.ceil(_LEAST_OVERSAMPLING * preparation.size * min(frame.shape[:2]) / side))
        frame, disc = locate(decoded.pixels, preparation)
    return _finish(decoded.pixels, frame, disc, preparation, measure, (decoded.width, decoded.height))


def prepare_pixels(pixels: np.ndarray, preparation: Preparation, measure: bool = False) -> Prepared:
    """Crop and resize uint8 [h, w, 3], [h, w, 1] or [h, w]; `measure` adds its `measures`, `flags` and `sides`."""
    if pixels.dtype != np.uint8 or pixels.ndim < 2 or not pixels.size or pixels.shape[2:] not in ((), (1,), (3,)):
        raise FovealError("image.array", f"{pixels.dtype} pixels {[*pixels.shape]}", expected="uint8 [h, w, 3 or 1]")
    pixels = np.repeat(pixels, 3, axis=2) if (pixels := np.atleast_3d(pixels)).shape[2] == 1 else pixels
    return _finish(pixels, *locate(pixels, preparation), preparation, measure, (pixels.shape[1], pixels.shape[0]))


def at_size(images: np.ndarray, size: int) -> np.ndarray:
    """Resize prepared squares uint8 [n, S, S, C] to [n, size, size, C]; by area if they shrink."""
    if images.shape[1] == size:
        return np.ascontiguousarray(images)
    method = cv2.INTER_AREA if images.shape[1] > size else cv2.INTER_LINEAR
    resized = [cv2.resize(image, (size, size), interpolation=method) for image in images]
    return np.stack(resized).reshape(len(images), size, size, images.shape[3])


def locate(pixels: np.ndarray, preparation: Preparation) -> tuple[np.ndarray, Disc]:
    """Return the frame, and the rectangle to cut from it; if a white surround hid the disc, it is made black."""
    if preparation.crop != "none":
        find, darkest_rim = (find_disc, _GREY_RIM) if preparation.crop == "ellipse" else (find_circle, 0)
        disc = find(pixels)
        if disc.found:
            return pixels, disc
        darkened = blacken_surround(pixels, darkest_rim)
        disc = disc if darkened is pixels else find(darkened)
        if disc.found:
            return darkened, disc
    return pixels, whole_frame(pixels.shape[1], pixels.shape[0], preparation.fit == "cut")


def _finish(
    picture: np.ndarray, frame: np.ndarray, disc: Disc, preparation: Preparation, measured: bool,
    original: tuple[int, int],
) -> Prepared:  # fmt: skip
    """Cut the square, measure and normalise it; picture: before `locate`; original: width and height in px."""
    size = preparation.size
    square = crop_square(frame, disc, size)
    flags: tuple[str, ...] = ("no-disc",) if preparation.crop != "none" and not disc.found else ()
    measures = quality.measure(square, disc, frame, picture) if measured else {}
    if measured and not disc.found and preparation.crop != "ellipse":  # whether it is a retina is not up to the crop
        own, found = locate(picture, replace(preparation, crop="ellipse"))
        if found.found:
            measures["retina"] = quality.measure(crop_square(own, found, size), found, own, picture)["retina"]
    if size >= quality.RELIABLE_FROM:
        flags += quality.flags_of(measures)
    pixels = normalise(square, mask=preparation.mask, enhance=preparation.enhance, green=preparation.green)
    if pixels.shape[2] > preparation.channels:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    sides = quality.cut_sides(square, disc, frame) if "cut-off" in flags else ()
    return Prepared(pixels, *original, square, flags, measures, sides)


def normalise(square: np.ndarray, *, mask: bool = False, enhance: str = "none", green: bool = False) -> np.ndarray:
    """Mask a square uint8 `[S, S, 3]`, enhance it, and take its green channel: `[S, S, 3]`, or `[S, S, 1]` if green."""
    if mask:
        square = np.where(inscribed(len(square), _KEPT_RADIUS)[..., None], square, np.uint8(0))
    if enhance == "local-mean":
        square = subtract_local_mean(square)
    elif enhance == "clahe":
        # Its lightness, or its green channel alone, equalised in tiles (Zuiderveld 1994).
        picture, channel = (square.copy(), 1) if green else (cv2.cvtColor(square, cv2.COLOR_RGB2LAB), 0)
        equaliser = cv2.createCLAHE(_CLIP_LIMIT, _TILES)  # a new one each time: threads must not share it
        picture[..., channel] = equaliser.apply(np.ascontiguousarray(picture[..., channel]))
        picture = picture if green else cv2.cvtColor(picture, cv2.COLOR_LAB2RGB)
        square = np.where(lit(square)[..., None], picture, np.uint8(0))
    return np.ascontiguousarray(square[..., 1:2]) if green else square


def subtract_local_mean(square: np.ndarray) -> np.ndarray:
    """Return 4 x (pixel - mean around it) + 128, clipped; 128 outside the photograph. uint8 `[S, S, 3]`.

    The mean is Gaussian with sigma = 1/30 of the radius, over lit pixels only: otherwise the black surround makes a
    bright rim. Source: B. Graham, Kaggle Diabetic Retinopathy Detection competition report, 2015.
    """
    weights = (lit(square) & inscribed(len(square), _KEPT_RADIUS)).astype(np.float32)
    sigma = max(0.5, _SIGMA * len(square))
    total = cv2.GaussianBlur(square * weights[..., None], (0, 0), sigma)
    mean = total / np.maximum(cv2.GaussianBlur(weights, (0, 0), sigma), 1e-3)[..., None]
    return ((square - mean) * (_GAIN * weights[..., None]) + _MIDDLE_GREY).round().clip(0, 255).astype(np.uint8)


def lit(square: np.ndarray) -> np.ndarray:
    """Which pixels show the eye and not the black around it: bool `[S, S]`; dark spots in the eye count as eye."""
    bright = (cv2.max(cv2.max(square[..., 0], square[..., 1]), square[..., 2]) > _NEAR_BLACK).astype(np.uint8)
    across = max(3, len(square) // 32)
    return cv2.morphologyEx(bright, cv2.MORPH_CLOSE, np.ones((across, across), np.uint8)) > 0
