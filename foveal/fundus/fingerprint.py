"""Fingerprints: 254 small numbers that hardly change when a photograph is saved again, shrunk or cropped a little.

Fundus photographs look alike at a coarse scale; the vessels tell them apart. So brightness is levelled first (each
pixel less the mean of its neighbourhood, divided by its spread), the rim and everything dark is left out, and a cosine
transform keeps the wavelengths at which the larger vessels are spaced. Mirroring changes the sign of its horizontally
odd waves and nothing else. With E and O the similarities of the even and the odd halves, E + O compares two pictures,
and E - O compares one with the mirror image of the other.

After Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010). Here each number keeps its
magnitude, in four bits: by signs alone, different eyes look alike.
"""

import re
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from foveal.errors import FovealError

LEAST_SIDE = 64  # px: smaller pictures show no vessels; their fingerprint is 0, which matches no other
SIDE = 64  # px of the copy that is analysed
NEIGHBOURHOOD = 2.0  # px of that copy: standard deviation of the neighbourhood
# Half waves per side. It takes 15 to tell other eyes from copies; above 18 a crop by 3 % starts to hurt (Messidor-2).
_LOWEST, _HIGHEST = 4, 18
_FADE = (0.7, 0.9)  # radii between which the picture fades out: the rim shows the camera, and moves with the crop
_LEVELS = 7  # fingerprints hold -7..7
_FLAT = 1.0  # deviation of the waves: the haziest of 4,770 photographs has 18, noise of one grey level 9, rounding 0.01
_STEPS_PER_DEVIATION = 2.5  # so 2.8 standard deviations fit; clipping the rest helps to tell eyes apart
_DARK = 0.25  # of the median brightness in the middle: darker pixels are background
_FRAMED = 0.9  # of the side: a photograph that covers less has a black frame, since discs are cut out closely
_SPECK = 0.04  # of the side: a row with fewer bright pixels shows burnt-in text or noise
_CLIP = 2.0  # local standard deviations: an exudate or a reflection must not outweigh all vessels
_NOISE = 0.03  # of the picture's spread, added to the local one so that flat regions do not turn into noise
_FLOOR = 0.1  # grey levels, for the same reason, where the whole picture is flat


def fingerprint(square: np.ndarray) -> np.ndarray:
    """Summarise a prepared photograph, to search for copies and mirrored copies.

    `square`: uint8 `[S, S, 3 or 1]`, cropped but not enhanced. Returns int8 `[254]` in -7..7: first `even_count()`
    numbers that mirroring keeps, then those whose sign it changes; all 0 for S < 64 and for flat pictures.
    Brightness, contrast, colour and S hardly matter.
    """
    (rows, columns), waves = _kept(), _waves()
    if len(square) < LEAST_SIDE:
        return np.zeros(len(rows), np.int8)
    picture = (detail(square, SIDE, NEIGHBOURHOOD) * fade(SIDE)).astype(np.float64)
    # The sums of `@` depend on the number of threads; a set must have the same bytes wherever it is made.
    spectrum = np.einsum("ij,kj->ik", np.einsum("ij,jk->ik", waves, picture), waves)
    numbers = spectrum[rows, columns]
    deviation = np.sqrt(np.mean(numbers * numbers))
    steps = _STEPS_PER_DEVIATION / np.where(deviation < _FLAT, np.inf, deviation)
    return np.clip(np.rint(numbers * steps), -_LEVELS, _LEVELS).astype(np.int8)


def even_count() -> int:
    """How many numbers at the start of a fingerprint stay the same when the picture is mirrored."""
    return int((_kept()[1] % 2 == 0).sum())


def unit(numbers: np.ndarray) -> np.ndarray:
    """float32 `[n, d]` of length 1, of numbers `[n, d]`; a row of 0 stays 0 and is like no other."""
    numbers = numbers.astype(np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", numbers, numbers))[:, None]
    return np.divide(numbers, length, out=numbers, where=length > 0)


def detail(square: np.ndarray, side: int, neighbourhood: float, framed: bool = True) -> np.ndarray:
    """Level a picture until only its detail is left: local mean 0, local spread 1, and 0 in the background.

    `square`: uint8 `[S, S, 3 or 1]`; `neighbourhood`: its standard deviation in px of the result; `framed`: cut a wide
    dark frame away first. Returns float32 `[side, side]` in -2..2. No mean includes the background (normalised
    convolution: Knutsson and Westin, 1993); otherwise the edge of the disc would be the strongest detail.
    """
    grey = square[..., 0] if square.shape[2] == 1 else cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    grey = _without_frame(grey) if framed else grey
    way = cv2.INTER_AREA if side < len(grey) else cv2.INTER_LINEAR
    small = cv2.resize(grey, (side, side), interpolation=way).astype(np.float32)
    seen = cv2.erode((small > _DARK * _middle_level(small)).astype(np.float32), np.ones((3, 3), np.uint8))

    def blurred(picture: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(picture, (0, 0), neighbourhood, borderType=cv2.BORDER_REFLECT)

    weight = np.maximum(blurred(seen), 1e-3)  # in the background the quotients are 0, not undefined
    difference = (small - blurred(small * seen) / weight) * seen
    spread = np.sqrt(blurred(difference * difference) / weight)
    whole = float(np.sqrt((difference * difference).sum() / max(1.0, float(seen.sum()))))
    return np.clip(difference / (spread + _NOISE * whole + _FLOOR), -_CLIP, _CLIP)


@cache
def fade(side: int) -> np.ndarray:
    """Weights float32 `[side, side]`: 1 in the middle of the disc, 0 at its rim and outside."""
    centred = (np.arange(side) + 0.5) / side * 2 - 1
    radius = np.hypot(centred[:, None], centred[None])
    return np.clip((_FADE[1] - radius) / (_FADE[1] - _FADE[0]), 0, 1).astype(np.float32)


def to_text(numbers: np.ndarray) -> str:
    """Write one fingerprint, int8 `[254]`, as 254 hexadecimal digits."""
    digits = (numbers.astype(np.int16) + _LEVELS + 1).astype(np.uint8)
    return bytes(digits[0::2] << 4 | digits[1::2]).hex()


def from_text(texts: Sequence[str]) -> np.ndarray:
    """Read n texts of `to_text` back as int8 `[n, 254]`; all 0 for an empty text, FovealError for any other."""
    length = len(_kept()[0])
    texts = [text or "8" * length for text in texts]
    for text in texts:
        if not re.fullmatch(f"[0-9a-f]{{{length}}}", text):
            what = f"'{text[:40]}' is not a fingerprint"
            raise FovealError("table.fingerprint", what, expected=f"{length} hexadecimal digits")
    packed = np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(len(texts), length // 2)
    digits = np.stack([packed >> 4, packed & 15], axis=-1).reshape(len(texts), length)
    return digits.astype(np.int8) - np.int8(_LEVELS + 1)


def _middle_level(grey: np.ndarray) -> float:
    """The median of the middle of a square `[S, S]`."""
    quarter = len(grey) // 4
    return float(np.median(grey[quarter:-quarter, quarter:-quarter]))


def _lit_box(grey: np.ndarray, dark: float) -> tuple[slice, slice]:
    """The rows and columns of uint8 `[S, S]` that are brighter than `dark`, without specks; all if there are none."""
    bright = (grey > dark).astype(np.uint8)
    sums = (cv2.reduce(bright, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S) for axis in (0, 1))
    columns, rows = (np.flatnonzero(lit > _SPECK * len(grey)) for lit in sums)
    if not len(rows) or not len(columns):
        return slice(0, len(grey)), slice(0, len(grey))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _without_frame(grey: np.ndarray) -> np.ndarray:
    """Cut away the wide dark frame of a picture that was prepared without a search for discs. uint8 `[S, S]`."""
    rows, columns = _lit_box(grey, _DARK * _middle_level(grey))
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    if side > _FRAMED * len(grey):
        return grey
    top, left = (rows.start + rows.stop - side) // 2, (columns.start + columns.stop - side) // 2
    padded = cv2.copyMakeBorder(grey, side, side, side, side, cv2.BORDER_CONSTANT, value=0)
    return padded[top + side : top + 2 * side, left + side : left + 2 * side]


@cache
def _kept() -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each kept wave in the spectrum; horizontally even waves first."""
    vertical, horizontal = np.mgrid[:_HIGHEST, :_HIGHEST]
    frequency = np.hypot(vertical, horizontal)
    rows, columns = np.nonzero((frequency >= _LOWEST) & (frequency < _HIGHEST))
    order = np.argsort(columns % 2, kind="stable")
    return rows[order], columns[order]


@cache
def _waves() -> np.ndarray:
    """float64 `[18, 64]`: cosines of 0, 1, 2 … half waves over the side (DCT-II)."""
    halves, positions = np.arange(_HIGHEST)[:, None], np.arange(SIDE)[None] + 0.5
    return np.cos(np.pi * halves * positions / SIDE)
