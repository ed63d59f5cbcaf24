"""Answers: the outputs of one pass of a grader for a batch of photographs; works without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

Want = tuple[Literal["probabilities", "features", "map"], ...]
GRADE: Want = ("probabilities",)
ALL: Want = ("probabilities", "features", "map")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The result of `Model.answer` for n images and K classes; outputs not requested or not available are None.

    probabilities: float32 [n, K]. second: float32 [n, C], probabilities of a second task. features: float32 [n, D], of
    the encoder. maps: float32 [n, h, w] >= 0, how much each place supports the grade. Probabilities are averaged over
    test-time augmentation; features and maps are those of the original image.
    """

    probabilities: np.ndarray | None = None
    second: np.ndarray | None = None
    features: np.ndarray | None = None
    maps: np.ndarray | None = None


def joined(parts: Sequence[Answers]) -> Answers:
    """Concatenate the answers of one or more batches."""
    whole = {}
    for field in fields(Answers):
        arrays = [getattr(part, field.name) for part in parts]
        whole[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    return Answers(**whole)
