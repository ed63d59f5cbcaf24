"""Compare runs on the same images: the paired bootstrap, and its answer in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from foveal.evaluate import metrics
from foveal.evaluate.intervals import draw_counts, percentile_interval
from foveal.evaluate.predictions import probability_columns, units


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Quadratic kappa and accuracy of `second` minus those of `first`, over the labelled images that both hold.

    Both resample the same groups, so that what is hard for both cancels. Returns name -> value, low, high, answer.
    """
    pairs = first.merge(second, on="id", suffixes=("", "_second"))
    pairs = pairs[pairs["label"].notna()].reset_index(drop=True)
    if len(pairs) < 2 or (pairs["label"] != pairs["label_second"]).any():
        raise ValueError("runs can be compared only on at least 2 images that both have graded, with the same labels")
    labels, groups, classes = pairs["label"].to_numpy(np.int64), units(pairs), len(probability_columns(first))
    tables = [
        metrics.confusion_matrices(labels, pairs[column].to_numpy(np.int64), groups, classes)
        for column in ("grade", "grade_second")
    ]
    counts = draw_counts(len(tables[0]), resamples, np.random.default_rng(seed))
    drawn = [np.tensordot(counts, table, 1) for table in tables]
    result: dict[str, Any] = {"n": len(pairs)}
    for name, metric in (("quadratic_kappa", metrics.quadratic_kappa), ("accuracy", metrics.accuracy)):
        value = float(metric(tables[1].sum(0)) - metric(tables[0].sum(0)))
        low, high = percentile_interval(metric(drawn[1]) - metric(drawn[0]))
        result[name] = {"value": value, "low": low, "high": high, "answer": answer(low, high)}
    return result


def answer(low: float, high: float) -> str:
    """better, worse, or cannot tell: whether the interval of a difference leaves out zero."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "cannot tell"


def describe(difference: dict[str, Any]) -> str:
    """One sentence for people about the difference of two runs, kappa first."""
    parts = []
    for name in ("quadratic_kappa", "accuracy"):
        entry = difference[name]
        interval = f"95 % interval {entry['low']:+.3f} to {entry['high']:+.3f}"
        parts.append(f"{name.replace('_', ' ')} {entry['value']:+.3f} ({interval}): {entry['answer']}")
    return f"{'; '.join(parts)} (paired, {difference['n']} images)."
