"""Explainer: the map of a prepared picture for a trained run, a method and a target, and its share on the border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from foveal.augment.views import plain_view
from foveal.errors import FovealError
from foveal.explain.attribution import WEIGHTED, Attribution, Scorer, attribute, class_activation, enlarged
from foveal.fundus.overlay import ALARM, border_energy, retina_of
from foveal.losses.grading import expected_grade
from foveal.predict.predictor import Predictor, look
from foveal.runs import read_model

HEAL = 1 / 16  # standard deviation of the blur that removes lesions, as a share of the side


@dataclass(frozen=True)
class Target:
    """A number that a map explains: the expected grade, or the log-odds that the class is one of `classes` (not all);
    near 0 and 1 a probability hardly changes, and its map would be empty.
    """

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
    """The target called `wanted`: grade, referable, or a class by name or number; FovealError for other names.

    None: the class given to each picture, for a grader that chooses the most probable class.
    """
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
    """A map `heat` of one picture, float32 [s, s] >= 0, and the facts to interpret it; cells, delta: see `Attribution`.

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
        self.looking = self.predictor.looking
        self.classes = self.predictor.classes
        self.target = resolve(target, self.classes, read_model(run)["referable_from"], self.predictor.decision)

    def explain(self, pixels: np.ndarray, method: str, target: Target | None = None) -> Explanation:
        """Explain the grade of one prepared picture uint8 [S, S, C]; `target` replaces the target of the explainer."""
        image = self.input(pixels)
        with torch.no_grad():
            logits, _, *places = self.looking(image)  # of the image as it is: a map explains a single view
            shares, *_ = look(self.looking, image, self.predictor.tta)
        readout = self.predictor.readout
        grade = int(readout.grades(readout.probabilities(shares.float().cpu().numpy()))[0])
        target, retina = target or self.target or of_class(grade, self.classes), retina_of(pixels)
        likely = of_class(int(logits.argmax()), self.classes)
        shown = likely if self.looking.decision == "most_probable" else EXPECTED
        if method == "gradcam" and places and target == shown:  # the map that predict and serve show
            found = Attribution(*enlarged(places[0][0], image.shape[3]))
        else:
            empty = self.input(without_lesions(pixels, retina))
            found = attribute(method, Scorer(self.grader, target.score), image, empty)
        heat = found.heat.cpu().numpy()
        return Explanation(
            heat=heat, retina=retina, target=target, grade=grade, value=float(target.value(logits)),
            cells=found.cells, delta=found.delta, border_energy=border_energy(heat, resized(retina, len(heat))),
        )  # fmt: skip

    def check(self, method: str) -> None:
        """Raise FovealError if the method does not work with the encoder; takes one pass."""
        if method in WEIGHTED:
            scorer = Scorer(self.grader, (self.target or of_class(0, self.classes)).score)
            class_activation(method, scorer, self.input(self.predictor.blank(1)[0]).requires_grad_())

    def input(self, pixels: np.ndarray) -> Tensor:
        """The network input float32 [1, C, s, s] for a prepared picture uint8 [S, S, C], on the device."""
        return plain_view(pixels[None], self.predictor.input, self.predictor.device)


def alarm_of(share: float) -> str:
    """The warning for a border energy; empty below `ALARM`."""
    if share < ALARM:
        return ""
    where = f"{share:.0%} of this map is on the black border or the rim of the retina"
    return f"{where}: the grade may depend on the camera or the crop, not on the retina"


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
