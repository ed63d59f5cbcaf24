"""The quality of a photograph: eleven measures, and the flags that follow from them.

All but the colour of the frame is measured on a copy of the cropped square at 128 px, so that a 16-megapixel photograph
and its 256-px copy get the same numbers. Below 64 px vessels are too thin to be measured, so there are no flags.

The flags, their limits and the regression behind `retina`, with how each was found, are in quality.toml.
"""

import tomllib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.fundus.composed import highest, is_composed
from foveal.fundus.crop import Disc, inscribed

_KNOWN = tomllib.loads(Path(__file__).with_name("quality.toml").read_text(encoding="utf-8"))
FLAGS: dict[str, str] = _KNOWN["flags"]
ADVICE: dict[str, str] = _KNOWN["advice"]
SIDES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
# The other flags are warnings: some photographs near a limit can still be graded.
UNGRADABLE = frozenset({"ungradable", "not-a-retina"})
RELIABLE_FROM = 64  # side of the square in px
_LEAST_LIT = 0.05  # share of the square: a black picture shows no retina
_SIDE = 128
_LIT = 16  # grey levels of 255; darker is the surround
_NEAR_BLACK, _SATURATED = 45, 250  # of the brightest, and of the second brightest channel
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_MARGIN = 0.94  # of the radius: further out is the ragged rim
_CUT = 0.25  # share of a quarter of the disc; cameras that cut the disc at top and bottom may leave less out
_CLEAR = 9  # px around dark parts where texture is not measured, since edges look like vessels
_LEAST_CLEAR = 400  # px; with fewer, the whole disc is measured


class _View(NamedTuple):
    """A square at 128 px; masks are bool `[128, 128]`."""

    small: np.ndarray  # float32 [128, 128, 3], RGB, 0..255
    brightest: np.ndarray  # uint8 [128, 128], of the three channels
    lit: np.ndarray  # within the frame and not black
    shown: np.ndarray  # within the frame and the bars that cut the disc off
    inside: np.ndarray  # the part of the disc that the frame shows
    clear: np.ndarray  # the part of `inside` that is lit and not near an edge
    field: float  # share of the disc that the frame shows
    surround: float  # share of the frame that is black


def measure(square: np.ndarray, disc: Disc, frame: np.ndarray, picture: np.ndarray | None = None) -> dict[str, float]:
    """Measure one photograph; the comments below describe each number, which is in 0..1 unless they say otherwise.

    `square`: uint8 `[S, S, 3]` RGB, cut from `frame` (uint8 `[h, w, 3]`) around `disc`. `picture`: the frame before its
    white surround was made black, if it was.
    Where no disc was found, everything that is lit counts as the disc, and `field` is 1.
    """
    view, whole = _look(square, disc, frame), frame if picture is None else picture
    texture, seen = _texture(view), view.small[view.inside]
    r, g, b = seen.T
    second = np.maximum(np.minimum(r, g), np.minimum(np.maximum(r, g), b))
    photograph = view.lit.mean() > _LEAST_LIT and not is_composed(whole, frame, disc, _KNOWN["composed"])
    red, green, blue = cv2.mean(frame)[:3]
    visible = view.field * np.pi / 4 * disc.width * disc.height / (frame.shape[0] * frame.shape[1])
    values = {
        "border": max(0.0, 1 - visible) if disc.found else view.surround,  # share of the frame outside the disc
        "red": red,  # mean of the whole frame, 0..255; so are green and blue
        "green": green,
        "blue": blue,
        # Detail relative to brightness and to coarser detail, which blur spares: usually 0.1. About 0..0.25.
        "sharpness": texture["fine"] / np.sqrt(texture["coarse"]),
        "brightness": (seen @ _LUMA).mean() / 255,  # mean of the disc
        "contrast": texture["contrast"],  # about 0..0.4
        "clipped": (second >= _SATURATED).mean(),  # share of the disc; red alone also saturates in good photographs
        "dark": (view.brightest[view.inside] < _NEAR_BLACK).mean(),  # share of the disc
        "field": view.field,  # share of the disc that is in the frame
        "retina": _retina(_features(view, texture, disc.found)) if photograph else 0.0,  # is this a retina?
    }
    return {name: round(float(value), 1 if name in ("red", "green", "blue") else 4) for name, value in values.items()}


def check_flags(words: Iterable[str], option: str) -> None:
    """FovealError if a word is not a flag; `option`: the option that has them."""
    for word in words:
        if word not in FLAGS:
            raise FovealError("option.value", f"{option} {word}", expected=f"flags among {', '.join(FLAGS)}")


def flags_of(measures: dict[str, float]) -> tuple[str, ...]:
    """The flags of a photograph from its `measures` (of a `Prepared`); empty if nothing was measured."""
    if not measures:
        return ()
    low = {name for name, limit in _KNOWN["least"].items() if measures[name] < limit}
    high = {name for name, limit in _KNOWN["most"].items() if measures[name] > limit}
    too_dark = "brightness" in low or "dark" in high
    wrong = {
        "not-a-retina": "retina" in low or all(measures[name] < limit for name, limit in _KNOWN["empty"].items()),
        "blurred": "sharpness" in low, "too-dark": too_dark, "too-bright": "brightness" in high or "clipped" in high,
        "low-contrast": "contrast" in low, "cut-off": "field" in low and not too_dark,  # a black part may just be unlit
    }  # fmt: skip
    return tuple(flag for flag, is_wrong in wrong.items() if is_wrong)


def cut_sides(square: np.ndarray, disc: Disc, frame: np.ndarray) -> tuple[str, ...]:
    """The sides (keys of `SIDES`) on which a large part of the disc is missing; arguments as in `measure`."""
    whole = inscribed(_SIDE, 1.0)
    missing = whole & ~_look(square, disc, frame).shown
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    quarters = {"left": x < -np.abs(y), "right": x > np.abs(y), "top": y < -np.abs(x), "bottom": y > np.abs(x)}
    shares = {side: float(missing[quarter].sum() / whole[quarter].sum()) for side, quarter in quarters.items()}
    return tuple(side for side, share in shares.items() if share > max(_CUT, max(shares.values()) / 2))


def advice_of(flags: Iterable[str], sides: Iterable[str] = ()) -> str:
    """What to do about a photograph with these flags, in a sentence; "" without flags. sides: of a `Prepared`."""
    check_flags(flags := list(flags), "flags")
    cut = " and ".join(SIDES[side] for side in sides)
    parts = [ADVICE[flag] + (f" (it is cut off {cut})" if flag == "cut-off" and cut else "") for flag in flags]
    return f"Photograph again: {'; '.join(parts)}." if parts else ""


def _look(square: np.ndarray, disc: Disc, frame: np.ndarray) -> _View:
    small = cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    brightest, centres = highest(small), (np.arange(_SIDE) + 0.5) / _SIDE
    x, y = centres * disc.width + disc.left, centres * disc.height + disc.top
    framed = np.outer((y > 0) & (y < frame.shape[0]), (x > 0) & (x < frame.shape[1]))
    whole, middle = inscribed(_SIDE, 1.0), inscribed(_SIDE, _MARGIN)
    shown = lit = framed & (brightest >= _LIT)
    if disc.found:  # dark parts of it are underexposed; black bars also cut a disc off
        left, top, width, height = cv2.boundingRect((lit & whole).astype(np.uint8))
        shown = np.zeros_like(lit)
        shown[top : top + height, left : left + width] = framed[top : top + height, left : left + width]
    inside = shown & middle if (shown & middle).any() else middle
    clear = inside & (cv2.erode(lit.astype(np.uint8), np.ones((_CLEAR, _CLEAR), np.uint8)) > 0)
    clear = clear if clear.sum() > _LEAST_CLEAR else inside
    surround = float((framed & ~lit).sum() / max(framed.sum(), 1))
    field = float((shown & whole).sum() / whole.sum()) if disc.found else 1.0
    return _View(small.astype(np.float32), brightest, lit, shown, inside, clear, field, surround)


def _texture(view: _View) -> dict[str, float]:
    """Texture of the green channel in the clear part, relative to the brightness around each pixel."""
    # Green shows vessels best; at this size they are 1 to 3 px wide.
    red, green, blue = cv2.split(view.small)
    weights = view.lit.astype(np.float32)

    def lit_mean(channel: np.ndarray, blur: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return blur(channel * weights) / np.maximum(blur(weights), 0.01)  # the black surround would count as contrast

    def blurred(channel: np.ndarray, sigma: float) -> np.ndarray:
        return lit_mean(channel, partial(cv2.GaussianBlur, ksize=(0, 0), sigmaX=sigma))

    a, b, c, d, e = (blurred(green, sigma) for sigma in (0.7, 1.4, 2, 4, 8))
    slow = lit_mean(green, partial(cv2.blur, ksize=(33, 33)))
    all_d = blurred(view.small.sum(axis=2) + 1, 4)
    bands = ((b, d), *((blurred(channel, 1.4), blurred(channel, 4)) for channel in (red, blue)))
    detail = [((near - far) / (far + 8))[view.clear] for near, far in bands]
    around = 1 / (d[view.clear] + 8)  # 8: no division by almost zero
    # How much darker, and how much brighter, lines are than both sides (curvatures, as in Frangi et al., 1998).
    xx, yy, xy = (cv2.Sobel(b, -1, *order, scale=1 / 4) for order in ((2, 0), (0, 2), (1, 1)))
    middle, half = (xx + yy) / 2, cv2.magnitude((xx - yy) / 2, xy)
    most, least = middle + half, middle - half
    dark, bright = np.maximum(most - np.abs(least), 0), np.maximum(-least - np.abs(most), 0)
    slope = cv2.magnitude(cv2.Sobel(b, -1, 1, 0, scale=1 / 8), cv2.Sobel(b, -1, 0, 1, scale=1 / 8))
    darker, brighter = (float((ridge[view.clear] * around).mean()) + 1e-4 for ridge in (dark, bright))
    return {
        "fine": float((np.abs(a - b)[view.clear] * around).mean()),  # mean detail of 0.7 to 1.4 px
        "coarse": float((np.abs(c - d)[view.clear] * around).mean()) + 1e-4,  # mean detail of 2 to 4 px
        "contrast": float(((a - slow) / (slow + 8))[view.clear].std()),  # spread without slow shading
        "edges": float((slope[view.clear] * around > 0.08).mean()),  # share of steep pixels
        "ridges": float(np.log(darker / brighter)),  # dark over bright ridges: vessels are dark
        # How alike detail of 1.4 to 4 px is in red and green, and in green and blue: blood hardly shows in red, and
        # little of a retina in blue, but shadows and most paints show in all.
        "red like green": _correlation(detail[1], detail[0]),
        "blue like green": _correlation(detail[2], detail[0]),
        "detail": float(detail[0].std()),
        "shading": float(e[view.clear].std() / (e[view.clear].mean() + 8)),  # slow changes of brightness
        "green spread": float((d / (all_d + 1))[view.clear].std()),  # of the share of green
    }


def _features(view: _View, texture: dict[str, float], found: bool) -> dict[str, float]:
    """The features of `retina`, by their names in quality.toml: texture, much of it as logarithms, and colours."""
    r, g, b = (view.small[view.clear] + 1).T
    total = r + g + b
    added = {"fine": 5e-4, "edges": 0.003, "shading": 0.01, "green spread": 0.003, "detail": 0.003}
    return texture | {name: float(np.log(texture[name] + least)) for name, least in added.items()} | {
        "found": float(found), "blue": float((b / total).mean()), "order": float(((r >= g) & (g >= b)).mean()),
        "red spread": float(np.log((r / total).std() + 0.003)), "brightness": float(total.mean() / 765),
        "corners": float(np.log(view.brightest[~inscribed(_SIDE, 1.0)].mean() / 255 + 0.02)),
    }  # fmt: skip


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; 0 where one hardly varies."""
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).mean() / (one.std() * other.std() + 1e-5))


def _retina(features: dict[str, float]) -> float:
    """The logistic regression: each feature in spreads from its mean, at most 3."""
    score, above = _KNOWN["retina"]["constant"], [1.0]
    for name, (mean, spread, weights) in _KNOWN["retina"]["features"].items():
        value = min(max((features[name] - mean) / spread, -3.0), 3.0)
        above.append(value)
        score += value * sum(weight * other for weight, other in zip(weights, above, strict=True))
    return float(1 / (1 + np.exp(-score)))
