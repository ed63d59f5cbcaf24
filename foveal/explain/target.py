"""Targets: the one number of a grader's answer that a map explains.

A map without a stated target means nothing, so no function here has a default for it.
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

    `name`: in words. `classes`: class numbers, a proper part of all; empty for the expected grade.
    Log-odds and not the probability: near 0 and 1 a probability no longer moves, and its map would be empty.
    """

    name: str
    classes: tuple[int, ...] = ()

    def score(self, logits: Tensor) -> Tensor:
        """Logits [B, K] -> what is differentiated or watched, float32 [B]."""
        logits = logits.float()
        if not self.classes:
            return expected_grade(logits.softmax(1))
        rest = [number for number in range(logits.shape[1]) if number not in self.classes]
        return logits[:, list(self.classes)].logsumexp(1) - logits[:, rest].logsumexp(1)

    def value(self, logits: Tensor) -> Tensor:
        """Logits [B, K] -> what people read, float32 [B]: the expected grade, 0 to K - 1, or a probability."""
        score = self.score(logits)
        return score.sigmoid() if self.classes else score


EXPECTED = Target("expected grade")


def resolve(wanted: str, classes: Sequence[str], referable_from: int | None, decision: str) -> Target | None:
    """The target that `wanted` names: grade, referable, or a class by name or number.

    None stands for the class that each picture is given: `grade` of a grader that decides for the most probable one.
    FovealError for another name, and for `referable` on a scale that does not say who is referred.
    """
    if wanted == "grade":
        return EXPECTED if decision == "expected" else None
    if wanted == "referable":
        if referable_from is None:
            raise FovealError("option.value", "--target referable: the scale of this grader refers no class")
        return Target("referable", tuple(range(referable_from, len(classes))))
    numbers = {name: number for number, name in enumerate(classes)} | {str(n): n for n in range(len(classes))}
    if wanted not in numbers:
        raise FovealError("option.value", f"--target {wanted}",
                          expected=f"grade, referable or a class: {', '.join(classes)}")  # fmt: skip
    return of_class(numbers[wanted], classes)


def of_class(number: int, classes: Sequence[str]) -> Target:
    """The target of one class."""
    return Target(f"class '{classes[number]}'", (number,))


class Scorer(torch.nn.Module):
    """A grader and a target: network inputs [B, C, s, s] -> scores [B], as attribution methods want them."""

    def __init__(self, grader: torch.nn.Module, target: Target) -> None:
        super().__init__()
        self.grader, self.target = grader, target

    def forward(self, images: Tensor) -> Tensor:
        """Scores float32 [B]."""
        return self.target.score(self.grader(images))
