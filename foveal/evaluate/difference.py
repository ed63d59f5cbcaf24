"""Compare runs on the same images: the paired bootstrap, and its answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from foveal import metrics
from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.operating import severity
from foveal.readout.predictions import probability_columns, units

CAVEAT = "McNemar's test takes images as independent; where a patient has several, trust the intervals"


def compare(
    tables: Sequence[pd.DataFrame], resamples: int = 1000, seed: int = 0, referable_from: int | None = None
) -> list[dict[str, Any]]:
    """Every table of predictions after the first against the first: `paired_difference`, and McNemar's test.

    referable_from: lowest class that is referred, None where nothing is. "mcnemar" holds only_first and only_second
    (images that one alone got right), the p-values exact and mid_p, and caveat. Raises ValueError with fewer than two
    tables, or for tables without 2 common labelled images.
    """
    if len(tables) < 2:
        raise ValueError(f"a comparison needs at least 2 tables of predictions, got {len(tables)}")
    found = []
    for other in tables[1:]:
        difference = paired_difference(tables[0], other, resamples, seed, referable_from)
        pairs = _pairs(tables[0], other)
        right = [(pairs[column] == pairs["label"]).to_numpy(bool) for column in ("grade", "grade_second")]
        found.append(difference | {"mcnemar": mcnemar(*right)})
    return found


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, resamples: int = 1000, seed: int = 0, referable_from: int | None = None
) -> dict[str, Any]:
    """Quadratic kappa, accuracy and, with a cut-off, referable AUC of `second` minus those of `first`.

    Over the labelled images that both hold. Both resample the same groups, so that what is hard for both cancels.
    Returns n and name -> value, low, high, answer. Raises ValueError for other labels or fewer than 2 common images.
    """
    pairs, classes = _pairs(first, second), len(probability_columns(first))
    labels, resampling = pairs["label"].to_numpy(np.int64), Resampling(units(pairs), resamples, seed)
    given = [pairs[column].to_numpy(np.int64) for column in ("grade", "grade_second")]
    result: dict[str, Any] = {"n": len(pairs)}
    for name, metric in (("quadratic_kappa", metrics.quadratic_kappa), ("accuracy", metrics.accuracy)):
        result[name] = _difference([resampling.graded(metric, labels, grades, classes) for grades in given], resampling)
    if referable_from is not None and 0 < referable_from < classes:
        rows = [table.set_index("id").loc[pairs["id"]] for table in (first, second)]
        areas = [roc_area(*severity(table, referable_from), resampling) for table in rows]
        result["referable_auc"] = _difference(areas, resampling)
    return result


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """McNemar's test of two graders that are right bool [n] on the same images.

    Exact and mid-p, two-sided (Fagerland, Lydersen and Laake 2013): the exact test keeps its level but misses
    differences; mid-p counts only half of the probability of what was seen.
    """
    only = int((first & ~second).sum()), int((second & ~first).sum())
    n, fewer = sum(only), min(only)
    exact = min(1.0, 2 * float(binom.cdf(fewer, n, 0.5)))
    mid = 1.0 if only[0] == only[1] else 2 * float(binom.cdf(fewer, n, 0.5)) - float(binom.pmf(fewer, n, 0.5))
    return {"only_first": only[0], "only_second": only[1], "exact": exact, "mid_p": mid, "caveat": CAVEAT}


def _pairs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The labelled images that both tables hold, the columns of the second with `_second`."""
    if probability_columns(first) != probability_columns(second):
        raise ValueError("runs can be compared only where they give the same classes")
    pairs = first.merge(second, on="id", suffixes=("", "_second"))
    pairs = pairs[pairs["label"].notna() & pairs["label_second"].notna()].reset_index(drop=True)
    if len(pairs) < 2:
        raise ValueError(
            f"runs can be compared only on at least 2 labelled images that both have graded, got {len(pairs)}"
        )
    other = int((pairs["label"] != pairs["label_second"]).sum())
    if other:
        raise ValueError(
            f"runs can be compared only by the same labels, but {other} of {len(pairs)} images have another one in the "
            "second table; if labels were corrected, evaluate both with the same --corrections"
        )
    return pairs


def _difference(figures: Sequence[tuple[float, np.ndarray]], resampling: Resampling) -> dict[str, Any]:
    """The second of two figures minus the first; each is a value with its resamples [R]."""
    (first, drawn), (second, drawn_second) = figures
    low, high = resampling.interval(second - first, drawn_second - drawn)
    return {"value": second - first, "low": low, "high": high, "answer": answer(low, high)}


def answer(low: float, high: float) -> str:
    """better, worse, or cannot tell: whether the interval of a difference leaves out zero."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "cannot tell"


def describe(difference: dict[str, Any]) -> str:
    """One sentence for people about the difference of two runs, kappa first."""
    parts = []
    for name in ("quadratic_kappa", "accuracy", "referable_auc"):
        if name in difference:
            entry = difference[name]
            interval = f"95 % interval {entry['low']:+.3f} to {entry['high']:+.3f}"
            parts.append(f"{name.replace('_', ' ')} {entry['value']:+.3f} ({interval}): {entry['answer']}")
    return f"{'; '.join(parts)} (paired, {difference['n']} images)."
