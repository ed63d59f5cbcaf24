"""Attribution: which parts of the input a score depends on. The methods come from captum, or from cam.py.

Legend: B images, C channels, s pixels a side, S pixels a side of the prepared picture. A map is float32 [s, s] >= 0:
it keeps only the parts that raise the score.

gradcam and others    the last feature map, weighted by gradients: cam.py (Selvaraju et al. 2017)
integrated-gradients  gradients averaged along the path from a baseline to the picture (Sundararajan et al. 2017)
occlusion             the drop of the score when a window is replaced by a blurred version (Zeiler, Fergus 2014)
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
STEPS = 32  # steps of integrated gradients
WINDOWS = 8  # occlusion windows per side; they move by half their width
AT_ONCE = 32  # inputs per pass of the network
SMOOTHING = 0.012  # as a share of the side: smooths the noise of single pixels


@dataclass(frozen=True)
class Attribution:
    """A map and how precise it is.

    `heat`: float32 [s, s] >= 0. `cells`: the resolution of the method, in cells per side.
    `delta`: for integrated gradients, the error of the sum of the map as a share of the change of the score.
    """

    heat: Tensor
    cells: int
    delta: float | None = None


def require_captum() -> None:
    """Raise FovealError, with the command to install it, if captum is missing."""
    if importlib.util.find_spec("captum") is None:
        raise FovealError("package.missing", "foveal explain needs captum", fix="pip install 'foveal[explain]'")


def attribute(method: str, scorer: Scorer, image: Tensor, baseline: Tensor) -> Attribution:
    """The map of one normalised input [1, C, s, s]; `baseline`, of the same shape, is the picture without content.

    The parameters of the grader must not require gradients, so that none accumulate. FovealError for an unknown method,
    and for the methods of cam.py if the encoder has no feature map.
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
    """The mean drop of the score when a pixel is hidden, float32 [s, s] >= 0.

    `windows`: windows per side; inside a window, `baseline` replaces the picture.
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
    """The positive part [s, s], blurred; zeros beyond the edge."""
    sigma = _deviation(pixels.shape[1])
    width = 2 * math.ceil(2.5 * sigma) + 1
    positive = pixels.detach().float().clamp_min(0).cpu().numpy()
    return torch.from_numpy(cv2.GaussianBlur(positive, (width, width), sigma, borderType=cv2.BORDER_CONSTANT))


def _cells_of_pixels(image: Tensor) -> int:
    """The resolution in cells per side after smoothing: a cell is twice the standard deviation of the blur."""
    return int(min(image.shape[3], image.shape[3] / (2 * _deviation(image.shape[3]))))
