"""Views: a photograph as it would look if it were turned, upside down or cropped, to search for copies that were.

A fingerprint finds a copy that lies on its original within 6 degrees and a few per cent. So one photograph is
fingerprinted in several views, and each is compared with the other as it is. Mirroring only changes signs in a
fingerprint, so half a turn in 16 steps covers all angles in both orientations. A turned file is not cut as its original
was, so both are made round first: moved, stretched and scaled until the lit region has the centre and the second
moments of a disc (image normalisation: Rothe, Süsse and Voss, 1996); only an angle remains between the two.
A crop has lost that region, so it is compared with parts of the lit rectangle: what the frame shows of the disc. The
middle of that is the middle of the frame, also where the frame cuts the disc off, and shares of both are equal unless
the frame is wider than the disc.
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from foveal.fundus.fingerprint import DARK, NEIGHBOURHOOD, SIDE, detail, lit_box, middle_level, summarise

_TURNS = 16  # steps of 11 degrees
_CROPS = (0.93, 0.86, 0.81, 0.77, 0.735, 0.7, 0.66, 0.62, 0.58, 0.55)  # of the sides; 2 to 4 % are left to bridge
# 70 % of frames that are up to 23 % wider than the disc: share of its width, and place beside its middle.
_WIDE = ((0.74, 0.0), (0.78, 0.0), (0.82, 0.0), (0.82, -0.04), (0.86, 0.04))
_BASE = 192  # px: larger squares are reduced before they are turned
_SHOWN = 128  # px of a view that is confirmed by its pixels
_PARTS = 96  # px of the rectangle of which parts are cut
_SURROUND = 0.08  # of the median brightness in the middle: a part of the eye in shadow is not as dark
_BEYOND = 1.07  # the rounded disc is this much larger than the square, so a rounded square has no wide frame either
_WHITE = 250  # grey level of paper around the photograph
_LEAST_LIT = 0.03  # share of the square; the shape of less means nothing


class View(NamedTuple):
    """Made round and turned by `angle` degrees; or, if that is None, a part of the lit rectangle."""

    angle: float | None = None
    across: float = 1.0  # shares of the rectangle
    down: float = 1.0
    beside: float = 0.0  # share of its width by which the part is right of the middle


TURNED = [View(angle=180 * step / _TURNS) for step in range(_TURNS)]
CROPPED = [View()] + [View(None, share, share) for share in _CROPS]
CROPPED += [View(None, across, 0.7, beside) for across, beside in _WIDE]
VIEWS = (*TURNED, *CROPPED)
AS_IT_IS = (0, len(TURNED))  # the first view of each sort: what the views of another photograph are compared with


def view_fingerprints(square: np.ndarray, views: tuple[int, ...] = tuple(range(len(VIEWS)))) -> np.ndarray:
    """Fingerprints int8 `[k, 254]` of k of the `VIEWS` of a photograph, uint8 `[S, S, 3 or 1]`."""
    turned = detail(rounded(square), SIDE, NEIGHBOURHOOD)
    whole = detail(boxed(square), _PARTS, NEIGHBOURHOOD * 1.15, framed=False)
    return summarise(np.stack([_look(whole if VIEWS[k].angle is None else turned, VIEWS[k], SIDE) for k in views]))


def show(square: np.ndarray, view: View, down: int = 1, across: int = 1) -> np.ndarray:
    """The pixels of a view, uint8 `[128, 128, 1]`; -1 turns it upside down, or mirrors it."""
    picture = _look((boxed if view.angle is None else rounded)(square)[..., 0], view, _SHOWN)
    return np.ascontiguousarray(picture[::down, ::across, None])


def boxed(square: np.ndarray) -> np.ndarray:
    """The lit rectangle of the photograph, stretched to uint8 `[s, s, 1]`."""
    grey = _base(square)
    lit = grey[lit_box(grey, _SURROUND * middle_level(grey))]
    return lit[..., None] if lit.shape == grey.shape else cv2.resize(lit, grey.shape)[..., None]


def rounded(square: np.ndarray) -> np.ndarray:
    """The photograph as uint8 `[128, 128, 1]`, moved and stretched until its lit region is as round as a disc."""
    grey = _base(square)
    size = len(grey)
    seen = ((grey > DARK * middle_level(grey)) & (grey < _WHITE)).astype(np.uint8)
    outlines, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    moments = cv2.moments(max(outlines, key=cv2.contourArea)) if outlines else {"m00": 0.0}
    area = moments["m00"]
    if area < _LEAST_LIT * size * size:
        return _look(grey, View(), _SHOWN)[..., None]
    centre = np.array([moments["m10"], moments["m01"]]) / area
    spread = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]) / area
    lengths, axes = np.linalg.eigh(spread)
    # A disc of radius r has the second moments r²/4; the symmetric root stretches without turning.
    stretch = (axes * np.sqrt(np.maximum(lengths, 1.0))) @ axes.T * 4 / _SHOWN / _BEYOND
    return _warped(grey, np.column_stack([stretch, centre - stretch.sum(axis=1) * (_SHOWN - 1) / 2]), _SHOWN)[..., None]


def _base(square: np.ndarray) -> np.ndarray:
    """The grey values uint8 `[s, s]`, s <= 192."""
    grey = square[..., 0] if square.shape[2] == 1 else cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    return grey if len(grey) <= _BASE else cv2.resize(grey, (_BASE, _BASE), interpolation=cv2.INTER_AREA)


def _look(picture: np.ndarray, view: View, side: int) -> np.ndarray:
    """A view `[side, side]` of a square that is already rounded where the view turns it."""
    return _warped(picture, _way(view, len(picture), side), side)


@cache
def _way(view: View, size: int, side: int) -> np.ndarray:
    """The affine map `[2, 3]` from the pixels of a view of `side` px to those of a square of `size` px."""
    scale, middle = size / side, (side - 1) / 2
    turn = cv2.getRotationMatrix2D((0, 0), view.angle or 0.0, scale)[:, :2] * [view.across, view.down]
    centre = (size - 1) / 2 + np.array([view.beside * size, 0])
    return np.column_stack([turn, centre - turn.sum(axis=1) * middle])


def _warped(picture: np.ndarray, way: np.ndarray, side: int) -> np.ndarray:
    """The picture `[side, side]` whose pixel p is that of `picture` at `way` p; 0 outside."""
    return cv2.warpAffine(picture, way, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
