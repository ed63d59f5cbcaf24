"""Explainer: the map of a prepared picture for a run, a method and a target, its share on the border, and a check.

The check compares maps with those of random weights. A map that stays as it was when all weights are random shows edges
of the picture, not reasons of the grader (Adebayo et al. 2018, Sanity checks for saliency maps). Such maps look
sensible, and are not evidence.
"""

import math
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from foveal.augment.views import plain_view
from foveal.console import progress_bar, say, warn
from foveal.errors import FovealError
from foveal.explain.attribution import attribute
from foveal.fundus.overlay import border_energy, retina_of, top_of
from foveal.losses.grading import expected_grade
from foveal.nets.heads import Grader, Looking
from foveal.nets.layers import re_estimate, statistics_layers
from foveal.page.words import counted
from foveal.predict.predictor import Predictor, look
from foveal.runs import read_model

MethodName = Literal["gradcam", "integrated-gradients", "occlusion"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
GRADCAM = METHODS[0]  # the maps that serve shows
HEAL = 1 / 16  # standard deviation of the blur that removes lesions, as a share of the side


@dataclass(frozen=True)
class Target:
    """A number that a map explains: the expected grade, or the log-odds that the class is one of `classes` (not all);
    near 0 and 1 a probability hardly changes, and its map would be empty."""

    name: str
    classes: tuple[int, ...] = ()

    def score(self, logits: Tensor) -> Tensor:
        """Logits [B, K] -> the score that a map explains, float32 [B]."""
        logits = logits.float()
        if not self.classes:
            return expected_grade(logits.softmax(1))
        rest = [number for number in range(logits.shape[1]) if number not in self.classes]
        return logits[:, list(self.classes)].logsumexp(1) - logits[:, rest].logsumexp(1)

    def value(self, logits: Tensor) -> Tensor:
        """Logits [B, K] -> the value to display, float32 [B]: the expected grade, 0 to K - 1, or a probability."""
        score = self.score(logits)
        return score.sigmoid() if self.classes else score


EXPECTED = Target("expected grade")


def resolve(wanted: str, classes: Sequence[str], referable_from: int | None, decision: str) -> Target | None:
    """The target called `wanted`: grade, referable, or a class by name or number; FovealError for other names. None:
    the class given to each picture, for a grader that chooses the most probable class."""
    if wanted == "grade":
        return None if decision == "most_probable" else EXPECTED
    if wanted == "referable":
        if referable_from is None:
            raise FovealError("option.value", "--target referable: the scale of this grader has no referable classes")
        return Target("referable", tuple(range(referable_from, len(classes))))
    numbers = {name: number for number, name in enumerate(classes)} | {str(n): n for n in range(len(classes))}
    if wanted not in numbers:
        expected = f"grade, referable or a class: {', '.join(classes)}"
        raise FovealError("option.value", f"--target {wanted}", expected=expected)
    return of_class(numbers[wanted], classes)


def of_class(number: int, classes: Sequence[str]) -> Target:
    """The target of one class."""
    return Target(f"class '{classes[number]}'", (number,))


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A map `heat` of one picture, float32 [s, s] >= 0, and the facts to interpret it; cells, delta: see `attribute`.

    retina: bool [S, S]. grade: the class given. value: of the target. border_energy: the share on the border, 0-1.
    """

    heat: np.ndarray
    retina: np.ndarray
    target: Target
    grade: int
    value: float
    cells: int
    delta: float | None
    border_energy: float


class Explainer:
    """A grader in evaluation mode, with frozen weights, and the target of its maps."""

    def __init__(self, run: Path, target: str, device: torch.device | None = None) -> None:
        self.predictor = Predictor(run, device)
        self.grader = self.predictor.grader.requires_grad_(False)
        self.classes = self.predictor.classes
        self.target = resolve(target, self.classes, read_model(run)["referable_from"], self.predictor.decision)

    def explain(self, pixels: np.ndarray, method: str, target: Target | None = None) -> Explanation:
        """Explain the grade of one prepared picture uint8 [S, S, C]; `target` replaces the target of the explainer."""
        image = self.input(pixels)
        with torch.no_grad():
            shares, *_ = look(Looking(self.grader, self.predictor.decision, maps=False), image, self.predictor.tta)
        readout = self.predictor.readout
        grade = int(readout.grades(readout.probabilities(shares.float().cpu().numpy()))[0])
        target, retina = target or self.target or of_class(grade, self.classes), retina_of(pixels)
        looking = Looking(self.grader, self.predictor.decision, maps=method == GRADCAM, score=target.score)
        with torch.no_grad():
            logits, _, *places = looking(image)  # of the image as it is: a map explains a single view
        if places:
            side = image.shape[3]
            enlarged = F.interpolate(places[0][None], (side, side), mode="bilinear", align_corners=False)
            found, cells, delta = enlarged[0, 0], places[0].shape[2], None
        else:
            empty = self.input(without_lesions(pixels, retina))
            found, cells, delta = attribute(method, lambda images: target.score(self.grader(images)), image, empty)
        heat = found.cpu().numpy()
        heat *= top_of(heat, retina) > 0  # else there is no map, whatever is outside the retina
        return Explanation(heat=heat, retina=retina, target=target, grade=grade, value=float(target.value(logits)),
                           cells=cells, delta=delta,
                           border_energy=border_energy(heat, resized(retina, len(heat))))  # fmt: skip

    def check(self, method: str) -> None:
        """Raise FovealError if the method does not work with the encoder."""
        if method == GRADCAM and not self.predictor.has_maps:
            what = f"--method {method}: the features of this encoder are not the mean of its last map"
            raise FovealError("run.no_maps", what, fix="use --method integrated-gradients")

    def input(self, pixels: np.ndarray) -> Tensor:
        """The network input float32 [1, C, s, s] for a prepared picture uint8 [S, S, C], on the device."""
        return plain_view(pixels[None], self.predictor.input, self.predictor.device)


def without_lesions(pixels: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """The prepared square uint8 [S, S, C] with the retina bool [S, S] blurred until lesions and vessels are gone."""
    sigma = HEAL * len(pixels)
    inside = retina.astype(np.float32)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma)
    summed = cv2.GaussianBlur(pixels.astype(np.float32) * inside[..., None], (0, 0), sigma).reshape(pixels.shape)
    blurred = (summed / np.maximum(weight, 1e-6)[..., None]).round().clip(0, 255).astype(np.uint8)
    return np.where(retina[..., None], blurred, pixels)


def resized(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask bool [S, S] at another size: [size, size], sampled at the centre of each pixel."""
    places = ((np.arange(size) + 0.5) * len(mask) / size).astype(int)
    return mask[np.ix_(places, places)]


MOST = 8  # pictures
LEAST = 4  # pictures with maps that can be compared; fewer tell nothing
ALIKE = 0.5  # mean rank correlation with the maps of random weights, at and above which maps fail
SEED = 0
Explained = tuple[np.ndarray, Explanation]  # a prepared picture uint8 [S, S, C], and its map


def check_maps(explainer: Explainer, explained: Sequence[Explained], methods: Sequence[str]) -> dict[str, Any]:
    """`checks` of explain.json: method -> correlation, images, passed. explained: with maps by the first method.

    correlation: mean rank correlation of the maps with those of the same network with random weights, in the retina;
    passed: None if too few maps can be compared, because those of one of the networks are empty.
    """
    inputs = torch.cat([explainer.input(pixels) for pixels, _ in explained])
    untrained = with_grader(explainer, randomised(explainer.grader, 1.0, SEED, inputs))
    found = {method: list[float]() for method in methods}
    with progress_bar("check", len(methods) * len(explained)) as bar:
        for method, (pixels, first) in product(methods, explained):
            ours = first if method == methods[0] else explainer.explain(pixels, method)
            theirs = untrained.explain(pixels, method, ours.target)
            found[method].append(rank_correlation(ours.heat, theirs.heat, resized(ours.retina, len(ours.heat))))
            bar.advance()
    return {method: _judged(method, np.array(alike)) for method, alike in found.items()}


def _judged(method: str, alike: np.ndarray) -> dict[str, Any]:
    known = alike[~np.isnan(alike)]
    mean = float(known.mean()) if len(known) else None
    passed = None if mean is None or len(known) < LEAST else mean < ALIKE
    figure = f"rank correlation {mean or 0:.2f} with those of random weights, {counted(len(known), 'picture')}"
    if passed is None:
        warn(f"the maps of {method} could not be checked: with random weights, nearly all of them are empty")
    elif passed:
        say(f"the maps of {method} depend on what the grader learned ({figure})")
    else:
        warn(f"the maps of {method} failed their check: they hardly depend on what the grader learned ({figure})")
    return {"correlation": mean, "images": len(known), "passed": passed}


def with_grader(explainer: Explainer, grader: Grader) -> Explainer:
    """The same explainer with another grader, such as one with random weights."""
    other = copy(explainer)
    other.grader = grader.requires_grad_(False)
    return other


def randomised(grader: Grader, share: float, seed: int, pictures: Tensor) -> Grader:
    """A copy whose head, and the last `share` (0-1) of the encoder's layers, have random weights of the same scale.

    Layers are the modules with weights of their own, in the order of the encoder. Batch-norm statistics are measured
    again on `pictures` [n, C, s, s]: with the old statistics the signal would vanish, and an empty map proves nothing.
    """
    copied = deepcopy(grader)
    layers = [module for module in copied.encoder.modules() if getattr(module, "weight", torch.empty(0)).dim() > 1]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for layer in [*layers[len(layers) - round(share * len(layers)) :], copied.head]:
            for weight in layer.parameters(recurse=False):  # mean 0: a negative one would silence units after ReLU
                drawn = torch.randn(weight.shape).to(weight.device)  # on the CPU: the same numbers on every device
                weight.copy_(drawn * weight.std(correction=0))
    for layer in statistics_layers(copied):
        layer.train()
    re_estimate(copied, pictures.split(8))
    return copied.eval()


def rank_correlation(first: np.ndarray, second: np.ndarray, retina: np.ndarray) -> float:
    """Spearman's correlation of two maps [s, s] within a retina bool [s, s]; nan if one of them is constant."""
    ours, theirs = first[retina], second[retina]
    return float(spearmanr(ours, theirs).statistic) if np.ptp(ours) and np.ptp(theirs) else math.nan
