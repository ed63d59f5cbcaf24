"""Measure how often 95 % intervals contain the true value, for every headline metric, on simulated sets.

    python benchmarks/interval_coverage.py --trials 1000

Each set is drawn from a known distribution, and measured by the functions of `foveal evaluate`. The true value is that
of a sample so large that chance plays no part. Plain percentile intervals of the same draws are measured as well.
Distributions:

pairs    patients with two eyes of one grade, with similar errors; both images of a patient are alike
dates    groups of about 30 images (days in a clinic), each with a shift of its own, with patients in them; as in
         Messidor-2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from foveal.evaluate.difference import paired_difference
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import measure
from foveal.evaluate.operating import judge, severity
from foveal.readout.scales import Scale

SCALE = Scale(names=list("01234"), ordered=True, referable_from=2, sight_threatening_from=3)
SHARES = (0.5, 0.1, 0.25, 0.1, 0.05)  # of the grades
SCATTER = 0.6  # width of the simulated grader's probabilities, in grades
THRESHOLD = 0.3  # an operating point that was chosen elsewhere
HEADLINE = (
    "accuracy", "balanced_accuracy", "quadratic_kappa", "macro_f1", "mean_absolute_error", "referable_auc",
    "referable_average_precision", "sight_threatening_auc", "brier", "expected_calibration_error", "recall of 4",
    "sensitivity, grade given", "specificity, grade given", f"sensitivity at {THRESHOLD}",
    f"specificity at {THRESHOLD}", "difference in quadratic_kappa", "difference in accuracy",
    "difference in referable_auc",
)  # fmt: skip


def pairs(random: np.random.Generator, patients: int) -> pd.DataFrame:
    """Predictions of two graders for patients with two similar images each."""
    labels = np.repeat(random.choice(5, patients, p=SHARES), 2)
    alike = np.repeat(random.normal(0, 0.7, patients), 2)
    return _table(np.arange(2 * patients) // 2, labels, alike, random)


def dates(random: np.random.Generator, groups: int) -> pd.DataFrame:
    """The same, in groups of very different size that share a shift."""
    sizes = 2 * (1 + random.geometric(1 / 14, groups))
    units = np.repeat(np.arange(groups), sizes)
    patients = len(units) // 2
    labels = np.repeat(random.choice(5, patients, p=SHARES), 2)
    alike = random.normal(0, 0.3, groups)[units] + np.repeat(random.normal(0, 0.6, patients), 2)
    return _table(units, labels, alike, random)


def _table(units: np.ndarray, labels: np.ndarray, alike: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    """Columns of predictions.csv; those of the second grader, which has more scatter, begin with `second_`."""
    table = pd.DataFrame({"id": np.arange(len(units)).astype(str), "label": labels, "group": units.astype(str)})
    for name, own in (("", 0.5), ("second_", 0.7)):
        latent = labels + alike + random.normal(0, own, len(units))
        powers = np.exp(-((np.arange(5) - latent[:, None]) ** 2) / (2 * SCATTER**2)) + 1e-12
        probabilities = powers / powers.sum(1, keepdims=True)
        columns = {f"{name}p{k}": probabilities[:, k] for k in range(5)}
        table = table.assign(**columns, **{f"{name}grade": probabilities.argmax(1)})
    return table.assign(unit=units)


def figures(table: pd.DataFrame, resamples: int, seed: int) -> Iterator[tuple[str, dict]]:
    """(name, value with its interval) of every headline metric."""
    first = table[["id", "label", "group", "grade", *(f"p{k}" for k in range(5))]]
    resampling = Resampling(table["unit"].to_numpy(), resamples, seed)
    yield from measure(first, SCALE, resampling)["metrics"].items()
    scores, ill = severity(first, 2)
    called = {", grade given": first["grade"].to_numpy() >= 2, f" at {THRESHOLD}": scores >= THRESHOLD}
    for name, calls in called.items():
        point = judge(calls, ill, resampling, None)
        yield from ((f"{share}{name}", point[share]) for share in ("sensitivity", "specificity"))
    second = {f"second_{name}": name for name in ("grade", *(f"p{k}" for k in range(5)))}
    other = table[["id", "label", "group", *second]].rename(columns=second)
    compared = paired_difference(first, other, 2, resamples=resamples, seed=seed)
    yield from ((f"difference in {name}", compared[name]) for name in ("quadratic_kappa", "accuracy", "referable_auc"))


class Beside:
    """Intervals, and the plain percentile intervals of the same draws, found again by their two ends."""

    def __init__(self) -> None:
        self.percentiles: dict[tuple[float, float], tuple[float, float]] = {}
        self.corrected = Resampling.interval

    def interval(self, resampling: Resampling, value: float, resampled: np.ndarray) -> tuple[float, float]:
        """Replaces `Resampling.interval`."""
        ends = self.corrected(resampling, value, resampled)
        self.percentiles[ends] = tuple(np.nanquantile(resampled, (0.025, 0.975)))
        return ends


def coverage(make: Callable, size: int, large: int, trials: int, resamples: int) -> pd.DataFrame:
    """A row per metric: its true value, how many sets had an interval, and the share of these that contain it."""
    beside, random = Beside(), np.random.default_rng(0)
    truth = {name: entry["value"] for name, entry in figures(make(random, large), 2, 0)}
    held = {name: [] for name in HEADLINE}

    def interval(resampling: Resampling, value: float, resampled: np.ndarray) -> tuple[float, float]:
        return beside.interval(resampling, value, resampled)

    Resampling.interval = interval
    for seed in range(trials):
        for name, entry in figures(make(random, size), resamples, seed):
            if name in held and entry["low"] is not None:
                ends = entry["low"], entry["high"]  # exact ones, of shares of 0 or 1, are the same for both
                both = ends, beside.percentiles.get(ends, ends)
                held[name].append([low <= truth[name] <= high for low, high in both])
        beside.percentiles.clear()
    Resampling.interval = beside.corrected
    rows = [(name, round(truth[name], 3), len(own), *np.mean(own, axis=0).round(3)) for name, own in held.items()]
    return pd.DataFrame(rows, columns=["metric", "true value", "n", "coverage", "coverage of percentiles"])


def main() -> None:
    """Print a table for each distribution and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    for make, size, large in ((pairs, 150, 60_000), (dates, 42, 4_000), (dates, 12, 4_000)):
        started = time.perf_counter()
        found = coverage(make, size, large, options.trials, options.resamples)
        print(f"\n{make.__name__}, {size} groups, {options.trials} sets, {options.resamples} resamples, "
              f"{time.perf_counter() - started:.0f} s")  # fmt: skip
        print(found.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
