"""Whether a picture shows something other than one photograph: several pictures, a page, a screen, a drawing, a blank.

Contact sheets, report pages and viewers have the colours and the texture of the retinas that they show. So this looks
at the layout of the whole frame, on a copy with a long side of 256 px. The limits, with how each was found, are in
quality.toml.
"""

from collections.abc import Mapping
from functools import reduce

import cv2
import numpy as np

from foveal.fundus.crop import Disc

_SIDE = 256  # px of the long side of the copy
_CLEAR_OF_DISC = 1.12  # of the squared radius
_LIT, _NEAR_BLACK = 16, 45  # grey levels of 255 of the brightest channel
_FRAMING = 6  # px: a straight line so near the end of what is lit is that of the picture itself


def is_composed(picture: np.ndarray, frame: np.ndarray, disc: Disc, limits: Mapping[str, float]) -> bool:
    """Whether a picture was not taken by a camera, but composed or drawn; both uint8 `[h, w, 3]`.

    `disc`: what was found in `frame`, which is the picture, or a copy of it with its white surround made black.
    """
    small, scale = _shrunk(frame)
    brightest, darkest = highest(small), reduce(cv2.min, cv2.split(small))
    shown = _opened(brightest > limits["black"])
    _, _, width, height = cv2.boundingRect(shown)
    long = max(width, height) > limits["long"] * min(width, height)
    if long or max(_parts(shown, limits), _parts(_opened(darkest < limits["white"]), limits)) > 1:
        return True
    down, across = _steps(small if picture is frame else _shrunk(picture)[0])
    if disc.found:
        clear = _outside(disc, scale, small.shape[:2])
        steps = highest(down) * clear[:-1, :-1], highest(across) * clear[:-1, :-1]
        return (shown * clear).mean() > limits["beside"] or _straight(steps, limits["faint"]) > limits["panel"]
    steps = _inner(highest(down), shown, 0), _inner(highest(across), shown, 1)
    if _straight(steps, limits["step"]) > limits["straight"] or _solidity(shown) < limits["solid"]:
        return True
    return _is_drawn(small, down, across, limits)


def _shrunk(picture: np.ndarray) -> tuple[np.ndarray, float]:
    scale = _SIDE / max(picture.shape[:2])
    size = [max(2, round(scale * side)) for side in picture.shape[1::-1]]  # of a strip, two pixels are left
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), scale


def _opened(mask: np.ndarray) -> np.ndarray:
    """A mask bool `[h, w]` without thin parts, as uint8."""
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))


def _parts(mask: np.ndarray, limits: Mapping[str, float]) -> int:
    """How many regions of a mask are large, both compared with the largest and in the frame."""
    areas = cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA]
    return int((areas > max(limits["part"] * areas.max(initial=0), limits["share"] * mask.size)).sum())


def _solidity(mask: np.ndarray) -> float:
    """The area of a mask as a share of that of its convex hull: 1 for a disc or a rectangle, less for two of them."""
    regions, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [region for region in regions if cv2.contourArea(region) > 0.01 * mask.size]
    return sum(map(cv2.contourArea, large)) / cv2.contourArea(cv2.convexHull(np.vstack(large))) if large else 1.0


def _outside(disc: Disc, scale: float, size: tuple[int, ...]) -> np.ndarray:
    """uint8 `[h, w]`: 1 clear of the disc, in a frame that was resized by `scale`."""
    y, x = np.ogrid[: size[0], : size[1]]
    across = (x + 0.5 - scale * (disc.left + disc.width / 2)) / (scale * disc.width / 2)
    down = (y + 0.5 - scale * (disc.top + disc.height / 2)) / (scale * disc.height / 2)
    return (across**2 + down**2 > _CLEAR_OF_DISC).astype(np.uint8)


def _steps(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel of `[h, w, 3]` is from the one below it, and from the next: `[h - 1, w - 1, 3]` each."""
    here = picture[:-1, :-1]
    return cv2.absdiff(picture[1:, :-1], here), cv2.absdiff(picture[:-1, 1:], here)


def _inner(steps: np.ndarray, shown: np.ndarray, axis: int) -> np.ndarray:
    """Steps along an axis `[h, w]` without those where what is shown begins and ends: black bars are no layout."""
    lit = np.flatnonzero(shown.any(axis=1 - axis))
    begin, end = (lit[0], lit[-1] + 1) if lit.size else (0, 0)
    places = np.arange(1, steps.shape[axis] + 1)
    inner = (np.abs(places - begin) > _FRAMING) & (np.abs(places - end) > _FRAMING)
    return np.where(inner[:, None] if axis == 0 else inner, steps, np.uint8(0))


def _straight(steps: tuple[np.ndarray, np.ndarray], least: float) -> float:
    """The share of the frame's width or height that the longest straight line takes; `least`: of a step in it."""
    down, across = steps
    return float(max((down > least).mean(axis=1).max(), (across > least).mean(axis=0).max()))


def _is_drawn(small: np.ndarray, down: np.ndarray, across: np.ndarray, limits: Mapping[str, float]) -> bool:
    """Whether a picture without a disc is flat, empty or full of sharp edges."""
    lit = highest(small)[:-1, :-1]
    flat = (highest(cv2.max(down, across)) <= 1) & (lit > _NEAR_BLACK)
    blurred = _steps(cv2.GaussianBlur(small.astype(np.float32), (0, 0), limits["blur"]))
    smooth = (highest(cv2.max(*blurred)) <= limits["slope"]) & (lit > _LIT)
    shares = {"flat": flat.mean(), "smooth": smooth.mean(), "lines": (across[..., 1] > limits["line"]).mean()}
    return any(share > limits[name] for name, share in shares.items())


def highest(picture: np.ndarray) -> np.ndarray:
    """The largest of the three channels of each pixel; many times faster than numpy's maximum of the last axis."""
    return reduce(cv2.max, cv2.split(picture))
