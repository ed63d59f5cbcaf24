"""The quality of a photograph: eleven measures, and the flags that follow from them.

All but the colour of the frame is measured on a copy of the cropped square at 128 px, so that a 16-megapixel photograph
and its 256-px copy get the same numbers. Below 64 px vessels are too thin to be measured, so there are no flags.

`retina` is a logistic regression on nine hand-made features, their squares and their products, fitted with scikit-learn
(L2, C = 1) on 70 % of 4,770 photographs (Messidor-2, EyePACS, 3,000 ungraded, 16 of other cameras; each also once
blurred, darkened, brightened or made grey, some strongly), 1,200 phantoms, and 10,300 other pictures: CIFAR-10 and
sample photographs (plain, grey, orange, inside a black circle), digits, text, noise, gradients, blanks, balls, skin.
On the other 30 % of the same collections: AUC 0.998 (unchanged photographs). The limit of 0.1, which was
chosen after that, flags 2 of 1,484 photographs and 94 % of 3,172 other pictures. It is weakest for round things: it
flags 83 % of balls, and about 75 % of skin and tinted scenes inside a black circle.

The other limits were set by eye, on sheets of pictures just above and just below each. Flagged: of Messidor-2 (1,744)
0.2 % blurred, 0.2 % low-contrast; of 1,000 ungraded cataract eyes 65 % blurred, 30 % low-contrast, 6 % too-bright; of
1,000 normal and 1,000 glaucoma eyes 4 and 8 % blurred, 1 and 1.5 % too-dark, 1 % low-contrast. Of 300 Messidor-2
photographs at 256 px made worse: blurred at sigma 2, 3, 4 px 22, 87, 100 %; too-dark at gamma 3 57 %; too-bright at
gain 2, 3 23, 67 % (most are dim, so a gain of 2 does little harm); low-contrast under 60 % haze 74 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import NamedTuple

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.fundus.crop import Disc

FLAGS = {
    "no-disc": "No round field of view was found, as in pictures that were squeezed or cropped before; "
    "the whole picture was used.",
    "blurred": "The vessels are not sharp; small lesions may be invisible.",
    "too-dark": "Much of the retina is underexposed; lesions may be hidden in the dark.",
    "too-bright": "Much of the retina is overexposed; lesions there cannot be seen.",
    "low-contrast": "The picture is hazy; lesions hardly stand out from the retina.",
    "cut-off": "A large part of the round field of view is missing.",
    "not-a-retina": "This does not look like a photograph of a retina; a grade for it means nothing.",
    "ungradable": "The people who graded this set could not grade this photograph.",
    "poor-quality": "The people who graded this set judged the quality of this photograph as poor.",
}
# The other flags are warnings: some photographs near a limit can still be graded.
UNGRADABLE = frozenset({"ungradable", "not-a-retina"})
RELIABLE_FROM = 64  # side of the square in px

_LEAST_SHARPNESS, _LEAST_CONTRAST = 0.05, 0.03
_LEAST_BRIGHTNESS, _MOST_BRIGHTNESS = 0.11, 0.75
_MOST_DARK, _MOST_CLIPPED = 0.5, 0.1
_LEAST_FIELD = 0.75  # cameras that cut the disc at top and bottom leave at least 0.85
_LEAST_RETINA = 0.1
_LEAST_LIT = 0.05  # share of the square: a black picture shows no retina

_SIDE = 128
_LIT = 16  # grey levels of 255; darker is the surround
_NEAR_BLACK, _SATURATED = 45, 250  # of the brightest, and of the second brightest channel
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_MARGIN = 0.94  # of the radius: further out is the ragged rim
_CLEAR = 9  # px around dark parts where texture is not measured, since edges look like vessels
_LEAST_CLEAR = 400  # px; with fewer, the whole disc is measured

# Feature: mean, spread; weights of itself, of its products with the features above it, and of its square.
_RETINA_CONSTANT = 1.23
_RETINA: dict[str, tuple[float, float, tuple[float, ...]]] = {
    "found": (0.636, 0.481, (-2.83, 0.0)),
    "blue": (0.224, 0.112, (-0.45, 2.45, 0.42)),
    "red spread": (-3.961, 1.184, (3.54, -0.16, -3.05, -0.65)),
    "order": (0.824, 0.319, (2.84, -0.28, 0.74, -0.68, -0.7)),
    "fine": (-4.569, 0.939, (1.27, 0.39, -0.14, 0.37, 0.7, -1.84)),
    "edges": (-3.554, 1.71, (-4.83, 1.3, -0.12, -0.62, 0.34, 3.69, -2.46)),
    "ridges": (-0.02, 0.734, (1.89, -0.33, 1.04, -0.63, 0.47, 2.17, -2.62, 0.93)),
    "corners": (-2.782, 1.312, (-2.63, -0.38, 1.4, -0.65, -1.02, 0.6, 1.62, 2.2, -1.76)),
    "brightness": (0.432, 0.183, (-1.12, -0.75, -0.59, 0.2, 0.17, -0.95, -0.57, -0.72, -0.05, -0.21)),
}


class _View(NamedTuple):
    """A square at 128 px; masks are bool `[128, 128]`."""

    small: np.ndarray  # float32 [128, 128, 3], RGB, 0..255
    brightest: np.ndarray  # uint8 [128, 128], of the three channels
    lit: np.ndarray  # within the frame and not black
    inside: np.ndarray  # the part of the disc that the frame shows
    clear: np.ndarray  # the part of `inside` that is lit and not near an edge
    field: float  # share of the disc that the frame shows
    surround: float  # share of the frame that is black


class _Texture(NamedTuple):
    """Texture of the green channel in the clear part, relative to the brightness around each pixel."""

    fine: float  # mean detail of 0.7 to 1.4 px
    coarse: float  # mean detail of 2 to 4 px
    contrast: float  # spread without slow shading
    edges: float  # share of steep pixels
    ridges: float  # log of dark over bright ridges: vessels are dark


def measure(square: np.ndarray, disc: Disc, frame: np.ndarray) -> dict[str, float]:
    """Measure one photograph; the comments below describe each number, which is in 0..1 unless they say otherwise.

    `square`: uint8 `[S, S, 3]` RGB, cut from `frame` (uint8 `[h, w, 3]`) around `disc`.
    Where no disc was found, everything that is lit counts as the disc, and `field` is 1.
    """
    view = _look(square, disc, frame)
    texture = _texture(view)
    seen = view.small[view.inside]
    r, g, b = seen.T
    second = np.maximum(np.minimum(r, g), np.minimum(np.maximum(r, g), b))
    visible = view.field * np.pi / 4 * disc.side**2 / (frame.shape[0] * frame.shape[1])
    red, green, blue = cv2.mean(frame)[:3]
    values = {
        "border": max(0.0, 1 - visible) if disc.found else view.surround,  # share of the frame outside the disc
        "red": red,  # mean of the whole frame, 0..255; so are green and blue
        "green": green,
        "blue": blue,
        # Detail relative to brightness and to coarser detail, which blur spares: usually 0.1. About 0..0.25.
        "sharpness": texture.fine / np.sqrt(texture.coarse),
        "brightness": (seen @ _LUMA).mean() / 255,  # mean of the disc
        "contrast": texture.contrast,  # about 0..0.4
        "clipped": (second >= _SATURATED).mean(),  # share of the disc; red alone also saturates in good photographs
        "dark": (view.brightest[view.inside] < _NEAR_BLACK).mean(),  # share of the disc
        "field": view.field,  # share of the disc that is in the frame
        # Is this a photograph of a retina at all?
        "retina": _retina(_features(view, texture, disc.found)) if view.lit.mean() > _LEAST_LIT else 0.0,
    }
    return {name: round(float(value), 1 if name in ("red", "green", "blue") else 4) for name, value in values.items()}


def check_flags(words: Iterable[str], option: str) -> None:
    """FovealError for the first word that is not a flag; `option`: what the user calls them."""
    for word in words:
        if word not in FLAGS:
            raise FovealError("option.value", f"{option} {word}", expected=f"flags among {', '.join(FLAGS)}")


def flags_of(measures: dict[str, float]) -> tuple[str, ...]:
    """Name what is wrong with a photograph, in words of `FLAGS`; empty where nothing was measured."""
    if not measures:
        return ()
    too_dark = measures["brightness"] < _LEAST_BRIGHTNESS or measures["dark"] > _MOST_DARK
    wrong = {
        "not-a-retina": measures["retina"] < _LEAST_RETINA,
        "blurred": measures["sharpness"] < _LEAST_SHARPNESS,
        "too-dark": too_dark,
        "too-bright": measures["brightness"] > _MOST_BRIGHTNESS or measures["clipped"] > _MOST_CLIPPED,
        "low-contrast": measures["contrast"] < _LEAST_CONTRAST,
        "cut-off": measures["field"] < _LEAST_FIELD and not too_dark,  # a black part may just be unlit
    }
    return tuple(flag for flag, is_wrong in wrong.items() if is_wrong)


def _look(square: np.ndarray, disc: Disc, frame: np.ndarray) -> _View:
    small = cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    brightest = cv2.max(cv2.max(small[..., 0], small[..., 1]), small[..., 2])
    framed = _framed(disc, frame.shape[0], frame.shape[1])
    lit = framed & (brightest >= _LIT)
    # Dark parts of a found disc are underexposed; in a picture without a disc they may be the surround.
    shown = framed & _between_bars(lit & _circle(1.0)) if disc.found else lit
    inside = shown & _circle(_MARGIN)
    inside = inside if inside.any() else _circle(_MARGIN)
    clear = inside & (cv2.erode(lit.astype(np.uint8), np.ones((_CLEAR, _CLEAR), np.uint8)) > 0)
    clear = clear if clear.sum() > _LEAST_CLEAR else inside
    surround = float((framed & ~lit).sum() / max(framed.sum(), 1))
    field = float((shown & _circle(1.0)).sum() / _circle(1.0).sum()) if disc.found else 1.0
    return _View(small.astype(np.float32), brightest, lit, inside, clear, field, surround)


def _framed(disc: Disc, rows: int, columns: int) -> np.ndarray:
    """Which part of the square lies within the frame: bool `[128, 128]`."""
    centres = (np.arange(_SIDE) + 0.5) * disc.side / _SIDE
    x, y = centres + disc.left, centres + disc.top
    return np.outer((y > 0) & (y < rows), (x > 0) & (x < columns))


def _between_bars(shown: np.ndarray) -> np.ndarray:
    """Return the rectangle around what is lit, since black bars also cut a disc off. bool `[128, 128]`."""
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    result = np.zeros_like(shown)
    if len(rows):
        result[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return result


def _texture(view: _View) -> _Texture:
    """Measure the green channel, which shows vessels best; at this size they are 1 to 3 px wide."""
    green = view.small[..., 1]
    weights = view.lit.astype(np.float32)

    def lit_mean(blur: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:  # the black surround would count as contrast
        return blur(green * weights) / np.maximum(blur(weights), 0.01)

    a, b, c, d = (lit_mean(partial(cv2.GaussianBlur, ksize=(0, 0), sigmaX=sigma)) for sigma in (0.7, 1.4, 2, 4))
    slow = lit_mean(partial(cv2.blur, ksize=(33, 33)))
    around = 1 / (d[view.clear] + 8)  # 8: no division by almost zero
    dark, bright = _ridges(b)
    slope = cv2.magnitude(cv2.Sobel(b, -1, 1, 0, scale=1 / 8), cv2.Sobel(b, -1, 0, 1, scale=1 / 8))
    darker, brighter = (float((ridge[view.clear] * around).mean()) + 1e-4 for ridge in (dark, bright))
    return _Texture(
        fine=float((np.abs(a - b)[view.clear] * around).mean()),
        coarse=float((np.abs(c - d)[view.clear] * around).mean()) + 1e-4,
        contrast=float(((a - slow) / (slow + 8))[view.clear].std()),
        edges=float((slope[view.clear] * around > 0.08).mean()),
        ridges=float(np.log(darker / brighter)),
    )


def _ridges(green: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much darker, and how much brighter, lines are than both sides (curvatures, as in Frangi et al., 1998)."""
    xx, yy, xy = (cv2.Sobel(green, -1, *order, scale=1 / 4) for order in ((2, 0), (0, 2), (1, 1)))
    middle, half = (xx + yy) / 2, cv2.magnitude((xx - yy) / 2, xy)
    most, least = middle + half, middle - half
    return np.maximum(most - np.abs(least), 0), np.maximum(-least - np.abs(most), 0)


def _features(view: _View, texture: _Texture, found: bool) -> dict[str, float]:
    """The features of `retina`, in the order of `_RETINA`."""
    clear = view.small[view.clear] + 1
    r, g, b = clear.T
    total = r + g + b
    return {
        "found": float(found),
        "blue": float((b / total).mean()),
        "red spread": float(np.log((r / total).std() + 0.003)),
        "order": float(((r >= g) & (g >= b)).mean()),
        "fine": float(np.log(texture.fine + 5e-4)),
        "edges": float(np.log(texture.edges + 0.003)),
        "ridges": texture.ridges,
        "corners": float(np.log(view.brightest[~_circle(1.0)].mean() / 255 + 0.02)),
        "brightness": float(total.mean() / 765),
    }


def _retina(features: dict[str, float]) -> float:
    """The logistic regression: each feature in spreads from its mean, at most 3."""
    score, above = _RETINA_CONSTANT, [1.0]
    for name, (mean, spread, weights) in _RETINA.items():
        value = min(max((features[name] - mean) / spread, -3.0), 3.0)
        above.append(value)
        score += value * sum(weight * other for weight, other in zip(weights, above, strict=True))
    return float(1 / (1 + np.exp(-score)))


@cache
def _circle(share: float) -> np.ndarray:
    """Which pixels of the 128 px square lie within `share` of the radius: bool `[128, 128]`."""
    offset = np.arange(_SIDE) + 0.5 - _SIDE / 2
    return np.hypot(offset[:, None], offset) <= share * _SIDE / 2
