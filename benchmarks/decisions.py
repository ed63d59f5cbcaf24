"""Compare rules that turn probabilities into grades, on real predictions or on simulated graders.

    python benchmarks/decisions.py --predictions predictions.csv [--source place]
    python benchmarks/decisions.py --draws 500

With a table of predictions (calibrated probabilities p0 … pK of labelled images), every rule grades the images of every
source. Prints kappa and accuracy with intervals over groups. For each source, it also names the rule with the highest
sum of kappa and accuracy on the other sources, among the rules whose kappa there is at most 0.01 below that of half-way
rounding.

Without a table, graders are simulated. Validation sets of 50 to 1,000 images are drawn, and a readout is fitted on
each. Its kappa and accuracy on 5,000 new images are compared with half-way rounding of the same calibrated
probabilities, and of the probabilities before calibration. Simulated graders:

softmax     a classifier with the probabilities of noisy measurements, made overconfident
regression  a number whose scatter differs between grades, calibrated for each step between grades
shrunk      the same, moved half of the way to the middle grade
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from foveal import metrics
from foveal.evaluate.intervals import Resampling
from foveal.page.words import value_with_interval
from foveal.readout.decisions import decide
from foveal.readout.predictions import probability_columns
from foveal.readout.readout import ReadoutOptions, fit_readout
from foveal.sets.splits import group_codes

SIZES = (50, 100, 200, 500, 1000)  # validation images
SHARES = np.array([0.49, 0.12, 0.26, 0.07, 0.06])  # of the grades
SCATTER = np.array([0.45, 0.7, 0.6, 0.7, 0.8])  # of a measurement, in grades
OVERCONFIDENT = 1.5
MIDDLE, NEW = 2, 5000
KINDS = ("softmax", "regression", "softmax, shrunk", "regression, shrunk")
MOST_LOST = 0.01  # of kappa
ALMOST = 1e-9  # a cumulative probability this close to one half counts as half


def at_cost(share: float, probabilities: np.ndarray) -> np.ndarray:
    """The class with the lowest expected cost: (1 - share) for any error, plus share x its squared distance (0-1)."""
    classes = np.arange(probabilities.shape[1])
    distance = abs(classes[:, None] - classes)
    costs = (1 - share) * (distance > 0) + share * (distance / classes[-1]) ** 2
    return np.asarray((probabilities @ costs).argmin(1))


def medians(probabilities: np.ndarray) -> np.ndarray:
    """The median grade, which has the smallest expected absolute error."""
    return np.asarray((probabilities.cumsum(1)[:, :-1] < 0.5 - ALMOST).sum(1))


def powered(power: float, probabilities: np.ndarray) -> np.ndarray:
    """Half-way rounding of the expected grade of p^power."""
    powers = probabilities**power
    return decide(powers / powers.sum(1, keepdims=True), "expected")


RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half-way": partial(decide, decision="expected"), "median": medians,
    "argmax": partial(decide, decision="most_probable"),
    **{f"cost, {share:.0%} squared": partial(at_cost, share) for share in (0.5, 0.7, 0.8, 0.9)},
    **{f"power {power:g}": partial(powered, power) for power in (1.5, 2, 2.5, 3, 4)},
}  # fmt: skip


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Kappa and accuracy of every rule on every source. table: columns source, grader, label, group, p0 … pK."""
    rows = []
    for (source, grader), part in table.groupby(["source", "grader"], sort=False):
        probabilities, labels = part[probability_columns(part)].to_numpy(float), part["label"].to_numpy(int)
        resampling = Resampling(group_codes(part["group"]))
        for rule, grade in RULES.items():
            graded = partial(resampling.graded, labels=labels, grades=grade(probabilities))
            for name in ("quadratic_kappa", "accuracy"):
                value, drawn = graded(getattr(metrics, name), classes=probabilities.shape[1])
                rows.append({"source": source, "grader": grader, "rule": rule, "metric": name, "n": len(part),
                             "value": value, "drawn": drawn, "resampling": resampling})  # fmt: skip
    return pd.DataFrame(rows)


def over_graders(found: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(source, rule, metric) -> the mean over graders, with an interval over groups."""
    entries = {}
    for key, part in found.groupby(["source", "rule", "metric"], sort=False):
        one = part["resampling"].iloc[0]
        entries[key] = one.entry(part["value"].mean(), np.mean(list(part["drawn"]), axis=0), int(part["n"].iloc[0]))
    return entries


def chosen_elsewhere(values: pd.DataFrame, source: str) -> str:
    """The best rule on all other sources. values: means over graders, by (source, rule) and metric."""
    mean = values.drop(source, level="source").groupby("rule").mean()
    fair = mean[mean["quadratic_kappa"] >= mean.loc["half-way", "quadratic_kappa"] - MOST_LOST]
    return str((fair["quadratic_kappa"] + fair["accuracy"]).idxmax())


def show_rules(table: pd.DataFrame) -> None:
    """Print the results of all rules on every source."""
    found = compare(table)
    entries = over_graders(found)
    values = found.pivot_table(index=["source", "rule"], columns="metric", values="value", sort=False)
    for source, part in found.groupby("source", sort=False):
        print(f"\n{source}: {part['grader'].nunique()} graders, n = {part['n'].iloc[0]}")
        for rule in RULES:
            kappa, right = (value_with_interval(entries[source, rule, name], 3)
                            for name in ("quadratic_kappa", "accuracy"))  # fmt: skip
            print(f"  {rule:20} kappa {kappa}  accuracy {right}")
        if found["source"].nunique() > 1:
            rule = chosen_elsewhere(values, str(source))
            print(f"  chosen on the other sources: {rule}")


def drawn(random: np.random.Generator, kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, K] of a simulated grader, and the labels [n]."""
    grades = np.arange(len(SHARES))
    labels = random.choice(grades, n, p=SHARES)
    measured = labels + SCATTER[labels] * random.normal(size=n)
    shrunk = kind.endswith("shrunk")
    if kind.startswith("softmax"):
        fits = np.log(SHARES / SCATTER) - ((measured[:, None] - grades) / SCATTER) ** 2 / 2
        probabilities = np.asarray(softmax(OVERCONFIDENT * fits, axis=1))
        return (probabilities + np.eye(len(grades))[MIDDLE]) / 2 if shrunk else probabilities, labels
    number = (measured + MIDDLE) / 2 if shrunk else measured
    above = expit(3 * (number[:, None] - grades[:-1] - 0.5))
    return -np.diff(np.pad(above, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))), labels


def simulate(kind: str, size: int, draws: int, seed: int = 0) -> pd.DataFrame:
    """For each drawn validation set of `size` images, a row: gains on new images, and whether cutoffs were fitted.

    kappa, accuracy: gain over half-way rounding of the same calibrated probabilities. given_kappa: gain over half-way
    rounding of the probabilities before calibration.
    """
    random = np.random.default_rng(seed)
    new, truth = drawn(random, kind, NEW)
    options = ReadoutOptions(
        decision="sharpened", ordered=True, temperature=True, steps=kind.startswith("regression"), cutoffs=True,
        coverage=0.0,
    )  # fmt: skip
    rows = []
    for _ in range(draws):
        raw, labels = drawn(random, kind, size)
        readout = fit_readout(raw, labels, options)
        probabilities = readout.probabilities(new)
        graded = (readout.grades(probabilities), decide(probabilities, "expected"), decide(new, "expected"))
        own, plain, given = (metrics.confusion_matrix(truth, grades, len(SHARES)) for grades in graded)
        kappa, before, as_given = (float(metrics.quadratic_kappa(one)) for one in (own, plain, given))
        right = float(metrics.accuracy(own) - metrics.accuracy(plain))
        rows.append({"kappa": kappa - before, "accuracy": right, "given_kappa": kappa - as_given,
                     "fitted": readout.cutoffs is not None})  # fmt: skip
    return pd.DataFrame(rows)


def show_simulations(draws: int) -> None:
    """Print the gains for each kind of grader and number of validation images."""
    print(f"means of {draws} validation sets ± standard error; gains on {NEW:,} new images")
    print(f"{'':20} {'images':>6}  {'kappa':>15}  {'accuracy':>15}  {'kappa (as given)':>16}  fitted")
    for kind in KINDS:
        for size in SIZES:
            found = simulate(kind, size, draws)
            cells = [f"{found[name].mean():+.4f} ± {found[name].std() / draws**0.5:.4f}"
                     for name in ("kappa", "accuracy", "given_kappa")]  # fmt: skip
            print(f"{kind:20} {size:>6}  {'  '.join(cells)}   {found['fitted'].mean():.0%}", flush=True)


def read(file: Path, source: str) -> pd.DataFrame:
    """A table of predictions with the columns source and grader. If they are missing, there is one source or grader."""
    table = pd.read_csv(file, dtype={"group": str, "id": str})
    named = [name for name in ("start", "labels", "seed") if name in table]
    table["grader"] = table[named].astype(str).agg(" ".join, axis=1) if named else "grader"
    table["source"] = table.get(source, file.stem)
    sets = table["id"].str.partition("/")[0]
    table["source"] = table["source"].where(~table["source"].eq("home"), "home: " + sets)
    chosen = probability_columns(table)
    table[chosen] = table[chosen].div(table[chosen].sum(axis=1), axis=0)
    return table[table["label"].notna()]


def main() -> None:
    """Compare the rules on a table or on simulated graders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, help="table with p0 … pK, label, id and group")
    parser.add_argument("--source", default="place", help="column of the table that names the source")
    parser.add_argument("--draws", type=int, default=500, help="number of validation sets of each size")
    given = parser.parse_args()
    if given.predictions:
        show_rules(read(given.predictions, given.source))
    else:
        show_simulations(given.draws)


if __name__ == "__main__":
    main()
