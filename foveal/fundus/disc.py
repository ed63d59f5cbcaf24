"""Find the retinal disc in a photograph: a circle, or the upright ellipse that squeezing to a square makes of it.

No single threshold separates disc and background in dark, hazy and overexposed photographs, so a few are tried. At
each, the outline of the largest bright region is compared with a circle and with an ellipse (rim.py).

`find_circle` accepts circles only. It is the finder of sets and graders from before ellipses could be found, and must
not change: those graders have to see the squares that they were trained on.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import cv2
import numpy as np

from foveal.fundus.crop import Disc, whole_frame
from foveal.fundus.rim import TOLERANCE, beyond, fit_circle, fit_ellipse, support

_ANALYSED_SIDE = 256  # long side in px of the copy that is analysed; one of its pixels is about 0.4 % of a disc
_LEVELS = (0.16, 0.07, 0.35)  # brightness of the outline, from background (0) to the middle of the frame (1)
_LEAST_CONTRAST = 4.0  # grey levels of 255 between background and middle; with less there is no disc
_OUTLINE_POINTS = 120
_END_TOLERANCE = 0.03  # of the radius: how far apart region and circle may end (a notch, a ragged rim)
# Radius as a share of the frame's sides. A smaller circle is a reflection or the optic disc. With a larger one the
# frame lies inside the disc, and the circle was fitted to shadows in the corners.
_LEAST_RADIUS, _LARGEST_RADIUS = 0.24, 0.68
_LARGEST_AXIS = 0.8  # of the other side, where squeezing has stretched an ellipse beyond the frame
_THINNEST = 0.55  # width / height of an ellipse, or the reverse; 16:9 squeezed to a square gives 0.56
_LEAST_POINTS = 24  # of outline inside the frame, in px of the copy
_AGREEING = 0.8  # share of the outline on the circle, for a disc that the frame cuts off on all sides
_LEAST_SUPPORT = 0.45  # share of the shape within the frame that must have outline on it
_CERTAIN = 0.95  # with this much support, no other level is tried
# Of photographs, the rest of the outline is a shadow or a straight cut. Other pictures have less on a shape.
_LEAST_ON_CIRCLE, _LEAST_ON_ELLIPSE = 0.3, 0.5
_MOSTLY_ON = 0.9
_CIRCLE_BONUS = 0.05  # of the outline: an ellipse must fit that much better, since it can also follow a shadow
_RIM, _MOST_SPILL, _LEAST_FILLED = 0.03, 0.1, 0.55  # so near the rim pixels do not count; bright shares out- and inside
_STRAIGHT = 0.4  # share of a side of the region's box that its outline touches, where a straight edge cut it


class _Region(NamedTuple):
    """The largest bright region at one level, in px of the copy."""

    mask: np.ndarray  # uint8 [h, w], of everything bright
    border: np.ndarray  # [n, 2], x and y, in order
    outline: np.ndarray  # [m, 2], the part of it that neither the frame nor a straight edge cut
    low: np.ndarray  # x, y of the corner of the window in which an outline can be seen,
    high: np.ndarray  # and of the opposite corner

    @property
    def points(self) -> np.ndarray:
        """Enough points of the outline to fit a shape to."""
        return self.outline[:: len(self.outline) // _OUTLINE_POINTS + 1]


def find_disc(pixels: np.ndarray) -> Disc:
    """Find the rectangle around the retinal disc in uint8 `[h, w, C]`, or around the frame if no disc is plausible."""
    # The corners of a disc that the frame cuts off all around are small, hence the low percentile.
    return _best(pixels, 0.3, True, _shape_of, _CERTAIN + _MOSTLY_ON)


def find_circle(pixels: np.ndarray) -> Disc:
    """Like `find_disc`, but only a circle counts as a disc, and none is looked for in the corners of a full frame."""
    return _best(pixels, 1, False, _circle_of, _CERTAIN)


def _best(
    pixels: np.ndarray, darkest: float, straight: bool, judge: Callable[[_Region], tuple[Any, float]], enough: float
) -> Disc:
    """The rectangle around the shape that `judge` gives the best score, over all levels until one is `enough`."""
    (height, width), long = pixels.shape[:2], max(pixels.shape[:2])
    step = max(1, long * 2 // (3 * _ANALYSED_SIDE))
    thinned = pixels[::step, ::step]  # enough, and far cheaper than all pixels
    brightest = np.ascontiguousarray(reduce(np.maximum, np.moveaxis(thinned, -1, 0)))  # far faster than max(axis=-1)
    size = (max(1, round(width * (_ANALYSED_SIDE / long))), max(1, round(height * (_ANALYSED_SIDE / long))))
    grey = cv2.medianBlur(cv2.resize(brightest, size, interpolation=cv2.INTER_AREA), 3)  # without speckle
    background = float(np.percentile(grey, darkest))
    rows, columns = (slice(side // 4, -(side // 4) or None) for side in grey.shape)
    middle = float(np.median(grey[rows, columns]))
    no_disc = middle - background < max(_LEAST_CONTRAST, middle / 2)  # the background is retina
    shape, best = None, 0.0
    for level in () if no_disc else _LEVELS:
        region = _bright_region(grey > background + max(2.0, level * (middle - background)), straight)
        found, score = judge(region) if region else (None, 0.0)
        if score > best:
            shape, best = found, score
        if score > enough:
            break
    if shape is None:
        return whole_frame(width, height)
    # x, y: pixel indices are 0.5 below centres; a, b: to outer edges
    x, y, a, b = (shape + 0.5) * (long / max(grey.shape))
    return Disc(float(x - a), float(y - b), float(2 * a), float(2 * b), found=True)


def _bright_region(bright: np.ndarray, straight: bool) -> _Region | None:
    """The largest region of `bright` `[h, w]`; None without enough outline. `straight`: leave out straight sides."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))  # wider than the strokes of burnt-in text
    mask = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    regions, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not regions:
        return None
    border = max(regions, key=cv2.contourArea)[:, 0, :].astype(np.float64)
    low, high = np.zeros(2), np.array([bright.shape[1] - 1.0, bright.shape[0] - 1.0])
    if straight:
        first, last = border.min(axis=0), border.max(axis=0)
        least = _STRAIGHT * (last - first + 1)[::-1]
        low = np.where((border <= first + 2).sum(axis=0) > least, first, low)
        high = np.where((border >= last - 2).sum(axis=0) > least, last, high)
    outline = border[((border > low + 1) & (border < high - 1)).all(axis=1)]
    return _Region(mask, border, outline, low, high) if len(outline) >= _LEAST_POINTS else None


def _shape_of(region: _Region) -> tuple[np.ndarray | None, float]:
    """The circle or ellipse of a region, and its score: support (at most `_CERTAIN`) + share of the outline on it."""
    circle = fit_circle(region.points)
    score = 0.0 if circle is None else _score(circle, region, _LEAST_ON_CIRCLE) + _CIRCLE_BONUS
    if score > _CERTAIN + _MOSTLY_ON + 2 * _CIRCLE_BONUS:  # no ellipse can be better by enough
        return circle, score
    ellipse = fit_ellipse(region.points, _THINNEST)
    other = 0.0 if ellipse is None else _score(ellipse, region, _LEAST_ON_ELLIPSE)
    return (circle, score) if score > max(other, _CIRCLE_BONUS) else (ellipse, other)


def _score(shape: np.ndarray, region: _Region, least_on: float) -> float:
    """How well a shape explains a region; 0 if it cannot be a disc: size, centre, rim, inside and surround."""
    size = np.array(region.mask.shape[::-1])
    centred = (shape[:2] > 0).all() and (shape[:2] < size - 1).all()
    shares = shape[2:] / (size if shape[2] != shape[3] else size.max())
    large = shares.min() < _LARGEST_RADIUS and shares.max() < _LARGEST_AXIS
    if not centred or not large or shape[2:].min() < _LEAST_RADIUS * size.min():
        return 0.0
    on = float((np.abs(beyond(shape, region.outline)) < TOLERANCE).mean())
    supported = support(shape, region.outline, region.low, region.high)
    if on < least_on or supported < _LEAST_SUPPORT or not _is_filled(shape, region.mask):
        return 0.0
    return min(supported, _CERTAIN) + on


def _is_filled(shape: np.ndarray, mask: np.ndarray) -> bool:
    """Whether most of what lies within a shape is bright, and hardly anything around it."""
    x = ((np.arange(mask.shape[1]) - shape[0]) / shape[2]) ** 2
    y = ((np.arange(mask.shape[0]) - shape[1]) / shape[3]) ** 2
    distance = x + y[:, None]
    around = mask[distance > (1 + _RIM) ** 2]
    spilt = around.mean() if len(around) else 0.0
    return bool(spilt <= _MOST_SPILL and mask[distance < (1 - _RIM) ** 2].mean() >= _LEAST_FILLED)


def _circle_of(region: _Region) -> tuple[np.ndarray | None, float]:
    """The circle of a region, and its support; 0 if it cannot be a disc, or the region is not that disc."""
    circle = fit_circle(region.points)
    if circle is None or not _LEAST_RADIUS * region.high.min() < circle[2] < _LARGEST_RADIUS * region.high.max():
        return None, 0.0
    # Only a disc ends where the circle ends on two opposite sides; shadows may hide one such pair. Where the frame cuts
    # off both pairs, all of the outline must agree.
    ends = np.array([circle[:2] - circle[2], circle[:2] + circle[2]])  # [first or last, x or y], like the next line
    region_ends = np.array([region.border.min(axis=0), region.border.max(axis=0)])
    together = np.abs(ends - region_ends) < _END_TOLERANCE * circle[2]
    agreeing = np.abs(beyond(circle, region.outline)) < TOLERANCE
    inside = (circle[:2] > 0).all() and (circle[:2] < region.high).all()
    if not inside or not (together.all(axis=0).any() or agreeing.mean() > _AGREEING):
        return None, 0.0
    supported = support(circle, region.outline, region.low, region.high)
    return circle, supported if supported > _LEAST_SUPPORT else 0.0
