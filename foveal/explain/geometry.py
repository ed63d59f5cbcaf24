"""The rim of the retina in a map, how much of a map lies on it, and the retina without its lesions."""

from __future__ import annotations

import cv2
import numpy as np

RIM = 0.03  # of the retina's diameter: what lies nearer to its edge is rim
# A map spread evenly over the retina has 0.12 of itself on the rim, one spread over the whole square 0.31 on rim and
# border. From about twice the former on, something draws the map to the frame.
ALARM = 0.25
_HEAL = 1 / 16  # of the side: standard deviation of the blur that takes lesions away


def interior_of(retina: np.ndarray) -> np.ndarray:
    """The retina bool [S, S] without its rim. The frame's own edge counts as rim too: the disc ends there."""
    framed = np.pad(retina.astype(np.uint8), 1)
    diameter = max(np.ptp(np.flatnonzero(retina.any(axis))) for axis in (0, 1)) + 1 if retina.any() else 0
    return cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1] > RIM * diameter


def border_energy(heat: np.ndarray, retina: np.ndarray) -> float:
    """The share, 0-1, of a map float [S, S] >= 0 that lies outside the retina bool [S, S] or on its rim; 0 if empty."""
    total = float(heat.sum())
    return float(heat[~interior_of(retina)].sum() / total) if total > 0 else 0.0


def alarm_of(share: float) -> str:
    """The warning for a border energy; empty below `ALARM`."""
    if share < ALARM:
        return ""
    return (
        f"{share:.0%} of this map lies on the black border or the rim of the retina: the grade may rest on the camera "
        "or the crop, not on the retina"
    )


def without_lesions(pixels: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """The prepared square uint8 [S, S, C] with the retina bool [S, S] blurred until lesions and vessels are gone.

    The black around it is neither changed nor mixed in: a dark edge in the middle of the retina would be a new lesion.
    """
    sigma = _HEAL * len(pixels)
    inside = retina.astype(np.float32)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma)
    summed = cv2.GaussianBlur(pixels.astype(np.float32) * inside[..., None], (0, 0), sigma).reshape(pixels.shape)
    blurred = (summed / np.maximum(weight, 1e-6)[..., None]).round().clip(0, 255).astype(np.uint8)
    return np.where(retina[..., None], blurred, pixels)


def resized(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask bool [S, S] at another size: [size, size], each pixel owned by what lies at its middle."""
    places = ((np.arange(size) + 0.5) * len(mask) / size).astype(int)
    return mask[np.ix_(places, places)]
