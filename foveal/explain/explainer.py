"""Explainer: computes the map of a prepared picture for a trained run and a method."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveal.augment.views import plain_view
from foveal.explain.attribution import Attribution, attribute
from foveal.explain.cam import WEIGHTED, class_activation, enlarged
from foveal.explain.geometry import alarm_of, border_energy, resized, without_lesions
from foveal.explain.target import EXPECTED, Scorer, Target, of_class, resolve
from foveal.fundus.overlay import retina_of
from foveal.nets.heads import Grader, Looking
from foveal.predict.predictor import Predictor
from foveal.runs import read_model


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A map of one picture, and the facts to interpret it.

    `heat`: float32 [s, s] >= 0. `retina`: bool [S, S], in the prepared square. `target`: what the map explains.
    `grade`: the class given. `value`: of the target, an expected grade or a probability. `cells`, `delta`: see
    `Attribution`. `border_energy`: the share of the map on the border, 0-1. `alarm`: a warning, or "".
    """

    heat: np.ndarray
    retina: np.ndarray
    target: Target
    grade: int
    value: float
    cells: int
    delta: float | None
    border_energy: float
    alarm: str


class Explainer:
    """A grader in evaluation mode, with frozen weights, and the target of its maps."""

    def __init__(self, run: Path, target: str, device: torch.device | None = None) -> None:
        self.predictor = Predictor(run, device, "none")  # no test-time views: a map explains a single view
        self.grader = self.predictor.grader.requires_grad_(False)
        self.looking = self.predictor.looking
        self.classes = self.predictor.classes
        self.target = resolve(target, self.classes, read_model(run)["referable_from"], self.predictor.decision)

    def with_grader(self, grader: Grader) -> Explainer:
        """The same explainer with other weights, for the sanity checks."""
        other = copy(self)
        other.grader = grader.eval().requires_grad_(False)
        other.looking = Looking(other.grader, self.looking.decision, self.looking.maps)
        return other

    def explain(self, pixels: np.ndarray, method: str, target: Target | None = None) -> Explanation:
        """Explain the grade of one prepared picture uint8 [S, S, C]; `target` replaces the target of the explainer."""
        image = self.input(pixels)
        with torch.no_grad():
            logits, _, *places = self.looking(image)
        grade = int(self.predictor.grade(logits))
        target, retina = target or self.target or of_class(grade, self.classes), retina_of(pixels)
        if method == "gradcam" and places and target == self._looked_for(logits):  # the map that predict and serve show
            found = Attribution(*enlarged(places[0][0], image.shape[3]))
        else:
            empty = self.input(without_lesions(pixels, retina))
            found = attribute(method, Scorer(self.grader, target), image, empty)
        heat = found.heat.cpu().numpy()
        share = border_energy(heat, resized(retina, len(heat)))
        return Explanation(
            heat=heat, retina=retina, target=target, grade=grade, value=float(target.value(logits)),
            cells=found.cells, delta=found.delta, border_energy=share, alarm=alarm_of(share),
        )  # fmt: skip

    def _looked_for(self, logits: Tensor) -> Target:
        """The target of `looking`."""
        return EXPECTED if self.looking.decision == "expected" else of_class(int(logits.argmax()), self.classes)

    def check(self, method: str) -> None:
        """Raise FovealError if the method does not work with the encoder; takes one pass."""
        if method in WEIGHTED:
            size, channels = self.predictor.input.image_size, self.predictor.preparation.channels
            target = self.target or of_class(0, self.classes)
            empty = self.input(np.zeros((size, size, channels), np.uint8))
            class_activation(method, Scorer(self.grader, target), empty.requires_grad_())

    def input(self, pixels: np.ndarray) -> Tensor:
        """The network input float32 [1, C, s, s] for a prepared picture uint8 [S, S, C], on the device."""
        return plain_view(pixels[None], self.predictor.input, self.predictor.device)
