"""Paired differences between graders and a baseline on the same images, with intervals.

    foveal evaluate RUN OTHER… --baseline OTHER

comparison.json   a list with an entry per pair: baseline, run, n, differences (name -> value, low, high, answer),
                  mcnemar, sentence
comparison.csv    the same, with a row per pair and metric
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from foveal import metrics
from foveal.console import say
from foveal.errors import FovealError
from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import RESAMPLES, Resampling
from foveal.evaluate.operating import severity
from foveal.files import json_ready, write_json, write_table
from foveal.page.words import difference_with_interval
from foveal.readout.predictions import probability_columns, units

FILE = "comparison.json"
CAVEAT = "McNemar's test assumes independent images; if patients have several images, rely on the intervals"


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, referable_from: int | None = None, *, resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Quadratic kappa, accuracy and, with a lowest referable class, referable AUC of `second` minus those of `first`.

    Uses the labelled images that both tables contain. Both resample the same groups, so variation that they share
    cancels out. Returns n, name -> value, low, high, answer, and `mcnemar`, which compares the numbers of images that
    only one of the two graded correctly. FovealError for different classes, different labels or fewer than 2 common
    images.
    """
    pairs, classes = _pairs(first, second), len(probability_columns(first))
    labels, resampling = pairs["label"].to_numpy(np.int64), Resampling(units(pairs), resamples, seed)
    given = [pairs[column].to_numpy(np.int64) for column in ("grade", "grade_second")]
    result: dict[str, Any] = {"n": len(pairs)}
    for name, metric in (("quadratic_kappa", metrics.quadratic_kappa), ("accuracy", metrics.accuracy)):
        before, after = (resampling.graded(metric, labels, grades, classes) for grades in given)
        result[name] = difference(before, after, resampling)
    if referable_from is not None and 0 < referable_from < classes:
        rows = [table.set_index("id").loc[pairs["id"]] for table in (first, second)]
        before, after = (roc_area(*severity(table, referable_from), resampling) for table in rows)
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
    """McNemar's test for two graders; first, second: bool [n], which of the same images each graded correctly.

    Exact and mid-p, two-sided (Fagerland, Lydersen and Laake 2013). The exact test is conservative; mid-p counts only
    half of the probability of the observed result.
    """
    only = int((first & ~second).sum()), int((second & ~first).sum())
    n, fewer = sum(only), min(only)
    exact = min(1.0, 2 * float(binom.cdf(fewer, n, 0.5)))
    mid = 1.0 if only[0] == only[1] else 2 * float(binom.cdf(fewer, n, 0.5)) - float(binom.pmf(fewer, n, 0.5))
    return {"only_first": only[0], "only_second": only[1], "exact": exact, "mid_p": mid, "caveat": CAVEAT}


def _pairs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The labelled images that both tables contain; columns of the second end in `_second`."""
    classes = [len(probability_columns(table)) for table in (first, second)]
    if classes[0] != classes[1]:
        raise FovealError("predictions.classes", f"the tables have {classes[0]} and {classes[1]} classes",
                          expected="the same classes in all compared tables")  # fmt: skip
    pairs = first.merge(second, on="id", suffixes=("", "_second"))
    pairs = pairs[pairs["label"].notna() & pairs["label_second"].notna()].reset_index(drop=True)
    if len(pairs) < 2:
        raise FovealError("predictions.no_overlap", f"the tables have {len(pairs)} labelled images in common",
                          expected="at least 2")  # fmt: skip
    other = int((pairs["label"] != pairs["label_second"]).sum())
    if other:
        raise FovealError(
            "predictions.other_labels", f"the tables have different labels for {other} of {len(pairs)} images",
            fix="if labels were corrected, evaluate all runs with the same --corrections",
        )  # fmt: skip
    return pairs


def describe(difference: Mapping[str, Any]) -> str:
    """One sentence about the difference between two graders, kappa first."""
    parts = [
        f"{name.replace('_', ' ')} {difference_with_interval(difference[name])}: {difference[name]['answer']}"
        for name in ("quadratic_kappa", "accuracy", "referable_auc") if name in difference
    ]  # fmt: skip
    return f"{'; '.join(parts)} (paired, 95 % intervals, {difference['n']} images)."


def against_baseline(
    tables: Mapping[str, pd.DataFrame], baseline: str, referable_from: int | None
) -> list[dict[str, Any]]:
    """The entries of comparison.json: every other table compared with the baseline; [] if there is no other.

    tables: name -> labelled rows as returned by `read_predictions`.
    """
    found = []
    for name in tables:
        if name != baseline:
            pair = paired_difference(tables[baseline], tables[name], referable_from)
            figures = {key: entry for key, entry in pair.items() if key not in ("n", "mcnemar")}
            found.append({
                "baseline": baseline, "run": name, "n": pair["n"], "differences": figures, "mcnemar": pair["mcnemar"],
                "sentence": f"{name} compared with {baseline}: {describe(pair)}",
            })  # fmt: skip
    return found


def write_comparison(folder: Path, comparison: list[dict[str, Any]]) -> None:
    """Write comparison.json and comparison.csv into `folder`, and print a sentence per pair."""
    write_json(folder / FILE, json_ready(comparison))
    write_table((folder / FILE).with_suffix(".csv"), _rows(comparison))
    for one in comparison:
        test = one["mcnemar"]
        say(f"{one['sentence']} Only {one['run']} is right on {test['only_second']} images, only {one['baseline']} on "
            f"{test['only_first']} (McNemar mid-p {test['mid_p']:.3g}).")  # fmt: skip
    say(f"comparison: {folder / FILE}")


def _rows(comparison: list[dict[str, Any]]) -> pd.DataFrame:
    """The table of comparison.csv; McNemar's test of a pair is repeated in each of its rows."""
    return pd.DataFrame([
        {"baseline": one["baseline"], "run": one["run"], "figure": figure, "difference": entry["value"],
         "low": entry["low"], "high": entry["high"], "answer": entry["answer"], "n": one["n"],
         "only_baseline_right": one["mcnemar"]["only_first"], "only_run_right": one["mcnemar"]["only_second"],
         "mcnemar_exact": one["mcnemar"]["exact"], "mcnemar_mid_p": one["mcnemar"]["mid_p"]}
        for one in comparison for figure, entry in one["differences"].items()
    ])  # fmt: skip
