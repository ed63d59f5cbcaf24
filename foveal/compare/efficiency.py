"""The table and the curves of a comparison: the metrics of each combination, and its difference from the baseline.

Every value is a mean over seeds. Its interval covers two sources of chance: each resample draws groups of held-out
images, and seeds. A difference uses the same draws on both sides. With only a few seeds, intervals understate how much
results vary between seeds. Folds are joined into one table, in which each image occurs once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.compare.cells import Cell, Sides, subset
from foveal.compare.options import CompareConfig
from foveal.compare.probe import metrics_of
from foveal.console import show_table
from foveal.evaluate.curves import roc_area
from foveal.evaluate.difference import answer
from foveal.evaluate.intervals import RESAMPLES, Resampling
from foveal.evaluate.operating import severity
from foveal.page.words import counted, difference_with_interval, number, value_with_interval
from foveal.readout.predictions import read_predictions
from foveal.readout.scales import referable_from
from foveal.sets.records import PreparedSet
from foveal.sets.splits import group_codes

Figure = Callable[[pd.DataFrame, Resampling], tuple[float, np.ndarray]]  # value and its resamples [R]


def tabulate(
    config: CompareConfig, prepared: PreparedSet, sides: Sequence[Sides], cells: Sequence[Cell]
) -> pd.DataFrame:
    """A row per combination and metric: init, how, labels, learned, metric, value, low, high, seeds, difference, ….

    The last four columns (difference, its interval and an answer in words) are empty for the baseline.
    """
    rows: list[dict[str, Any]] = []
    known = sides[0][0]["label"].to_numpy(np.int64)
    for how, labels in dict.fromkeys((cell.how, cell.labels) for cell in cells):
        own = [cell for cell in cells if (cell.how, cell.labels) == (how, labels)]
        learned = int(subset(known, own[0].share, config.seed).sum())
        tables = {init: _tables(config, own, init) for init in config.init}
        resampling = Resampling(group_codes(tables[config.init[0]][0]["group"]), RESAMPLES, config.seed)
        size = {"images": len(resampling.units), "groups": resampling.groups}
        baseline: dict[str, tuple[float, np.ndarray]] = {}
        for init, (name, figure) in product(config.init, _figures(prepared).items()):
            values, drawn = _over_seeds(tables[init], figure, resampling, config.seed)
            value, spread = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
            row = {"init": init, "how": how, "labels": labels, "share": own[0].share, "learned": learned}
            row |= {"metric": name, **_entry(value, drawn, resampling), "seeds": len(values), "spread": spread, **size}
            first, first_drawn = baseline.setdefault(name, (value, drawn))
            if init != config.init[0]:
                found = _entry(value - first, drawn - first_drawn, resampling)
                row |= {"difference": found["value"], "difference_low": found["low"]}
                row |= {"difference_high": found["high"], "answer": answer(found["low"], found["high"])}
            rows.append(row)
    return pd.DataFrame(rows)


def _tables(config: CompareConfig, cells: Sequence[Cell], init: str) -> list[pd.DataFrame]:
    """The predictions of each seed, sorted by id; folds are joined into one table."""
    tables = [read_predictions(cell.file(config)) for cell in cells if cell.init == init]
    tables = [pd.concat(tables)] if config.folds else tables
    return [table.sort_values("id", ignore_index=True) for table in tables]


def _entry(value: float, drawn: np.ndarray, resampling: Resampling) -> dict[str, float]:
    """value, low and high; nan if undefined."""
    entry = resampling.entry(value, drawn, len(resampling.units))
    return {key: math.nan if entry[key] is None else entry[key] for key in ("value", "low", "high")}


def _figures(prepared: PreparedSet) -> dict[str, Figure]:
    classes, lowest = len(prepared.classes), referable_from(prepared.card["scale"])

    def of_grades(metric: Callable[[np.ndarray], np.ndarray]) -> Figure:
        def figure(table: pd.DataFrame, resampling: Resampling) -> tuple[float, np.ndarray]:
            labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
            return resampling.graded(metric, labels, grades, classes)

        return figure

    found = {name: of_grades(metric) for name, metric in metrics_of(prepared).items()}
    if lowest is not None:
        found["referable_auc"] = lambda table, resampling: roc_area(*severity(table, lowest), resampling)
    return found


def _over_seeds(
    tables: Sequence[pd.DataFrame], figure: Figure, resampling: Resampling, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The metric for each seed [S], and its mean over drawn seeds in every resample [R]."""
    found = [figure(table, resampling) for table in tables]
    drawn = np.stack([resamples for _, resamples in found])
    seeds = np.random.default_rng([seed, 9]).integers(len(tables), size=drawn.shape)
    return np.array([value for value, _ in found]), np.take_along_axis(drawn, seeds, axis=0).mean(0)


def show_comparison(table: pd.DataFrame, config: CompareConfig, sides: Sequence[Sides]) -> None:
    """Print the table: the first metric with its interval and difference from the baseline; the others' values."""
    names = [metric.replace("_", " ") for metric in table["metric"].unique()]
    rows = []
    for (how, labels, init), own in table.groupby(["how", "labels", "init"], sort=False):
        entries: Any = own.to_dict("records")
        first, *others = entries
        values = [value_with_interval(first, 3), *(number(other["value"], 3) for other in others)]
        against = "baseline"
        if init != config.init[0]:
            entry = {"value": first["difference"], "low": first["difference_low"], "high": first["difference_high"]}
            against = f"{difference_with_interval(entry)}: {first['answer']}"
        rows.append([f"{how}, {first['learned']:,} labels ({labels}), {init}", *values, against])
    one = table.iloc[0]
    times = f"{config.folds} folds" if config.folds else f"mean of {counted(config.seeds, 'seed')}"
    judged = f"{one['images']:,} held-out images in {one['groups']:,} groups"
    title = f"{judged}, {len(sides[0][0]):,} labelled training images, {times}; 95 % intervals"
    show_table(title, ["", *names, f"{names[0]}: difference from {config.init[0]}"], rows)


def draw_curves(table: pd.DataFrame, file: Path) -> None:
    """Label-efficiency curves: the first metric against the share of labels, with a panel for probe and fine-tune."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metric = table["metric"].iloc[0]
    table = table[table["metric"] == metric]
    ways, inits = list(table["how"].unique()), list(table["init"].unique())
    figure, axes = pyplot.subplots(1, len(ways), figsize=(1 + 4.5 * len(ways), 4), sharey=True, squeeze=False)
    titles = {"probe": "Linear probe on frozen features", "finetune": "Fine-tuning of the whole network"}
    for axis, how in zip(axes[0], ways, strict=True):
        for place, init in enumerate(inits):
            own = table[(table["how"] == how) & (table["init"] == init)].sort_values("share")
            x = own["share"] * 100 * (1 + 0.04 * (place - (len(inits) - 1) / 2))  # side by side, not overlapping
            errors = [(own["value"] - own["low"]).clip(0), (own["high"] - own["value"]).clip(0)]
            axis.errorbar(x, own["value"], yerr=errors, marker="o", capsize=3, label=Path(init).name)
        axis.set_xscale("log")
        shares = sorted(set(table["share"] * 100))
        axis.set_xticks(shares, [f"{share:.3g} %" for share in shares])
        axis.minorticks_off()
        axis.set(xlabel="share of the training labels", title=titles[how])
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(metric.replace("_", " "))
    axes[0][0].legend(frameon=False)
    figure.suptitle("95 % intervals over groups of held-out images and over seeds", fontsize=9)
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
