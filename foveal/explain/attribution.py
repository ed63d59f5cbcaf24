"""Attribution: which parts of the network's input a score rests on; methods by captum, or in cam.py where it has none.

Legend: B images, C channels, s pixels a side, S pixels a side of the prepared picture. A map is float32 [s, s] >= 0:
only what raises the score is kept, as only that has a place to point at.

gradcam and its kin   the last map of features, weighted by gradients: cam.py (Selvaraju et al. 2017)
integrated-gradients  gradients along the way from a baseline to the picture (Sundararajan et al. 2017)
occlusion             the fall of the score when a window is replaced by its blurred surroundings (Zeiler, Fergus 2014)
saliency              the largest gradient of the channels, unsigned (Simonyan et al. 2014)
gradient-x-input      gradient times normalised input (Shrikumar et al. 2016)
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.explain.cam import WEIGHTED, class_activation
from foveal.explain.target import Scorer

MethodName = Literal[
    "gradcam", "gradcam++", "hirescam", "layercam", "integrated-gradients", "occlusion", "saliency", "gradient-x-input"
]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
STEPS = 32  # of integrated gradients
WINDOWS = 8  # occlusion windows, side by side, over the whole side; they move by half of their own
AT_ONCE = 32  # inputs per pass of the network
SMOOTHING = 0.012  # of the side: gradients of single pixels are speckled, and a speckle is no finding


@dataclass(frozen=True)
class Attribution:
    """A map with what must be known to read it.

    `heat`: float32 [s, s] >= 0. `cells`: how many places a side the method can tell apart.
    `delta`: integrated gradients only: how far the map's sum misses the change of score, as a share of that change.
    """

    heat: Tensor
    cells: int
    delta: float | None = None


def require_captum() -> None:
    """FovealError with the command that installs captum, where it is missing."""
    if importlib.util.find_spec("captum") is None:
        raise FovealError("package.missing", "foveal explain needs captum", fix="pip install 'foveal[explain]'")


def attribute(method: str, scorer: Scorer, image: Tensor, baseline: Tensor) -> Attribution:
    """The map of one normalised input [1, C, s, s]; `baseline` has the same shape: the picture with nothing to see.

    The grader's parameters must not require gradients: nothing may stay on the model. FovealError for an unknown
    method, and for those of cam.py on an encoder without a map of features.
    """
    image = image.detach().clone().requires_grad_(True)
    if method in WEIGHTED:
        return Attribution(*class_activation(method, scorer, image))
    if method == "occlusion":
        return Attribution(occlusion(scorer, image.detach(), baseline, WINDOWS), 2 * WINDOWS)
    if method == "integrated-gradients":
        return _integrated(scorer, image, baseline)
    if method not in METHODS:
        raise FovealError("option.value", f"--method {method}", expected=f"one of {', '.join(METHODS)}")
    from captum.attr import InputXGradient, Saliency

    if method == "saliency":
        pixels = Saliency(scorer).attribute(image)[0].amax(0)
    else:
        pixels = InputXGradient(scorer).attribute(image)[0].sum(0)
    return Attribution(_smoothed(pixels), _cells_of_pixels(image))


def _integrated(scorer: Scorer, image: Tensor, baseline: Tensor) -> Attribution:
    from captum.attr import IntegratedGradients

    pixels, missed = IntegratedGradients(scorer).attribute(
        image, baseline, n_steps=STEPS, internal_batch_size=AT_ONCE, return_convergence_delta=True
    )
    with torch.no_grad():
        change = float(abs(scorer(image) - scorer(baseline)))
    delta = abs(float(missed)) / change if change > 0 else math.nan
    return Attribution(_smoothed(pixels[0].sum(0)), _cells_of_pixels(image), delta)


def occlusion(scorer: Scorer, image: Tensor, baseline: Tensor, windows: int) -> Tensor:
    """The mean fall of the score while a pixel is hidden, float32 [s, s] >= 0.

    A window is a `windows`-th of the side; inside it the picture is replaced by `baseline`.
    """
    from captum.attr import Occlusion

    width = max(round(image.shape[3] / windows), 2)
    channels = image.shape[1]
    with torch.no_grad():
        falls: Tensor = Occlusion(scorer).attribute(
            image, (channels, width, width), (channels, width // 2, width // 2), baselines=baseline,
            perturbations_per_eval=AT_ONCE,
        )  # fmt: skip
    return falls[0, 0].clamp_min(0).float()


def _deviation(size: int) -> float:
    """Standard deviation of the blur, in pixels."""
    return max(SMOOTHING * size, 0.8)


def _smoothed(pixels: Tensor) -> Tensor:
    """The positive part [s, s], blurred; beyond the edge there is nothing."""
    sigma = _deviation(pixels.shape[1])
    width = 2 * math.ceil(2.5 * sigma) + 1
    positive = pixels.detach().float().clamp_min(0).cpu().numpy()
    return torch.from_numpy(cv2.GaussianBlur(positive, (width, width), sigma, borderType=cv2.BORDER_CONSTANT))


def _cells_of_pixels(image: Tensor) -> int:
    """Places a side that remain after smoothing: a blur joins what is nearer than twice its deviation."""
    return int(min(image.shape[3], image.shape[3] / (2 * _deviation(image.shape[3]))))
