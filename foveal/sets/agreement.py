"""Agreement: how well the pixels of two photographs agree in details of the size of vessels, once they are aligned.

Photographs of different eyes ("strangers" below) agree in the places of disc and macula, but not in vessels.
"""

import cv2
import numpy as np

from foveal.fundus.fingerprint import detail, fade

_COARSE, _FINE = (64, 2.0, 30), (128, 3.0, 15)  # side in px, neighbourhood in px of that side, most iterations
_HOPELESS = 0.42  # agreement after the coarse alignment; half of the strangers stay below, no copy of 1,000 under 0.45
# Shares of the side. A second photograph of one eye needs less; with more, strangers could be bent until they fit.
_MOST_STRETCH, _MOST_SHIFT = 0.15, 0.2
# Side and neighbourhood, as below. Laid on each other by their keypoints, copies of 160 photographs agree by 0.7 and
# more, strangers by at most 0.23, or 0.55 if they share the dust or the reflections of a camera.
_LAID = (128, 4.0)


def confirm(a: np.ndarray, b: np.ndarray, mirrored: bool = False) -> float:
    """Return how well two photographs agree in details of the size of vessels, after they are aligned.

    `a`, `b`: uint8 `[S, S, 3 or 1]`, of any two sides; `mirrored`: mirror b first. Returns 0..1, the normalised
    cross-correlation inside the part of the disc that both show: above 0.6 for one eye, below 0.45 for two, and
    anything between for haze; 0 where a coarse alignment already shows that they are strangers.
    The alignment is affine and maximises that correlation (Evangelidis and Psarakis, 2008). It starts from no change
    and bridges about 5 % of the side; pictures that it must bend further are strangers, and give 0.
    """
    if mirrored:
        b = np.ascontiguousarray(b[:, ::-1])
    warp, agreement = _align(a, b, np.eye(2, 3, dtype=np.float32), *_COARSE)
    if agreement < _HOPELESS:
        return 0.0
    # In a grid twice as fine the centre of a pixel, x, is at 2 x + 0.5; the map x' = A x + t changes accordingly.
    warp[:, 2] = 2 * warp[:, 2] + 0.5 - 0.5 * warp[:, :2].sum(axis=1)
    warp, agreement = _align(a, b, warp, *_FINE)
    change = np.abs(warp - np.eye(2, 3))
    bent = change[:, :2].max() > _MOST_STRETCH or change[:, 2].max() > _MOST_SHIFT * _FINE[0]
    return 0.0 if bent else min(1.0, max(0.0, agreement))


def confirm_laid(a: np.ndarray, b: np.ndarray, way: np.ndarray) -> float:
    """Return how well two photographs agree in details after a map of their keypoints has laid one on the other.

    `a`, `b`: as in `confirm`. `way`: of `foveal.sets.matches.fit(a's keypoints, b's)`. Returns 0..1, the normalised
    cross-correlation in the frame of the picture that shows less, where both show something.
    """
    if abs(np.linalg.det(way[:, :2])) > 1:  # the frame of b is larger than that of a
        a, b, way = b, a, cv2.invertAffineTransform(way)
    (side, neighbourhood), size = _LAID, 2 * _LAID[0]  # a part of a is enlarged, so a keeps more pixels
    turn = way[:, :2] * size / side
    way = np.column_stack([turn, way[:, 2] * size + (turn.sum(axis=1) - 1) / 2])  # the first pixel's centre is at 0.5
    moved = cv2.warpAffine(_grey(a, size), way, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    a, b = (detail(grey[..., None], side, neighbourhood, framed=False) for grey in (moved, _grey(b, side)))
    return max(0.0, _correlation(a, b, (a != 0) & (b != 0)))


def _align(
    a: np.ndarray, b: np.ndarray, start: np.ndarray, side: int, neighbourhood: float, most: int
) -> tuple[np.ndarray, float]:
    """Improve the affine map `start`, float32 `[2, 3]`, from a to b; returns it and the agreement with it."""
    still, moving = (detail(picture, side, neighbourhood) for picture in (a, b))
    ends = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, most, 1e-3)
    everywhere = np.full((side, side), 255, np.uint8)
    try:
        _, warp = cv2.findTransformECC(still * fade(side), moving, start.copy(), cv2.MOTION_AFFINE, ends, everywhere, 3)
    except cv2.error:  # the correlation falls instead of rising: such pictures share nothing
        warp = start
    moved = cv2.warpAffine(moving, warp, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return warp.astype(np.float32), _correlation(still, moved, fade(side) * (still != 0) * (moved != 0))


def _correlation(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> float:
    energy = float((weight * a * a).sum()) * float((weight * b * b).sum())
    return float((weight * a * b).sum()) / max(energy, 1e-12) ** 0.5


def _grey(picture: np.ndarray, side: int) -> np.ndarray:
    """The grey values uint8 `[side, side]`."""
    grey = picture[..., 0] if picture.shape[2] == 1 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if side < len(grey) else cv2.INTER_LINEAR)
