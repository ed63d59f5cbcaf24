"""Paired differences between two graders on the same images, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from foveal import metrics
from foveal.errors import FovealError
from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import RESAMPLES, Resampling
from foveal.evaluate.operating import severity
from foveal.page.words import counted, difference_with_interval
from foveal.readout.predictions import probability_columns
from foveal.sets.splits import group_codes

CAVEAT = "McNemar's test assumes independent images; if patients have several images, rely on the intervals"


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, referable_from: int | None = None, resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Quadratic kappa, accuracy and, with a lowest referable class, referable AUC of `second` minus those of `first`.

    Uses the labelled images that both tables contain. Returns n, name -> value, low, high, answer, and `mcnemar`.
    FovealError for different classes, different labels or fewer than 2 common images.
    """
    pairs, classes = _pairs(first, second), len(probability_columns(first))
    labels, resampling = pairs["label"].to_numpy(np.int64), Resampling(group_codes(pairs["group"]), resamples, seed)
    given = [pairs[column].to_numpy(np.int64) for column in ("grade", "grade_second")]
    result: dict[str, Any] = {"n": len(pairs)}
    for metric in (metrics.quadratic_kappa, metrics.accuracy):
        before, after = (resampling.graded(metric, labels, grades, classes) for grades in given)
        result[metric.__name__] = difference(before, after, resampling)
    if referable_from is not None and 0 < referable_from < classes:
        rows = [table.set_index("id").loc[pairs["id"]] for table in (first, second)]
        (one, first_truth), (other, second_truth) = (severity(table, referable_from) for table in rows)
        truth = first_truth | second_truth  # a grader that did not learn macular oedema does not list its labels
        before, after = (roc_area(scores, truth, resampling) for scores in (one, other))
        result["referable_auc"] = difference(before, after, resampling)
    return result | {"mcnemar": mcnemar(*(grades == labels for grades in given))}


def difference(
    first: tuple[float, np.ndarray], second: tuple[float, np.ndarray], resampling: Resampling
) -> dict[str, Any]:
    """value, low, high and answer of the second metric minus the first; each is a value and its resamples [R]."""
    value = second[0] - first[0]
    low, high = resampling.interval(value, second[1] - first[1])
    return {"value": value, "low": low, "high": high, "answer": answer(low, high)}


def answer(low: float, high: float) -> str:
    """better, worse, or cannot tell: whether the interval of a difference excludes zero."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "cannot tell"


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """McNemar's test, exact and mid-p, two-sided (Fagerland, Lydersen and Laake 2013).

    first, second: bool [n], which of the same images each grader graded correctly.
    """
    only = int((first & ~second).sum()), int((second & ~first).sum())
    n, fewer = sum(only), min(only)
    exact = min(1.0, 2 * float(binom.cdf(fewer, n, 0.5)))
    mid = 1.0 if only[0] == only[1] else 2 * float(binom.cdf(fewer, n, 0.5)) - float(binom.pmf(fewer, n, 0.5))
    return {"only_first": only[0], "only_second": only[1], "exact": exact, "mid_p": mid, "caveat": CAVEAT}


def _pairs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The labelled images that both tables contain; columns of the second end in `_second`."""
    one, other = (len(probability_columns(table)) for table in (first, second))
    if one != other:
        raise FovealError("predictions.classes", f"the compared tables have {one} and {other} classes")
    pairs = first.merge(second, on="id", suffixes=("", "_second"))
    pairs = pairs[pairs["label"].notna() & pairs["label_second"].notna()].reset_index(drop=True)
    if len(pairs) < 2:
        what = f"the compared tables share {counted(len(pairs), 'labelled image')}"
        raise FovealError("predictions.no_overlap", what, expected="at least 2")
    if other := int((pairs["label"] != pairs["label_second"]).sum()):
        what = f"the tables have different labels for {other} of {counted(len(pairs), 'image')}"
        raise FovealError("predictions.other_labels", what, fix="evaluate all runs with the same --corrections")
    return pairs


def describe(difference: Mapping[str, Any]) -> str:
    """One sentence about the difference between two graders, kappa first."""
    parts = [
        f"{name.replace('_', ' ')} {difference_with_interval(difference[name])}: {difference[name]['answer']}"
        for name in ("quadratic_kappa", "accuracy", "referable_auc") if name in difference
    ]  # fmt: skip
    return f"{'; '.join(parts)} (paired, 95 % intervals, {counted(difference['n'], 'image')})."
