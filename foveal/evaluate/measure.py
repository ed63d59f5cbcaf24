"""All metrics of graded images, each with an interval, n, the smallest difference that is not noise, and a constant.

The constant is the value that the same answer for all images would reach. For metrics of grades this answer is the most
common class. For metrics of probabilities it is the class frequencies, which give an area under the ROC curve of 0.5,
an average precision equal to the prevalence, and no calibration error.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.evaluate import curves
from foveal.evaluate.intervals import KAPPAS, Resampling
from foveal.evaluate.operating import severity
from foveal.readout import decisions
from foveal.readout.predictions import probability_columns
from foveal.readout.readout import LEAST_IMAGES
from foveal.readout.scales import Scale

OVERALL = (metrics.accuracy, metrics.balanced_accuracy, metrics.quadratic_kappa, metrics.linear_kappa,
           metrics.unweighted_kappa, metrics.macro_f1, metrics.weighted_f1, metrics.mean_absolute_error)  # fmt: skip
BY_DISTANCE = {metrics.quadratic_kappa, metrics.linear_kappa, metrics.mean_absolute_error}

Confusions = tuple[np.ndarray, np.ndarray, np.ndarray]  # of the grades, their resamples, a constant


def measure(table: pd.DataFrame, scale: Scale, resampling: Resampling) -> dict[str, Any]:
    """metrics, confusion, constant_answer, curves and reliability of labelled rows.

    "metrics" maps a name to value, low, high, n, noise and constant; None if undefined. Metrics that need an order are
    left out if the classes have none.
    """
    (probabilities, labels), size = _read(table), len(scale.names)
    grades = table["grade"].to_numpy(np.int64)
    total, drawn = metrics.confusion_matrix(labels, grades, size), resampling.confusions(labels, grades, size)
    constant, answer = np.zeros_like(total), int(total.sum(1).argmax())
    constant[:, answer] = total.sum(1)
    found, shapes = dict[str, Any](), {}
    for metric in OVERALL:
        if scale.ordered or metric not in BY_DISTANCE:
            value, resampled, base = (metric(confusions) for confusions in (total, drawn, constant))
            value = value * math.nan if metric in KAPPAS and (total.sum(1) > 0).sum() < 2 else value
            everyone = np.ones(len(labels), bool) if metric is metrics.accuracy else None
            entry = resampling.entry(float(value), resampled, len(labels), share_of=everyone)
            found[metric.__name__] = _with_constant(entry, float(base))
    for target, cut in scale.cuts.items():
        scores, positive = severity(table, cut, target)
        found |= _areas(scores, positive, (f"{target}_auc", f"{target}_average_precision"), len(table), resampling)
        shapes[target] = curves.curves(scores, positive)
    error, brier = (of(probabilities, labels, resampling) for of in (curves.calibration_error, curves.brier_score))
    spread = float(1 - ((total.sum(1) / len(labels)) ** 2).sum())
    found["expected_calibration_error"] = _with_constant(resampling.entry(*error, len(labels)), 0.0)
    found["brier"] = _with_constant(resampling.entry(*brier, len(labels)), spread)
    found |= _per_class(labels, grades, (total, drawn, constant), scale, resampling)
    for k, name in enumerate(scale.names):
        names = (f"auc of {name}", f"average precision of {name}")
        found |= _areas(probabilities[:, k], labels == k, names, int((labels == k).sum()), resampling)
    return {"metrics": found, "confusion": total.astype(int).tolist(), "constant_answer": scale.names[answer],
            "curves": shapes, "reliability": curves.reliability(probabilities, labels)}  # fmt: skip


def _areas(
    scores: np.ndarray, positive: np.ndarray, names: tuple[str, str], n: int, resampling: Resampling
) -> dict[str, Any]:
    area = metrics.area_under_curve(scores, positive)
    mean = curves.average_precision(scores, positive) if not math.isnan(area) else math.nan
    areas, means = curves.resampled_areas(scores, positive, resampling)
    return {names[0]: _with_constant(resampling.entry(area, areas, n), 0.5),
            names[1]: _with_constant(resampling.entry(mean, means, n), float(positive.mean()))}  # fmt: skip


def _per_class(
    labels: np.ndarray, grades: np.ndarray, confusions: Confusions, scale: Scale, resampling: Resampling
) -> dict[str, Any]:
    """One class against the rest; n counts its images, or for precision the images graded as it."""
    found = {}
    for metric in (metrics.precision, metrics.recall, metrics.f1):
        values, drawn, constant = map(metric, confusions)
        for k, name in enumerate(scale.names):
            base = (grades if metric is metrics.precision else labels) == k
            share_of = None if metric is metrics.f1 else base
            entry = resampling.entry(float(values[k]), drawn[:, k], int(base.sum()), share_of=share_of)
            found[f"{metric.__name__} of {name}"] = _with_constant(entry, float(constant[k]))
    return found


def _with_constant(entry: dict[str, Any], constant: float) -> dict[str, Any]:
    return {**entry, "constant": None if math.isnan(constant) else constant}


def measure_rules(table: pd.DataFrame, chosen_on: pd.DataFrame, resampling: Resampling) -> dict[str, Any]:
    """rule -> {quadratic_kappa, accuracy}, of labelled rows with ordered grades, read from the same probabilities.

    The rules: grades as given; the fixed rules of readout/decisions.py; and the sharpened rule with cutoffs fitted on
    `chosen_on`, validation rows that are not evaluated, or with few of them on the evaluated images of other groups.
    """
    probabilities, labels = _read(table)
    places, truth = decisions.place_of(probabilities, "sharpened"), np.eye(probabilities.shape[1])
    if len(chosen_on) >= LEAST_IMAGES:
        others, known = _read(chosen_on)
        fitted = decisions.cut(places, decisions.shrunk_cutoffs(decisions.place_of(others, "sharpened"), truth[known]))
    else:
        fitted = decisions.out_of_fold(places, truth[labels], resampling.units)
    rules = {"given": table["grade"].to_numpy(np.int64), "argmax": decisions.decide(probabilities, "most_probable"),
             "half-way": decisions.decide(probabilities, "expected"), "median": decisions.medians(probabilities),
             "sharpened": decisions.decide(probabilities, "sharpened"), "fitted": fitted}  # fmt: skip
    return {rule: {"quadratic_kappa": resampling.of_grades(metrics.quadratic_kappa, labels, grades, len(truth)),
                   "accuracy": resampling.mean(labels == grades, is_share=True)}
            for rule, grades in rules.items()}  # fmt: skip


def _read(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, K] and labels int [n]."""
    return table[probability_columns(table)].to_numpy(float), table["label"].to_numpy(np.int64)
