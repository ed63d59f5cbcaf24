"""Overlays: a map drawn over the original photograph, with its top tenth outlined."""

import cv2
import numpy as np

from foveal.fundus.crop import Disc, overlap

LEAST_SIDE = 640  # px: smaller pictures are enlarged, since the lines would hide them
OPACITY = 0.6  # of the strongest places; where the map is empty the photograph stays as it is
TOP = 0.9  # the outlined part is stronger than this share of the retina,
FAINTEST = 0.05  # and stronger than this share of the maximum, so that noise is not outlined
RIM = 0.03  # width of the rim, as a share of the diameter of the retina
# An even map over the retina has 0.12 on the rim; an even map over the whole square has 0.31 on rim and border. Above
# about twice the former, the map is drawn to the edge.
ALARM = 0.25
_DARKEST = 0.12  # brightness of retina, as a share of that of the middle
_CLIPPED = 99.8  # percentile of the retina that gets the last colour, so that one pixel does not darken all others
# Viridis, uint8 [256, 3], which is perceptually uniform and unlike any colour in an eye.
_VIRIDIS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]


def retina_of(pixels: np.ndarray) -> np.ndarray:
    """bool [S, S]: the convex hull of what is not black in a square uint8 [S, S, C]; all of it if nothing is bright."""
    brightest = pixels.max(axis=2)
    quarter = max(len(brightest) // 4, 1)
    level = max(6.0, _DARKEST * float(np.median(brightest[quarter:-quarter, quarter:-quarter])))
    lit = cv2.morphologyEx((brightest > level).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    regions, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not regions:
        return np.ones(brightest.shape, bool)
    filled = np.zeros(brightest.shape, np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(max(regions, key=cv2.contourArea)), (1,))
    return filled > 0


def interior_of(retina: np.ndarray) -> np.ndarray:
    """The retina bool [S, S] without its rim. The edge of the frame also counts as rim."""
    diameter = max(np.ptp(np.flatnonzero(retina.any(axis))) for axis in (0, 1)) + 1 if retina.any() else 0
    return cv2.distanceTransform(np.pad(retina.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1] > RIM * diameter


def top_of(heat: np.ndarray, retina: np.ndarray) -> float:
    """What gets the last colour of a map float [s, s]; without anything above 0 in the retina bool [S, S], which means
    that there is no map, 0."""
    inside = _within(heat, retina)
    return max(float(np.percentile(inside, _CLIPPED)), 0.0) if len(inside) else 0.0


def _within(heat: np.ndarray, retina: np.ndarray) -> np.ndarray:
    return heat[cv2.resize(retina.astype(np.uint8), heat.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0]


def border_energy(heat: np.ndarray, retina: np.ndarray) -> float:
    """The share, 0-1, of a map float [S, S] >= 0 that lies outside the retina bool [S, S] or on its rim; 0 if empty."""
    total = float(heat.sum())
    return float(heat[~interior_of(retina)].sum() / total) if total > 0 else 0.0


def overlay(frame: np.ndarray, square: Disc, heat: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """A photograph uint8 [h, w, 3] with the map `heat`, float [s, s], of its `square` drawn over it.

    `retina`: bool [S, S], of the same square; sets the scale and the outlined tenth. Returns uint8 of the same size;
    photographs with a short side below `LEAST_SIDE` are enlarged by a whole factor.
    """
    factor = -(-LEAST_SIDE // min(frame.shape[:2]))
    if factor > 1:
        frame = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        left, top, width, height = (factor * value for value in (square.left, square.top, square.width, square.height))
        square = Disc(left, top, width, height, square.found)
    strength, level = _strength(frame.shape[:2], square, heat, retina)
    if not strength.any():
        return frame
    alpha = (OPACITY * np.sqrt(strength))[..., None]
    painted = (frame * (1 - alpha) + _VIRIDIS[(strength * 255).astype(np.uint8)] * alpha).round().astype(np.uint8)
    return _outlined(painted, strength, level)


def heat_layer(shape: tuple[int, ...], square: Disc, heat: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """The map alone, for a photograph of that shape (h, w): uint8 [h, w, 4] RGBA, opaque at its maximum, clear at 0."""
    strength, level = _strength(shape[:2], square, heat, retina)
    layer = np.dstack([_VIRIDIS[(strength * 255).astype(np.uint8)], (np.sqrt(strength) * 255).astype(np.uint8)])
    return _outlined(layer, strength, level)


def _strength(shape: tuple[int, ...], square: Disc, heat: np.ndarray, retina: np.ndarray) -> tuple[np.ndarray, float]:
    """(the map 0-1 in a frame of that shape, the strength at which its top tenth begins)."""
    top, strength = top_of(heat, retina), np.zeros(shape, np.float32)
    if not top:
        return strength, 1.0
    size = (max(round(square.width), 1), max(round(square.height), 1))
    seen, shown = overlap(square, shape[0], shape[1])
    strength[seen] = cv2.resize((heat / top).astype(np.float32), size).clip(0, 1)[shown]
    return strength, max(float(np.quantile(_within(heat, retina), TOP)) / top, FAINTEST)


def _outlined(picture: np.ndarray, strength: np.ndarray, level: float) -> np.ndarray:
    """White lines with a dark edge around what is above `level`: visible on bright and on dark retina."""
    contours, _ = cv2.findContours((strength > level).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = max(round(min(picture.shape[:2]) / 350), 2)  # smoothing turns a line of one pixel grey
    for colour, thickness in (((0, 0, 0, 255), 3 * width), ((255, 255, 255, 255), width)):
        cv2.drawContours(picture, contours, -1, colour, thickness, cv2.LINE_AA)
    return picture


def to_jpeg(picture: np.ndarray) -> bytes:
    """The bytes of a JPEG file of uint8 [h, w, 3] RGB."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
