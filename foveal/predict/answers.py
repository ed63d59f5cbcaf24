"""Answers: all that one pass of a grader says about a batch of photographs; no torch here."""

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
    """What `Model.answer` gives for n images of K classes; what was not wanted, or does not exist, is None.

    probabilities: float32 [n, K]. second: float32 [n, C], probabilities of a second task. features: float32 [n, D], of
    the encoder. maps: float32 [n, h, w] >= 0, how much each place speaks for the answer. Features and maps are of the
    image as it is, the probabilities of the grades are the mean over its turns and flips.
    """

    probabilities: np.ndarray | None = None
    second: np.ndarray | None = None
    features: np.ndarray | None = None
    maps: np.ndarray | None = None


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of one or more batches as those of one."""
    whole = {}
    for field in fields(Answers):
        arrays = [getattr(part, field.name) for part in parts]
        whole[field.name] = None if arrays[0] is None else np.concatenate(arrays)
    return Answers(**whole)
