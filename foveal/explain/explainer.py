"""Explainer: a trained run, one prepared picture and a method in, a map out."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foveal.augment.views import normalise, plain_view, to_tensor
from foveal.explain.attribution import Attribution, attribute
from foveal.explain.cam import WEIGHTED, class_activation
from foveal.explain.geometry import alarm_of, border_energy, resized, shrinking, without_lesions
from foveal.explain.target import Scorer, Target, of_class, resolve
from foveal.explain.tiles import tiled_occlusion
from foveal.fundus.overlay import retina_of
from foveal.nets.heads import Grader
from foveal.predict.predictor import Predictor
from foveal.runs import read_model


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a map of one picture says.

    `heat`: float32 [s, s] >= 0. `retina`: bool [S, S], in the prepared square. `target`: what the map explains.
    `grade`: the class given. `value`: the target's, an expected grade or a probability. `cells`: places a side that
    the method can tell apart. `delta`: see `Attribution`. `border_energy`: share 0-1; `alarm`: words or nothing.
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
    """A grader in evaluation mode, without gradients on its weights, and the target of its maps."""

    def __init__(self, run: Path, target: str, baseline: str, device: torch.device | None = None) -> None:
        self.predictor = Predictor(run, device, "none")  # a map is of one view
        self.grader = self.predictor.grader.requires_grad_(False)
        self.classes = self.predictor.classes
        self.baseline = baseline
        self.target = resolve(target, self.classes, read_model(run)["referable_from"], self.predictor.decision)

    def with_grader(self, grader: Grader) -> Explainer:
        """The same with other weights, as the sanity check needs."""
        other = copy(self)
        other.grader = grader.eval().requires_grad_(False)
        return other

    def explain(
        self, pixels: np.ndarray, method: str, *, tiles: bool = False, target: Target | None = None
    ) -> Explanation:
        """Explain the grade of one prepared picture uint8 [S, S, C].

        `tiles`, for occlusion only: windows of three sizes. `target`: another one than the explainer's.
        """
        image = self.input(pixels)
        with torch.no_grad():
            logits = self.grader(image)
        grade = int(self.predictor.grade(logits))
        target = target or self.target or of_class(grade, self.classes)
        retina = retina_of(pixels)
        found = self._attribute(pixels, retina, target, method, tiles)
        heat = found.heat.cpu().numpy()
        share = border_energy(heat, resized(retina, len(heat)))
        return Explanation(
            heat=heat, retina=retina, target=target, grade=grade, value=float(target.value(logits)),
            cells=found.cells, delta=found.delta, border_energy=share, alarm=alarm_of(share),
        )  # fmt: skip

    def _attribute(
        self, pixels: np.ndarray, retina: np.ndarray, target: Target, method: str, tiles: bool
    ) -> Attribution:
        black = self.baseline == "black" and method == "integrated-gradients"
        empty = np.zeros_like(pixels) if black else without_lesions(pixels, retina)
        scorer = Scorer(self.grader, target)
        if not tiles:
            return attribute(method, scorer, self.input(pixels), self.input(empty))
        shrink = torch.from_numpy(shrinking(len(pixels), self.predictor.input.image_size)).to(self.predictor.device)
        return tiled_occlusion(scorer, shrink, self._whole(pixels), self._whole(empty))

    def check(self, method: str) -> None:
        """ValueError where the encoder and the method do not go together; costs one pass."""
        if method in WEIGHTED:
            size, channels = self.predictor.input.image_size, self.predictor.preparation.channels
            target = self.target or of_class(0, self.classes)
            empty = self.input(np.zeros((size, size, channels), np.uint8))
            class_activation(method, Scorer(self.grader, target), empty.requires_grad_())

    def input(self, pixels: np.ndarray) -> Tensor:
        """What the network sees of prepared uint8 [S, S, C]: float32 [1, C, s, s] on its device."""
        return plain_view(pixels[None], self.predictor.input, self.predictor.device)

    def _whole(self, pixels: np.ndarray) -> Tensor:
        """As `_input`, without the change of size."""
        moved = to_tensor(np.ascontiguousarray(pixels[None]), self.predictor.device).permute(0, 3, 1, 2)
        return normalise(moved, self.predictor.input)
