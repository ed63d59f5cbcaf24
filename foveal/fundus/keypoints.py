"""Keypoints: places that are found again in a photograph that was turned, mirrored, squeezed or cropped anywhere.

A fingerprint finds a copy only where it lies on its original. Keypoints have a position, a scale and a direction of
their own (SIFT: Lowe, 2004), so they do not depend on the frame. They are sought in the levelled picture, where vessels
are, and described by 4 x 4 histograms of 8 directions, of which the root is taken (Arandjelovic and Zisserman, 2012).
Of a descriptor the 48 lowest waves are kept, cosines over rows and columns and a Fourier series over directions: they
tell as much as all 128 numbers. Mirroring changes the sign of the odd ones and nothing else, as in a fingerprint.
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from foveal.fundus.fingerprint import LEAST_SIDE, detail, unit

MOST = 300  # keypoints of a picture: with 200, 1 % more of the turned copies of hazy eyes and of APTOS are missed
NUMBERS = 48  # of a keypoint
_SIDE = 256  # px of the picture in which they are sought: with 192, in half the time, the same 1 % is missed
_NEIGHBOURHOOD = 1 / 64  # of the side, as for a fingerprint
_RIM = 9  # px that are left out beside the background: the rim belongs to the camera
_CONTRAST, _EDGE, _SIGMA = 0.01, 20.0, 1.6  # of SIFT; vessels are faint and long
_BLUR = 1.0  # px: noise is finer than vessels, and was most of what was found in hazy eyes
_LEVELS = 48.0  # grey levels of a unit of detail
_STEPS = 256.0  # a number of 0.5 fills int8; the root mean square is 0.14


class Keypoints(NamedTuple):
    """Of k keypoints: `places`, float32 `[k, 2]`, x and y as shares of the side; `poses`, float32 `[k, 2]`, direction
    in turns and binary logarithm of the size as a share of the side; `numbers`, int8 `[k, 48]`, first `evens()` numbers
    that mirroring keeps, then those whose sign it changes."""

    places: np.ndarray
    poses: np.ndarray
    numbers: np.ndarray

    @classmethod
    def none(cls) -> "Keypoints":
        """Those of a picture in which nothing is found."""
        return cls(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), np.zeros((0, NUMBERS), np.int8))


def keypoints(square: np.ndarray) -> Keypoints:
    """Find at most 300 keypoints of a photograph, uint8 `[S, S, 3 or 1]`, the strongest first; none if S < 64."""
    if len(square) < LEAST_SIDE:
        return Keypoints.none()
    side = min(_SIDE, len(square))
    levelled = detail(square, side, side * _NEIGHBOURHOOD, framed=False)
    seen = cv2.erode((levelled != 0).astype(np.uint8), np.ones((_RIM, _RIM), np.uint8))
    picture = cv2.GaussianBlur(np.clip(levelled * _LEVELS + 128, 0, 255).astype(np.uint8), (0, 0), _BLUR)
    sift = cv2.SIFT_create(MOST, 3, _CONTRAST, _EDGE, _SIGMA)  # type: ignore[attr-defined]  # missing in its stubs
    found, descriptors = sift.detectAndCompute(picture, seen)
    if not found:
        return Keypoints.none()
    table = np.array([[*point.pt, point.angle, point.size, point.response] for point in found], np.float32)
    order = np.lexsort((table[:, 1], table[:, 0], -table[:, 4]))[:MOST]
    x, y, angle, size, _ = table[order].T
    numbers = unit(np.sqrt(np.maximum(descriptors[order], 0)) @ _waves()[0].T)
    return Keypoints(
        places=(np.column_stack([x, y]) + np.float32(0.5)) / side,
        poses=np.column_stack([angle / 360, np.log2(size / side)]).astype(np.float32),
        numbers=np.clip(np.rint(numbers * _STEPS), -127, 127).astype(np.int8),
    )


def evens() -> int:
    """How many numbers at the start of a keypoint stay the same when the picture is mirrored."""
    return int((_waves()[1] > 0).sum())


@cache
def _waves() -> tuple[np.ndarray, np.ndarray]:
    """float32 `[48, 128]`: the waves of a histogram [4 rows, 4 columns, 8 directions], and int `[48]` of 1 and -1: what
    mirroring does to the sign of each. It turns the rows over and reverses the directions. Even waves come first."""
    halves, positions = np.arange(4), np.arange(4) + 0.5
    across = np.cos(np.pi * np.outer(halves, positions) / 4) * np.where(halves == 0, 0.5, np.sqrt(0.5))[:, None]
    angle = np.pi / 4 * np.arange(8)
    turns = [(0, 1, np.full(8, np.sqrt(1 / 8))), (4, 1, np.cos(4 * angle) * np.sqrt(1 / 8))]
    turns += [wave for m in (1, 2, 3) for wave in ((m, 1, np.cos(m * angle) / 2), (m, -1, np.sin(m * angle) / 2))]
    waves = [
        (
            np.hypot(np.hypot(row, column), m),
            (-1) ** row * sign,
            np.einsum("r,c,t->rct", across[row], across[column], turn),
        )
        for row in range(4)
        for column in range(4)
        for m, sign, turn in turns
    ]
    lowest = sorted(waves, key=lambda wave: wave[0])[1 : NUMBERS + 1]  # the mean of all numbers tells nothing
    lowest.sort(key=lambda wave: -wave[1])
    return np.stack([wave[2].ravel() for wave in lowest]).astype(np.float32), np.array([wave[1] for wave in lowest])
