"""The share of a map on the rim of the retina or outside it, and the retina without lesions."""

from __future__ import annotations

import cv2
import numpy as np

RIM = 0.03  # width of the rim, as a share of the diameter of the retina
# An even map over the retina has 0.12 on the rim; an even map over the whole square has 0.31 on rim and border. Above
# about twice the former, the map is drawn to the edge.
ALARM = 0.25
_HEAL = 1 / 16  # standard deviation of the blur that removes lesions, as a share of the side


def interior_of(retina: np.ndarray) -> np.ndarray:
    """The retina bool [S, S] without its rim. The edge of the frame also counts as rim."""
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
        f"{share:.0%} of this map is on the black border or the rim of the retina: the grade may depend on the camera "
        "or "
        "the crop, not on the retina"
    )


def without_lesions(pixels: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """The prepared square uint8 [S, S, C] with the retina bool [S, S] blurred until lesions and vessels are gone.

    The black border stays unchanged and is not blurred into the retina, where a dark edge would look like a lesion.
    """
    sigma = _HEAL * len(pixels)
    inside = retina.astype(np.float32)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma)
    summed = cv2.GaussianBlur(pixels.astype(np.float32) * inside[..., None], (0, 0), sigma).reshape(pixels.shape)
    blurred = (summed / np.maximum(weight, 1e-6)[..., None]).round().clip(0, 255).astype(np.uint8)
    return np.where(retina[..., None], blurred, pixels)


def resized(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask bool [S, S] at another size: [size, size], sampled at the centre of each pixel."""
    places = ((np.arange(size) + 0.5) * len(mask) / size).astype(int)
    return mask[np.ix_(places, places)]
