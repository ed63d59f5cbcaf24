"""All figures of graded images, each with an interval, n, what a constant answer reaches and what is noise.

The constant answer of a class metric is always giving the most common class. That of a probability metric is always
giving the shares of the classes: an area of one half, an average precision of the prevalence, no calibration error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.evaluate import calibration, curves
from foveal.evaluate.harm import harm
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.operating import severity
from foveal.readout.predictions import probability_columns, units
from foveal.readout.scales import Scale

OVERALL = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "quadratic_kappa": metrics.quadratic_kappa,
    "linear_kappa": metrics.linear_kappa,
    "unweighted_kappa": metrics.unweighted_kappa,
    "macro_f1": metrics.macro_f1,
    "weighted_f1": metrics.weighted_f1,
    "mean_absolute_error": metrics.mean_absolute_error,
}
BY_DISTANCE = ("quadratic_kappa", "linear_kappa", "mean_absolute_error")
PER_CLASS = {"precision": metrics.precision, "recall": metrics.recall, "f1": metrics.f1}


def measure(
    table: pd.DataFrame, names: Sequence[str], referable_from: int | None, *, ordered: bool, resamples: int, seed: int,
    sight_threatening_from: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`measure_on` for labelled rows, with its own resamples; the cut-offs are classes, None where there is none."""
    scale = Scale(
        names=names, ordered=ordered, referable_from=referable_from, sight_threatening_from=sight_threatening_from
    )
    return measure_on(table, scale, Resampling(units(table), resamples, seed))


def measure_on(table: pd.DataFrame, scale: Scale, resampling: Resampling) -> dict[str, Any]:
    """metrics, confusion, constant_answer, curves, reliability and, for ordered classes, harm of labelled rows.

    table: as `read_predictions` gives it, every row with a label. "metrics" maps a name to value, low, high, n, noise
    and constant, None where there is none; distances and cut-offs are left out where the classes have no order.
    """
    labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
    size = len(scale.names)
    total = metrics.confusion_matrix(labels, grades, size)
    drawn = resampling.confusions(labels, grades, size)
    answer = int(total.sum(1).argmax())
    constant = np.zeros_like(total)
    constant[:, answer] = total.sum(1)
    found = _overall(total, drawn, constant, scale, resampling)
    shapes = {}
    for target, cut in scale.cuts.items():
        scores, positive = severity(table, cut)
        found |= _areas(scores, positive, (f"{target}_auc", f"{target}_average_precision"), len(table), resampling)
        shapes[target] = {
            "roc": curves.roc(scores, positive), "precision_recall": curves.precision_recall(scores, positive)
        }  # fmt: skip
    probabilities = table[probability_columns(table)].to_numpy(float)
    found |= _probabilities(probabilities, labels, resampling)
    found |= _per_class(probabilities, labels, grades, (total, drawn, constant), scale, resampling)
    result = {
        "metrics": found, "confusion": total.astype(int).tolist(), "constant_answer": scale.names[answer],
        "curves": shapes, "reliability": calibration.reliability(probabilities, labels),
    }  # fmt: skip
    return {**result, "harm": harm(total, drawn, constant, scale, resampling)} if scale.ordered else result


def _overall(
    total: np.ndarray, drawn: np.ndarray, constant: np.ndarray, scale: Scale, resampling: Resampling
) -> dict[str, Any]:
    found, n = {}, int(total.sum())
    for name, metric in OVERALL.items():
        if scale.ordered or name not in BY_DISTANCE:
            everyone = np.ones(n, bool) if name == "accuracy" else None
            entry = resampling.entry(float(metric(total)), metric(drawn), n, share_of=everyone)
            found[name] = _with_constant(entry, float(metric(constant)))
    return found


def _areas(
    scores: np.ndarray, positive: np.ndarray, names: tuple[str, str], n: int, resampling: Resampling
) -> dict[str, Any]:
    """The areas under both curves, under two names."""
    area = metrics.area_under_curve(scores, positive)
    mean = curves.average_precision(scores, positive) if not math.isnan(area) else math.nan
    both = curves.resampled_areas(scores, positive, resampling)
    figures = zip(names, (area, mean), both, (0.5, float(positive.mean())), strict=True)
    return {
        name: _with_constant(resampling.entry(value, drawn, n), constant) for name, value, drawn, constant in figures
    }


def _probabilities(probabilities: np.ndarray, labels: np.ndarray, resampling: Resampling) -> dict[str, Any]:
    shares = np.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
    error = resampling.entry(*calibration.calibration_error(probabilities, labels, resampling), len(labels))
    brier = resampling.entry(*calibration.brier_score(probabilities, labels, resampling), len(labels))
    return {
        "expected_calibration_error": _with_constant(error, 0.0),
        "brier": _with_constant(brier, float(1 - (shares**2).sum())),
    }


def _per_class(
    probabilities: np.ndarray, labels: np.ndarray, grades: np.ndarray,
    confusions: tuple[np.ndarray, np.ndarray, np.ndarray], scale: Scale, resampling: Resampling,
) -> dict[str, Any]:  # fmt: skip
    """One class against the rest; n is the images of the class, or for a precision those that were given it."""
    found: dict[str, Any] = {}
    for what, metric in PER_CLASS.items():
        values, drawn, baseline = (metric(confusion) for confusion in confusions)
        for k, name in enumerate(scale.names):
            base = {"precision": grades == k, "recall": labels == k}.get(what)
            n = int(((grades if what == "precision" else labels) == k).sum())
            entry = resampling.entry(float(values[k]), drawn[:, k], n, share_of=base)
            found[f"{what} of {name}"] = _with_constant(entry, float(baseline[k]))
    areas: dict[str, Any] = {}
    for k, name in enumerate(scale.names):
        titles = (f"auc of {name}", f"average precision of {name}")
        areas |= _areas(probabilities[:, k], labels == k, titles, int((labels == k).sum()), resampling)
    return found | areas


def _with_constant(entry: dict[str, Any], constant: float) -> dict[str, Any]:
    return {**entry, "constant": None if math.isnan(constant) else constant}
