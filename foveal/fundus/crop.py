"""Cut the rectangle around the retinal disc out of a photograph, as a square.

How much black surrounds the disc, and how much of the disc the frame cuts off, depends on the camera and not on the
disease; a network that sees it learns the camera. So every photograph becomes the square around the whole disc, padded
with black where the frame ends early. Where squeezing made the disc an ellipse, it becomes a circle again.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

_WHITE, _LEAST_WHITE = 245, 0.2  # grey level of a white surround, and the share of the frame's edge that it takes


@dataclass(frozen=True)
class Disc:
    """The rectangle around a retinal disc, in pixels of the picture it was found in."""

    left: float  # its corner, which lies outside the frame where the disc is cut off
    top: float
    width: float  # > 0; equal to the height unless the disc is an ellipse
    height: float
    found: bool  # False if no disc was found and the rectangle is that of the whole frame


def whole_frame(width: int, height: int, cut: bool = False) -> Disc:
    """Return the centred square around a frame of `width` x `height` px, or within it (`cut`), with `found` False."""
    side = (min if cut else max)(width, height)
    return Disc((width - side) / 2, (height - side) / 2, side, side, found=False)


def crop_square(pixels: np.ndarray, disc: Disc, size: int) -> np.ndarray:
    """Cut out the rectangle of `disc` and resize it to a square; black where it lies outside the frame.

    `pixels`: uint8 `[h, w, C]`. Returns uint8 `[size, size, C]`. The rectangle, which has to overlap the frame, is
    rounded to whole source pixels.
    """
    height, width, channels = pixels.shape
    rows, columns = round(disc.height), round(disc.width)
    seen, shown = overlap(disc, height, width)
    rectangle = np.zeros((rows, columns, channels), np.uint8)
    rectangle[shown] = pixels[seen]
    way = cv2.INTER_AREA if size < max(rows, columns) else cv2.INTER_LINEAR
    return cv2.resize(rectangle, (size, size), interpolation=way).reshape(size, size, channels)


def overlap(disc: Disc, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the rectangle of `disc`, in whole pixels, and a frame overlap: rows and columns of frame, and of it."""
    seen, shown = [], []
    for start, side, length in ((round(disc.top), disc.height, height), (round(disc.left), disc.width, width)):
        first, last = max(start, 0), max(min(start + round(side), length), 0)
        seen.append(slice(first, last))
        shown.append(slice(first - start, last - start))
    return (seen[0], seen[1]), (shown[0], shown[1])


def blacken_surround(pixels: np.ndarray, darkest_rim: int = 0) -> np.ndarray:
    """Turn the white surround of some exports black, and two pixels more, where JPEG leaves a grey rim.

    `pixels` and result: uint8 `[h, w, 3]`; the same array where there is none. White that does not reach the edge
    stays, and of the rim what has a channel below `darkest_rim`: both are in the eye. A flash can reach the edge, too,
    so this is only for pictures in which no disc was found.
    """
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if (edge.min(axis=1) >= _WHITE).mean() < _LEAST_WHITE:
        return pixels
    darkest = pixels.min(axis=2)
    white = (darkest >= _WHITE).astype(np.uint8)
    ring = cv2.copyMakeBorder(white, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)  # joins all white at the edge
    cv2.floodFill(ring, None, (0, 0), 2)
    surround = cv2.dilate((ring == 2).astype(np.uint8), np.ones((5, 5), np.uint8))[1:-1, 1:-1] > 0
    return np.where((surround & (darkest >= darkest_rim))[..., None], np.uint8(0), pixels)


@cache
def inscribed(size: int, share: float) -> np.ndarray:
    """Which pixels of a square of `size` px lie within `share` of the radius of its inscribed circle: bool `[S, S]`."""
    offset = np.arange(size) + 0.5 - size / 2
    inside = np.hypot(offset[:, None], offset) <= share * size / 2
    inside.flags.writeable = False  # every caller gets the same array
    return inside
