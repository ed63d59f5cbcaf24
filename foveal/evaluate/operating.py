"""Operating points: what is referred, and how often rightly; by the grade given, and by thresholds in its place.

Who is referred follows from the grade (`scales.referred`); this is the first point, and needs no choice. The others
are thresholds chosen on the validation part, and tell what they would do on the part that is judged.
A threshold that is chosen on the images it is then reported on looks better than it is, so this is refused. Images that
were graded out of fold are each judged by a threshold that was chosen on the other folds. The score
of an image is the sum of the probabilities of all classes from the cut-off on; from the threshold on it is called
positive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from foveal.evaluate.curves import corners
from foveal.evaluate.intervals import Resampling
from foveal.readout.predictions import probability_columns
from foveal.readout.scales import Scale, referred

LEAST = 0.9  # the sensitivity or specificity that two of the points hold on the validation part
BY_GRADE = "grade given"
NAMES = ("90 % specificity", "90 % sensitivity", "Youden")


def operating_points(
    table: pd.DataFrame, chosen_on: pd.DataFrame, scale: Scale, resampling: Resampling, prevalence: float | None
) -> tuple[list[dict[str, Any]], str]:
    """The points of every cut-off on the labelled rows of `table`, and a note on what could not be chosen, or "".

    The first of each cut-off is that of the grades themselves, with neither threshold nor choice; then the thresholds.
    chosen_on: labelled rows of the validation part, none of which is in `table`. prevalence: share of positives of the
    first cut-off (referable) that its predictive values are for, None for that of `table`; the others, which are parts
    of it, keep that of `table`.
    """
    if not scale.cuts:
        return [], "The classes are no severity scale with a cut-off: there is nothing to refer."
    given = _by_grade(table, scale, resampling, prevalence)
    if not len(chosen_on) and folds_in(table) is not None:
        points, note = _crossed(table, scale, resampling, prevalence)
    elif len(chosen_on):
        points, note = _chosen(table, chosen_on, scale, resampling, prevalence)
    else:
        points, note = [], ("There is no validation part beside the evaluated rows, and a threshold chosen on the rows "
                            "that it is judged on looks better than it is: no thresholds.")  # fmt: skip
    return sorted(given + points, key=lambda point: list(scale.cuts).index(point["target"])), note


def _by_grade(
    table: pd.DataFrame, scale: Scale, resampling: Resampling, prevalence: float | None
) -> list[dict[str, Any]]:
    """The point of every cut-off that the grades themselves make."""
    grades, points = table["grade"].to_numpy(np.int64), []
    for target, cut in scale.cuts.items():
        point = {"target": target, "name": BY_GRADE, "threshold": None, "chosen_on": None, "chosen_n": None,
                 "chosen_positive": None}  # fmt: skip
        points.append(point | judge(referred(grades, cut), severity(table, cut)[1], resampling,
                                    prevalence if target == next(iter(scale.cuts)) else None))  # fmt: skip
    return points


def _chosen(
    table: pd.DataFrame, chosen_on: pd.DataFrame, scale: Scale, resampling: Resampling, prevalence: float | None
) -> tuple[list[dict[str, Any]], str]:
    """The points of thresholds that were chosen on validation rows."""
    points, notes = [], []
    for target, cut in scale.cuts.items():
        scores, positive = severity(chosen_on, cut)
        here, true = severity(table, cut)
        if positive.all() or not positive.any():
            notes.append(f"All {len(positive)} validation images are on one side of {target}: no threshold.")
            continue
        for name in NAMES:
            threshold = choose(scores, positive, name)
            point = {"target": target, "name": name, "threshold": threshold, "chosen_on": "val",
                     "chosen_n": len(scores), "chosen_positive": int(positive.sum())}  # fmt: skip
            share = prevalence if target == next(iter(scale.cuts)) else None
            points.append(point | judge(here >= threshold, true, resampling, share))
    return points, " ".join(notes)


def folds_in(table: pd.DataFrame) -> np.ndarray | None:
    """The fold of each row [n], where all rows have one and there are at least two; else None."""
    folds = pd.to_numeric(table["fold"], errors="coerce") if "fold" in table else pd.Series(dtype=float)
    return folds.to_numpy() if len(folds) and folds.notna().all() and folds.nunique() > 1 else None


def _crossed(
    table: pd.DataFrame, scale: Scale, resampling: Resampling, prevalence: float | None
) -> tuple[list[dict[str, Any]], str]:
    """The points of rows that were graded out of fold; the threshold that is shown is the median over folds."""
    folds, points, notes = folds_in(table), [], []
    assert folds is not None
    for target, cut in scale.cuts.items():
        scores, positive = severity(table, cut)
        rest = [folds != fold for fold in np.unique(folds)]
        if any(positive[other].all() or not positive[other].any() for other in rest):
            notes.append(f"In some folds all other images are on one side of {target}: no threshold.")
            continue
        for name in NAMES:
            called, thresholds = np.zeros(len(table), bool), []
            for other in rest:
                thresholds.append(choose(scores[other], positive[other], name))
                called[~other] = scores[~other] >= thresholds[-1]
            point = {"target": target, "name": name, "threshold": float(np.median(thresholds)),
                     "chosen_on": "other folds", "chosen_n": len(scores),
                     "chosen_positive": int(positive.sum())}  # fmt: skip
            share = prevalence if target == next(iter(scale.cuts)) else None
            points.append(point | judge(called, positive, resampling, share))
    return points, " ".join(notes)


def severity(table: pd.DataFrame, cut: int) -> tuple[np.ndarray, np.ndarray]:
    """Score float [n] (summed probabilities of the classes from `cut` on) and truth bool [n] of labelled rows."""
    scores = table[probability_columns(table)[cut:]].to_numpy(float).sum(1)
    return scores, table["label"].to_numpy(np.int64) >= cut


def choose(scores: np.ndarray, positive: np.ndarray, name: str) -> float:
    """The threshold for scores [n] with truth bool [n], halfway to the next lower score.

    "90 % specificity": the highest sensitivity that leaves specificity at 0.9 or more; "90 % sensitivity" the other
    way round; "Youden": the highest sum of both (Youden 1950). Of equally good ones the highest threshold is taken.
    """
    thresholds, hits, false = corners(scores, positive)
    sensitivity = np.append(0, hits) / hits[-1]
    specificity = 1 - np.append(0, false) / false[-1]
    enough = LEAST - 1e-12  # 0.9 itself is enough, also when it is 0.8999… in binary
    if name == "90 % specificity":
        best = int(np.where(specificity >= enough, sensitivity, -1).argmax())
    elif name == "90 % sensitivity":
        best = int(np.where(sensitivity >= enough, specificity, -1).argmax())
    else:
        best = int((sensitivity + specificity).round(12).argmax())
    edges = np.concatenate([[thresholds[0] + 1], thresholds, [thresholds[-1] - 1]])
    return float((edges[best] + edges[best + 1]) / 2)


def judge(called: np.ndarray, true: np.ndarray, resampling: Resampling, prevalence: float | None) -> dict[str, Any]:
    """Sensitivity, specificity, predictive values and share referred of the calls bool [n] on the truth bool [n].

    Predictive values follow from Bayes' rule at `prevalence`; None keeps that of the images, resampled with them.
    """
    cells = np.stack([called & true, ~called & true, called & ~true, ~called & ~true], axis=1).astype(float)
    values, drawn = _rates(cells.sum(0), prevalence), _rates(resampling.sums(cells), prevalence)
    own = float(true.mean())
    bases = {"sensitivity": true, "specificity": ~true,
             "positive_predictive_value": called, "negative_predictive_value": ~called}  # fmt: skip
    found: dict[str, Any] = {}
    for (name, base), value, resampled in zip(bases.items(), values, drawn, strict=True):
        entry = resampling.entry(float(value), resampled, int(base.sum()), share_of=base)
        if name.endswith("predictive_value") and prevalence is not None and value in (0.0, 1.0):
            entry |= _limits(name, found["sensitivity"], found["specificity"], prevalence)
        if name.endswith("predictive_value"):
            entry["prevalence"] = own if prevalence is None else prevalence
        found[name] = entry
    return found | {"referred": float(called.mean())}


def _limits(name: str, sensitivity: dict[str, Any], specificity: dict[str, Any], prevalence: float) -> dict[str, Any]:
    """Limits of a predictive value of 0 or 1 at another prevalence, by Bayes' rule on those it comes from.

    Both predictive values rise with both, so the two lower limits give the lower one; it is on the safe side.
    """
    limits = {}
    for side in ("low", "high"):
        a, b = sensitivity[side], specificity[side]
        if a is None or b is None:
            return {"low": None, "high": None}
        right, wrong = (a * prevalence, (1 - b) * (1 - prevalence))
        if name.startswith("negative"):
            right, wrong = b * (1 - prevalence), (1 - a) * prevalence
        limits[side] = right / (right + wrong) if right + wrong else None
    return limits


def _rates(cells: np.ndarray, prevalence: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sensitivity, specificity, positive and negative predictive value of cells [..., 4]; nan where there is none."""
    hit, missed, false, clear = np.moveaxis(np.asarray(cells, float), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity = hit / (hit + missed), clear / (clear + false)
        share = (hit + missed) / cells.sum(-1) if prevalence is None else prevalence
        positive = sensitivity * share / (sensitivity * share + (1 - specificity) * (1 - share))
        negative = specificity * (1 - share) / (specificity * (1 - share) + (1 - sensitivity) * share)
    return sensitivity, specificity, positive, negative
