"""Attribution: which parts of the input a score depends on. captum has the methods of pixels, this file those of maps.

Legend: B images, C channels, s pixels a side. A map is float32 [s, s] >= 0: it keeps only the parts that raise the
score. D features, h = w cells per side; A [D, h, w]: a feature map; G: the gradient of the score with respect to A.

gradcam    relu(sum_d mean(G_d) A_d)                                                      Selvaraju et al. 2017
gradcam++  relu(sum_d w_d A_d), w_d = sum(a relu(G_d)), a = G^2 / (2 G^2 + sum(A_d) G^3)  Chattopadhay et al. 2018
hirescam   relu(sum_d G_d A_d): the effect on the score at each cell                      Draelos and Carin 2020
layercam   relu(sum_d relu(G_d) A_d), of an earlier stage, with more cells                Jiang et al. 2021
integrated-gradients  gradients averaged along the path from a baseline to the picture    Sundararajan et al. 2017
occlusion             the drop of the score when a window is replaced by a blurred one    Zeiler and Fergus 2014
saliency              the largest gradient of the channels, unsigned                      Simonyan et al. 2014
gradient-x-input      gradient times normalised input                                     Shrikumar et al. 2016

If the head uses the mean of the last map, G is the same in all cells, and hirescam equals gradcam. captum's
LayerGradCam gives the same maps for convolutions, but cannot arrange the tokens of transformers.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError

MethodName = Literal[
    "gradcam", "gradcam++", "hirescam", "layercam", "integrated-gradients", "occlusion", "saliency", "gradient-x-input"
]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
STEPS = 32  # steps of integrated gradients
WINDOWS = 8  # occlusion windows per side; they move by half their width
AT_ONCE = 32  # inputs per pass of the network
SMOOTHING = 0.012  # as a share of the side: smooths the noise of single pixels
# Stages before the last: with 2, the AUC of layercam was furthest above that of random weights on drawn photographs.
# Combining stages by the maximum, as the paper also does, lets the coarse map hide the fine one.
EARLIER = 2

Layout = Callable[[Tensor], Tensor]
Seen = dict[nn.Module, tuple[Tensor, Tensor]]  # module -> (A, G), in the order of the pass


class Scorer(nn.Module):
    """A module from inputs [B, C, s, s] to scores [B]: a grader, and a function of its logits [B, K]."""

    def __init__(self, grader: nn.Module, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.grader, self.score = grader, score

    def forward(self, images: Tensor) -> Tensor:
        """Scores float32 [B]."""
        return self.score(self.grader(images))


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
    and for the methods of feature maps if the encoder has no feature map.
    """
    image = image.detach().clone().requires_grad_(True)
    if method in WEIGHTED:
        return Attribution(*class_activation(method, scorer, image))
    if method == "occlusion":
        return Attribution(_occluded(scorer, image.detach(), baseline), 2 * WINDOWS)
    if method == "integrated-gradients":
        return _integrated(scorer, image, baseline)
    if method not in METHODS:
        raise FovealError("option.value", f"--method {method}", expected=f"one of {', '.join(METHODS)}")
    from captum.attr import InputXGradient, Saliency

    if method == "saliency":
        return _smoothed(Saliency(scorer).attribute(image)[0].amax(0))
    return _smoothed(InputXGradient(scorer).attribute(image)[0].sum(0))


def _integrated(scorer: Scorer, image: Tensor, baseline: Tensor) -> Attribution:
    from captum.attr import IntegratedGradients

    pixels, missed = IntegratedGradients(scorer).attribute(
        image, baseline, n_steps=STEPS, internal_batch_size=AT_ONCE, return_convergence_delta=True
    )
    with torch.no_grad():
        change = float(abs(scorer(image) - scorer(baseline)))
    return _smoothed(pixels[0].sum(0), abs(float(missed)) / change if change > 0 else math.nan)


def _occluded(scorer: Scorer, image: Tensor, baseline: Tensor) -> Tensor:
    """The mean drop of the score when a pixel is hidden by a window of `baseline`, float32 [s, s] >= 0."""
    from captum.attr import Occlusion

    width, channels = max(round(image.shape[3] / WINDOWS), 2), image.shape[1]
    window, step = (channels, width, width), (channels, width // 2, width // 2)
    with torch.no_grad():
        falls: Tensor = Occlusion(scorer).attribute(image, window, step, baseline, perturbations_per_eval=AT_ONCE)
    return falls[0, 0].clamp_min(0).float()


def _smoothed(pixels: Tensor, delta: float | None = None) -> Attribution:
    """The positive part of a map of pixels [s, s], blurred, with zeros beyond the edge. A cell is two deviations."""
    size = pixels.shape[1]
    sigma = max(SMOOTHING * size, 0.8)
    width = 2 * math.ceil(2.5 * sigma) + 1
    positive = pixels.detach().float().clamp_min(0).cpu().numpy()
    blurred = cv2.GaussianBlur(positive, (width, width), sigma, borderType=cv2.BORDER_CONSTANT)
    return Attribution(torch.from_numpy(blurred), int(size / (2 * sigma)), delta)


def class_activation(method: str, scorer: Scorer, image: Tensor) -> tuple[Tensor, int]:
    """(map float32 [s, s] >= 0, cells per side) for a normalised input [1, C, s, s] that requires gradients.

    FovealError if the encoder has no feature map with more than one cell.
    """
    seen = feature_maps(scorer, image)
    if not seen:
        what = f"--method {method} does not work with this encoder: it has no feature map larger than 1 x 1"
        raise FovealError("run.no_maps", what, fix="use --method integrated-gradients")
    module = _early(scorer, seen) if method == "layercam" else _last(seen)
    return enlarged(WEIGHTED[method](*seen[module]).relu(), image.shape[3])


def enlarged(coarse: Tensor, size: int) -> tuple[Tensor, int]:
    """(the map [h, h] enlarged to the input size [size, size], h)."""
    heat = F.interpolate(coarse[None, None], (size, size), mode="bilinear", align_corners=False)
    return heat[0, 0], len(coarse)


def feature_maps(scorer: Scorer, image: Tensor) -> Seen:
    """Every feature map of one pass with its gradient, float32 [D, h, w], h = w > 1; empty if there is none.

    Hooks find them in any encoder. For transformers, the tokens are arranged in their original grid.
    """
    encoder = scorer.grader.get_submodule("encoder")
    score, outputs = _outputs(scorer, encoder, image)
    lengths = {output.shape[1] for output in outputs.values() if output.dim() == 3}
    layouts = {module: _layout(output, encoder, lengths) for module, output in outputs.items()}
    maps = [(module, outputs[module], layout) for module, layout in layouts.items() if layout]
    gradients = torch.autograd.grad(score.sum(), [output for _, output, _ in maps], allow_unused=True) if maps else ()
    return {
        module: (layout(output.detach()[0].float()), layout(gradient[0].float()))
        for (module, output, layout), gradient in zip(maps, gradients, strict=True)
        if gradient is not None
    }


def _outputs(scorer: Scorer, encoder: nn.Module, image: Tensor) -> tuple[Tensor, dict[nn.Module, Tensor]]:
    """(score [1], the last output of every module of the encoder, in execution order)."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: Any, output: Any) -> None:
        outputs.pop(module, None)
        if isinstance(output, Tensor) and len(output) == 1 and output.requires_grad:
            outputs[module] = output

    handles = [module.register_forward_hook(keep) for module in encoder.modules() if module is not encoder]
    try:
        return scorer(image), outputs
    finally:
        for handle in handles:
            handle.remove()


def _layout(output: Tensor, encoder: Any, lengths: set[int]) -> Layout | None:
    """A function from an output to [D, h, w], or None if it is no feature map; `lengths`: token counts in the pass.

    A square whose side is a token count is attention. Tokens of a different width are inside its layers.
    """
    shape = output.shape
    if output.dim() == 3 and shape[2] == encoder.num_features:
        first = getattr(encoder, "num_prefix_tokens", 0)  # class and register tokens have no position
        side = math.isqrt(shape[1] - first)
        is_square = side > 1 and side**2 == shape[1] - first
        return (lambda part: part[first:].T.reshape(-1, side, side)) if is_square else None
    if output.dim() == 4 and shape[2] == shape[3] > 1 and shape[2] not in lengths:
        return lambda part: part
    if output.dim() == 4 and shape[1] == shape[2] > 1 and shape[3] != shape[2]:
        return lambda part: part.permute(2, 0, 1)  # channels come last, as in Swin
    return None


def _last(seen: Seen) -> nn.Module:
    """The last map that the score depends on.

    If the head reads only the class token, the other tokens of the last block have no effect; then it is its input.
    """
    read = [module for module, (_, gradients) in seen.items() if gradients.any()]
    return (read or list(seen))[-1]


def _early(scorer: Scorer, seen: Seen) -> nn.Module:
    """The output of an earlier stage, as named by timm; the last map if no stage is finer."""
    last = _last(seen)
    encoder: Any = scorer.grader.get_submodule("encoder")
    named = [encoder.get_submodule(stage["module"]) for stage in getattr(encoder, "feature_info", [])]
    finer = [module for module in named if module in seen and len(seen[module][0][0]) > len(seen[last][0][0])]
    return [*finer, last][-1 - min(EARLIER, len(finer))]


def grad_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """A, G [D, h, w] -> [h, w], as in all functions below."""
    return (gradients.mean((1, 2), keepdim=True) * features).sum(0)


def grad_cam_pp(features: Tensor, gradients: Tensor) -> Tensor:
    """The weights a of the paper, simplified by G^2: 1 / (2 + sum(A) G). Cells with G <= 0 do not count.

    The paper assumes A >= 0, as after ReLU. With other activations, negative sums count as 0: a is at most 1/2.
    """
    rising = gradients.relu()
    places = 1 / (2 + features.sum((1, 2), keepdim=True).relu() * rising)
    return ((places * rising).sum((1, 2), keepdim=True) * features).sum(0)


def hires_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Each cell is weighted by its own gradient."""
    return (gradients * features).sum(0)


def layer_cam(features: Tensor, gradients: Tensor) -> Tensor:
    """Each cell is weighted by its own gradient, if positive."""
    return (gradients.relu() * features).sum(0)


WEIGHTED = {"gradcam": grad_cam, "gradcam++": grad_cam_pp, "hirescam": hires_cam, "layercam": layer_cam}
