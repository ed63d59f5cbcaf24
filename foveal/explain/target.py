"""Targets: the number in the answer of a grader that a map explains.

A map means nothing without its target, so no function here has a default target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foveal.errors import FovealError
from foveal.losses.grading import expected_grade


@dataclass(frozen=True)
class Target:
    """A number that a map explains: the expected grade, or the log-odds that the class is one of `classes`.

    `name`: for people. `classes`: class numbers, not all of them; empty for the expected grade.
    Log-odds rather than the probability: near 0 and 1 a probability hardly changes, and its map would be empty.
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
    """The target called `wanted`: grade, referable, or a class by name or number.

    None means the class given to each picture: `grade` for a grader that chooses the most probable class.
    FovealError for other names, and for `referable` if the scale has no referable classes.
    """
    if wanted == "grade":
        return EXPECTED if decision == "expected" else None
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


class Scorer(torch.nn.Module):
    """A grader and a target: a module from inputs [B, C, s, s] to scores [B], for attribution methods."""

    def __init__(self, grader: torch.nn.Module, target: Target) -> None:
        super().__init__()
        self.grader, self.target = grader, target

    def forward(self, images: Tensor) -> Tensor:
        """Scores float32 [B]."""
        return self.target.score(self.grader(images))
