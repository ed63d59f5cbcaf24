"""Find the retinal disc in a photograph, and cut the square around it.

A fundus camera shows the retina as a bright disc on black. How much black surrounds the disc, and how much of the disc
the frame cuts off, depends on the camera and not on the disease; a network that sees it learns the camera. So every
photograph becomes the square around the whole disc, padded with black where the frame ends early.

Most of the outline of the bright region is an arc of one circle. The rest is the frame, a notch that marks the
orientation, a shadow or a flash. `find_disc` draws circles through triples of outline points, keeps the one
that most of the outline agrees with (RANSAC: Fischler and Bolles, 1981), and refines it by least squares.
No single threshold separates disc and background in dark, hazy and overexposed photographs, so it tries a few.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import cache, reduce

import cv2
import numpy as np

from foveal.errors import FovealError

_ANALYSED_SIDE = 256  # long side in px of the copy that is analysed; one of its pixels is about 0.4 % of a disc
_LEVELS = (0.16, 0.07, 0.35)  # brightness of the outline, from background (0) to the middle of the frame (1)
_LEAST_CONTRAST = 4.0  # grey levels of 255 between background and middle; with less there is no disc
_OUTLINE_POINTS, _TRIPLES = 120, 160
_TOLERANCE = 0.02  # of the radius: how far an outline point may lie from the circle and still support it
_END_TOLERANCE = 0.03  # of the radius: how far apart region and circle may end (a notch, a ragged rim)
# Radius as a share of the frame's sides. A smaller circle is a reflection or the optic disc. With a larger one the
# frame lies inside the disc, and the circle was fitted to shadows in the corners.
_LEAST_RADIUS, _LARGEST_RADIUS = 0.24, 0.68
_LEAST_POINTS = 24  # of outline inside the frame, in px of the copy
_SECTORS, _LEAST_SECTORS = 72, 6  # of 5 degrees each
_AGREEING = 0.8  # share of the outline on the circle, for a disc that the frame cuts off on all sides
_LEAST_SUPPORT = 0.45  # share of the circle within the frame that must have outline on it
_CERTAIN = 0.95  # with this much support, no other level is tried
_WHITE, _LEAST_WHITE = 245, 0.2  # grey level of a white surround, and the share of the frame's edge that it takes


@dataclass(frozen=True)
class Disc:
    """The square around a retinal disc, in pixels of the picture it was found in.

    `left`, `top`: its corner, which lies outside the frame where the disc is cut off. `side`: > 0.
    `found`: False where no disc was found and the square is that of the whole frame.
    """

    left: float
    top: float
    side: float
    found: bool


def whole_frame(width: int, height: int) -> Disc:
    """Return the smallest square around a whole frame of `width` x `height` px, centred, as not found."""
    if width < 1 or height < 1:
        raise FovealError("image.array", f"a frame of {width} x {height} px", expected="at least 1 x 1 px")
    side = max(width, height)
    return Disc((width - side) / 2, (height - side) / 2, float(side), found=False)


def find_disc(pixels: np.ndarray) -> Disc:
    """Find the square around the retinal disc, or around the whole frame where no disc is plausible.

    `pixels`: uint8 `[h, w, C]`; the brightest channel counts. Raises FovealError for other arrays.
    """
    check_array(pixels)
    height, width = pixels.shape[:2]
    grey = _analysed(pixels)
    circle = _best_circle(grey)
    if circle is None:
        return whole_frame(width, height)
    x, y, radius = circle * (max(width, height) / max(grey.shape))
    return Disc(float(x - radius), float(y - radius), float(2 * radius), found=True)


def crop_square(pixels: np.ndarray, disc: Disc, size: int) -> np.ndarray:
    """Cut out the square of `disc` and resize it to `size` px; black where it lies outside the frame.

    `pixels`: uint8 `[h, w, C]`. Returns uint8 `[size, size, C]`. The square is rounded to whole source pixels.
    Raises FovealError for other arrays, `size` < 1, or a square that does not overlap the frame.
    """
    check_array(pixels)
    height, width, channels = pixels.shape
    side = round(disc.side)
    seen, shown = overlap(disc, height, width)
    if size < 1 or 0 in pixels[seen].shape:
        what = f"no square of {size} px can be cut with {disc} from {width} x {height} px"
        raise FovealError("image.crop", what, expected="a square that overlaps the picture, and a size of at least 1")
    square = np.zeros((side, side, channels), np.uint8)
    square[shown] = pixels[seen]
    way = cv2.INTER_AREA if size < side else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=way).reshape(size, size, channels)


def overlap(disc: Disc, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the square of `disc`, in whole pixels, and a frame overlap: rows and columns of frame, and of square."""
    seen, shown = [], []
    for start, length in ((round(disc.top), height), (round(disc.left), width)):
        first, last = max(start, 0), max(min(start + round(disc.side), length), 0)
        seen.append(slice(first, last))
        shown.append(slice(first - start, last - start))
    return (seen[0], seen[1]), (shown[0], shown[1])


def blacken_surround(pixels: np.ndarray) -> np.ndarray:
    """Turn the white surround of some exports black; return the same array where there is none.

    `pixels` and result: uint8 `[h, w, 3]`. White that does not reach the edge of the frame stays: it is in the eye.
    A flash can reach the edge too, so this is only for pictures in which no disc was found.
    """
    check_array(pixels)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if (edge.min(axis=1) >= _WHITE).mean() < _LEAST_WHITE:
        return pixels
    white = (pixels.min(axis=2) >= _WHITE).astype(np.uint8)
    ring = cv2.copyMakeBorder(white, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)  # joins all white at the edge
    cv2.floodFill(ring, None, (0, 0), 2)
    surround = cv2.dilate((ring == 2).astype(np.uint8), np.ones((5, 5), np.uint8))[1:-1, 1:-1]  # and JPEG's grey rim
    return np.where(surround[..., None] > 0, np.uint8(0), pixels)


@cache
def inscribed(size: int, share: float) -> np.ndarray:
    """Which pixels of a square of `size` px lie within `share` of the radius of its inscribed circle: bool `[S, S]`."""
    offset = np.arange(size) + 0.5 - size / 2
    inside = np.hypot(offset[:, None], offset) <= share * size / 2
    inside.flags.writeable = False  # every caller gets the same array
    return inside


def check_array(pixels: np.ndarray, channels: Container[int] | None = None, *, square: bool = False) -> None:
    """Raise FovealError unless `pixels` is uint8 `[h, w, C]` without an empty side, C is one of `channels`, h = w."""
    good = pixels.dtype == np.uint8 and pixels.ndim == 3 and 0 not in pixels.shape
    good = good and (channels is None or pixels.shape[2] in channels)
    if not good or (square and pixels.shape[0] != pixels.shape[1]):
        expected = "uint8 [S, S, C]" if square else "uint8 [h, w, C]"
        raise FovealError("image.array", f"an array of {pixels.dtype} {pixels.shape}", expected=expected)


def _analysed(pixels: np.ndarray) -> np.ndarray:
    """Return the small copy that is analysed: brightest channel, speckle removed. uint8 `[h, w]`."""
    step = max(1, max(pixels.shape[:2]) * 2 // (3 * _ANALYSED_SIDE))
    thinned = pixels[::step, ::step]  # enough, and far cheaper than all pixels
    brightest = reduce(np.maximum, np.moveaxis(thinned, -1, 0))  # ten times as fast as max(axis=-1)
    scale = _ANALYSED_SIDE / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return cv2.medianBlur(cv2.resize(np.ascontiguousarray(brightest), size, interpolation=cv2.INTER_AREA), 3)


def _best_circle(grey: np.ndarray) -> np.ndarray | None:
    """Return x, y, radius of the most plausible disc over all levels, in px from the frame's corner, or None."""
    height, width = grey.shape
    background = float(np.percentile(grey, 1))
    middle = float(np.median(grey[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None]))
    if middle - background < max(_LEAST_CONTRAST, middle / 2):  # else the darkest part is retina, not background
        return None
    best, best_support = None, _LEAST_SUPPORT
    for level in _LEVELS:
        circle, support = _circle_at(grey > background + max(2.0, level * (middle - background)))
        if support > best_support:
            best, best_support = circle, support
        if support > _CERTAIN:
            break
    return None if best is None else best + 0.5  # x, y: pixel indices are 0.5 below centres; radius: to outer edges


def _circle_at(bright: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the circle x, y, radius around the largest region of `bright` `[h, w]`, and its support, 0 if none."""
    nothing = np.zeros(3), 0.0
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))  # wider than the strokes of burnt-in text
    mask = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    regions, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not regions:
        return nothing
    region = max(regions, key=cv2.contourArea)[:, 0, :].astype(np.float64)
    last = np.array([bright.shape[1] - 1, bright.shape[0] - 1])
    outline = region[((region > 1) & (region < last - 1)).all(axis=1)]  # the rest is where the frame cut it
    circle = _fit(outline[:: len(outline) // _OUTLINE_POINTS + 1]) if len(outline) >= _LEAST_POINTS else None
    if circle is None or not _is_disc(circle, region, outline, last):
        return nothing
    return circle, _support(circle, outline, last)


def _fit(outline: np.ndarray) -> np.ndarray | None:
    """Return the circle x, y, radius with most of the outline `[n, 2]` on it and least of it outside."""
    generator = np.random.default_rng(0)  # the same photograph always gives the same square
    circles = _circles_through(outline[generator.integers(len(outline), size=(_TRIPLES, 3))])
    if len(circles) == 0:
        return None
    beyond = _beyond(circles, outline)
    votes = (np.abs(beyond) < _TOLERANCE).sum(axis=1) - (beyond > _TOLERANCE).sum(axis=1)
    circle = circles[np.argmax(votes)]
    for _ in range(4):
        offsets = outline[np.abs(_beyond(circle[None], outline)[0]) < _TOLERANCE] - circle[:2]
        distances = np.hypot(offsets[:, 0], offsets[:, 1])
        slopes = np.column_stack([offsets / distances[:, None], np.ones(len(offsets))])
        circle = circle + np.linalg.lstsq(slopes, distances - circle[2], rcond=None)[0]  # a Gauss-Newton step
    return circle


def _circles_through(triples: np.ndarray) -> np.ndarray:
    """Return x, y, radius `[n, 3]` of the circles through triples of points `[n, 3, 2]`, without flat triples."""
    origin = triples[:, 0]
    a, b = triples[:, 1] - origin, triples[:, 2] - origin
    twice_area = 2 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    keep = np.abs(twice_area) > 50  # px²: flatter triples do not determine a centre
    origin, a, b, twice_area = origin[keep], a[keep], b[keep], twice_area[keep]
    a_squared, b_squared = (a**2).sum(axis=1), (b**2).sum(axis=1)
    x = (b[:, 1] * a_squared - a[:, 1] * b_squared) / twice_area
    y = (a[:, 0] * b_squared - b[:, 0] * a_squared) / twice_area
    return np.column_stack([origin[:, 0] + x, origin[:, 1] + y, np.hypot(x, y)])


def _beyond(circles: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Return how far outside each circle `[m, 3]` each point `[n, 2]` lies, in radii: `[m, n]`, negative inside."""
    x, y = outline[:, 0] - circles[:, :1], outline[:, 1] - circles[:, 1:2]
    return np.sqrt(x * x + y * y) / circles[:, 2:] - 1  # np.hypot takes four times as long


def _is_disc(circle: np.ndarray, region: np.ndarray, outline: np.ndarray, last: np.ndarray) -> bool:
    """Whether a circle can be a disc, by size and centre, and a region is that disc, not an ellipse that touches it.

    Squeezing a picture to a square turns its disc into an ellipse. Only a disc ends where the circle ends on two
    opposite sides; shadows may hide one such pair. Where the frame cuts off both pairs, all of the outline must agree.
    """
    if not _LEAST_RADIUS * last.min() < circle[2] < _LARGEST_RADIUS * last.max():
        return False
    ends = np.array([circle[:2] - circle[2], circle[:2] + circle[2]])  # [first or last, x or y], like the next line
    region_ends = np.array([region.min(axis=0), region.max(axis=0)])
    together = np.abs(ends - region_ends) < _END_TOLERANCE * circle[2]
    agreeing = np.abs(_beyond(circle[None], outline)) < _TOLERANCE
    inside = (circle[:2] > 0).all() and (circle[:2] < last).all()
    return bool(inside and (together.all(axis=0).any() or agreeing.mean() > _AGREEING))


def _support(circle: np.ndarray, outline: np.ndarray, last: np.ndarray) -> float:
    """Return the share of the visible circle that has outline on it, less the share of the outline beyond it."""
    beyond = _beyond(circle[None], outline)[0]
    offsets = outline[np.abs(beyond) < _TOLERANCE] - circle[:2]
    angles = np.linspace(-np.pi, np.pi, _SECTORS, endpoint=False) + np.pi / _SECTORS
    rim = circle[:2] + circle[2] * np.column_stack([np.cos(angles), np.sin(angles)])
    visible = ((rim > 2) & (rim < last - 2)).all(axis=1)
    sectors = ((np.arctan2(offsets[:, 1], offsets[:, 0]) / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    covered = np.bincount(sectors, minlength=_SECTORS).astype(bool) & visible
    if covered.sum() < _LEAST_SECTORS:
        return 0.0
    return float(covered.sum() / visible.sum() - (beyond > _TOLERANCE).mean())
