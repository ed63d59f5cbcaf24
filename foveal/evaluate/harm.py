"""Errors weighted by their potential harm: missing sight-threatening disease is the worst.

There is no agreed table of weights. These weights are our own choice: the squared distance in grades, as in quadratic
kappa, doubled if a sight-threatening eye gets a grade that is not referred, because nobody looks at that eye again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foveal.evaluate.intervals import Resampling
from foveal.readout.scales import Scale

MISSED = 2  # factor for sight-threatening disease that is not referred


def weights(scale: Scale) -> np.ndarray:
    """float [K, K]: the weight of each error, true (row) by given (column) class; 0 on the diagonal."""
    classes = np.arange(len(scale.names), dtype=float)
    table = (classes[:, None] - classes) ** 2
    cuts = scale.cuts
    if len(cuts) == 2:
        table[cuts["sight_threatening"] :, : cuts["referable"]] *= MISSED
    return table


def harm(
    confusion: np.ndarray, drawn: np.ndarray, constant: np.ndarray, scale: Scale, resampling: Resampling
) -> dict[str, Any]:
    """The errors sorted by weight x number, the mean weight per image, and the worst error in words.

    confusion, constant: [K, K]; drawn: [R, K, K]. `share` is relative to the images of the true class. The index is 0
    without errors; its `constant` is the index when every image gets the most common class.
    """
    table, names = weights(scale), list(scale.names)
    errors: list[dict[str, Any]] = [
        {"true": names[true], "given": names[given], "n": int(confusion[true, given]),
         "share": float(confusion[true, given] / confusion[true].sum()), "weight": float(table[true, given])}
        for true, given in zip(*np.nonzero(confusion * (table > 0)), strict=True)
    ]  # fmt: skip
    errors.sort(key=lambda error: -error["weight"] * error["n"])
    index = resampling.entry(_mean(confusion, table), _mean(drawn, table), int(confusion.sum()))
    index["constant"] = float(_mean(constant, table))
    return {"errors": errors, "index": index, "worst": worst(confusion, scale)}


def worst(confusion: np.ndarray, scale: Scale) -> str:
    """How often the highest class was not referred (or, without referral, graded as the lowest), in words."""
    top, cut = len(scale.names) - 1, scale.cuts.get("referable", 1)
    called = " or ".join(f"'{name}'" for name in scale.names[:cut])
    missed, there = int(confusion[top, :cut].sum()), int(confusion[top].sum())
    return f"'{scale.names[top]}' graded as {called}: {missed} of {there} images"


def _mean(confusion: np.ndarray, table: np.ndarray) -> Any:
    n = confusion.sum((-2, -1))
    return (confusion * table).sum((-2, -1)) / np.where(n > 0, n, np.nan)
