"""Attribution: which parts of the input a score depends on. captum has the methods of pixels, this file those of maps:
its LayerGradCam gives the same maps for convolutions, but cannot arrange the tokens of transformers.

Legend: B images, C channels, s pixels a side. A map is float32 [s, s] >= 0: it keeps only the parts that raise the
score. D features, h = w cells per side; A [D, h, w]: a feature map; G: the gradient of the score with respect to A.

gradcam    relu(sum_d mean(G_d) A_d)                                                      Selvaraju et al. 2017
layercam   relu(sum_d relu(G_d) A_d), of an earlier stage, with more cells                Jiang et al. 2021
integrated-gradients  gradients averaged along the path from a baseline to the picture    Sundararajan et al. 2017
occlusion             the drop of the score when a window is replaced by a blurred one    Zeiler and Fergus 2014
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError

MethodName = Literal["gradcam", "layercam", "integrated-gradients", "occlusion"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
WEIGHTED = METHODS[:2]  # those of feature maps
STEPS = 32  # steps of integrated gradients
WINDOWS = 8  # occlusion windows per side; they move by half their width
AT_ONCE = 32  # inputs per pass of the network
SMOOTHING = 0.012  # as a share of the side: smooths the noise of single pixels
EARLIER = 2  # stages before the last: there layercam was furthest above random weights on drawn photographs

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
    """A map `heat` float32 [s, s] >= 0, and how precise it is: `cells` per side and, for integrated gradients, `delta`,
    the error of the sum of the map as a share of the change of the score.
    """

    heat: Tensor
    cells: int
    delta: float | None = None


def attribute(method: str, scorer: Scorer, image: Tensor, baseline: Tensor) -> Attribution:
    """The map of one normalised input [1, C, s, s]; `baseline`, of the same shape, is the picture without content.

    FovealError for the methods of feature maps if the encoder has none.
    """
    image = image.detach().clone().requires_grad_(True)
    if method in WEIGHTED:
        return Attribution(*class_activation(method, scorer, image))
    from captum.attr import IntegratedGradients, Occlusion

    if method == "occlusion":  # the mean drop of the score when a pixel is hidden by a window of `baseline`
        width, channels = max(round(image.shape[3] / WINDOWS), 2), image.shape[1]
        window, step = (channels, width, width), (channels, width // 2, width // 2)
        with torch.no_grad():
            falls = Occlusion(scorer).attribute(image, window, step, baseline, perturbations_per_eval=AT_ONCE)
        return Attribution(falls[0, 0].clamp_min(0).float(), 2 * WINDOWS)
    pixels, missed = IntegratedGradients(scorer).attribute(
        image, baseline, n_steps=STEPS, internal_batch_size=AT_ONCE, return_convergence_delta=True
    )
    with torch.no_grad():
        change = float(abs(scorer(image) - scorer(baseline)))
    return _smoothed(pixels[0].sum(0), abs(float(missed)) / change if change > 0 else math.nan)


def _smoothed(pixels: Tensor, delta: float) -> Attribution:
    """The positive part of a map of pixels [s, s], blurred, with zeros beyond the edge. A cell is two deviations."""
    size = pixels.shape[1]
    sigma = max(SMOOTHING * size, 0.8)
    width = 2 * math.ceil(2.5 * sigma) + 1
    positive = pixels.detach().float().clamp_min(0).cpu().numpy()
    blurred = cv2.GaussianBlur(positive, (width, width), sigma, borderType=cv2.BORDER_CONSTANT)
    return Attribution(torch.from_numpy(blurred), int(size / (2 * sigma)), delta)


def class_activation(method: str, scorer: Scorer, image: Tensor) -> tuple[Tensor, int]:
    """(map float32 [s, s] >= 0, cells per side) of an input [1, C, s, s]; FovealError without feature maps."""
    seen = feature_maps(scorer, image)
    if not seen:
        what = f"--method {method} does not work with this encoder: it has no feature map larger than 1 x 1"
        raise FovealError("run.no_maps", what, fix="use --method integrated-gradients")
    features, gradients = seen[_chosen(scorer, seen, EARLIER if method == "layercam" else 0)]
    weights = gradients.mean((1, 2), keepdim=True) if method == "gradcam" else gradients.relu()
    return enlarged((weights * features).sum(0).relu(), image.shape[3])


def enlarged(coarse: Tensor, size: int) -> tuple[Tensor, int]:
    """(the map [h, h] enlarged to the input size [size, size], h)."""
    heat = F.interpolate(coarse[None, None], (size, size), mode="bilinear", align_corners=False)
    return heat[0, 0], len(coarse)


def feature_maps(scorer: Scorer, image: Tensor) -> Seen:
    """Every feature map of one pass with its gradient, float32 [D, h, w], h = w > 1; tokens are arranged in a grid."""
    encoder = scorer.grader.get_submodule("encoder")
    outputs: dict[nn.Module, Tensor] = {}  # the last of every module, in the order of the pass

    def keep(module: nn.Module, _: Any, output: Any) -> None:
        outputs.pop(module, None)
        if isinstance(output, Tensor) and len(output) == 1 and output.requires_grad:
            outputs[module] = output

    handles = [module.register_forward_hook(keep) for module in encoder.modules() if module is not encoder]
    try:
        score = scorer(image)
    finally:
        for handle in handles:
            handle.remove()
    lengths = {output.shape[1] for output in outputs.values() if output.dim() == 3}
    layouts = {module: _layout(output, encoder, lengths) for module, output in outputs.items()}
    maps = [(module, outputs[module], layout) for module, layout in layouts.items() if layout]
    gradients = torch.autograd.grad(score.sum(), [output for _, output, _ in maps], allow_unused=True) if maps else ()
    return {
        module: (layout(output.detach()[0].float()), layout(gradient[0].float()))
        for (module, output, layout), gradient in zip(maps, gradients, strict=True)
        if gradient is not None
    }


def _layout(output: Tensor, encoder: Any, lengths: set[int]) -> Callable[[Tensor], Tensor] | None:
    """A function from an output to [D, h, w], or None if it is no feature map; `lengths`: token counts in the pass."""
    shape = output.shape  # a square whose side is a token count is attention; tokens of another width are inside it
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


def _chosen(scorer: Scorer, seen: Seen, earlier: int) -> nn.Module:
    """The last map that the score depends on, or the output of a stage before it, as named by timm, that is finer."""
    # If the head reads only the class token, the other tokens of the last block have no effect; then it is its input.
    last = ([module for module, (_, gradients) in seen.items() if gradients.any()] or list(seen))[-1]
    encoder: Any = scorer.grader.get_submodule("encoder")
    named = [encoder.get_submodule(stage["module"]) for stage in getattr(encoder, "feature_info", [])]
    finer = [module for module in named if module in seen and len(seen[module][0][0]) > len(seen[last][0][0])]
    return [*finer, last][-1 - min(earlier, len(finer))]
