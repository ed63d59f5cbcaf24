"""The table and the curves of a comparison: what each combination reaches, and how far it is from the baseline.

The mean over seeds, with an interval over what is left to chance: in every resample whole groups of judged images are
drawn, and seeds as well; for differences both sides draw the same. Few seeds make the part of the seeds too small.
Folds are one table together: each image once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.compare.cells import Cell, Sides, subset
from foveal.compare.options import CompareConfig
from foveal.console import show_table
from foveal.evaluate.curves import roc_area
from foveal.evaluate.difference import answer
from foveal.evaluate.intervals import Resampling, percentile_interval
from foveal.evaluate.operating import severity
from foveal.readout.predictions import read_predictions, units
from foveal.readout.scales import referable_from
from foveal.sets.records import PreparedSet

Figure = Callable[[pd.DataFrame, Resampling], tuple[float, np.ndarray]]  # value and its resamples [R]


def tabulate(
    config: CompareConfig, prepared: PreparedSet, sides: Sequence[Sides], cells: Sequence[Cell]
) -> pd.DataFrame:
    """A row per combination and figure: init, how, labels, learned, metric, value, low, high, seeds, difference, ….

    The last four columns, difference, its limits and an answer in words, are empty for the baseline.
    """
    rows: list[dict[str, Any]] = []
    figures = _figures(prepared)
    known = sides[0].known["label"].to_numpy(np.int64)
    learned = {cell.labels: int(subset(known, cell.share, config.seed).sum()) for cell in cells}
    for how, labels in dict.fromkeys((cell.how, cell.labels) for cell in cells):
        own = [cell for cell in cells if (cell.how, cell.labels) == (how, labels)]
        baseline: dict[str, np.ndarray] = {}
        for init in config.init:
            tables = [read_predictions(cell.file(config)) for cell in own if cell.init == init]
            tables = [pd.concat(tables, ignore_index=True)] if config.folds else tables
            for name, figure in figures.items():
                values, drawn = _over_seeds(tables, figure, config)
                low, high = percentile_interval(drawn)
                row: dict[str, Any] = {
                    "init": init, "how": how, "labels": labels, "share": own[0].share, "learned": learned[labels],
                    "metric": name,
                    "value": float(values.mean()), "low": low, "high": high, "seeds": len(values),
                    "spread": float(values.std(ddof=1)) if len(values) > 1 else math.nan, "images": len(tables[0]),
                    "groups": int(units(tables[0]).max()) + 1,
                }  # fmt: skip
                if init == config.init[0]:
                    baseline[name], baseline[f"{name} value"] = drawn, values
                else:
                    low, high = percentile_interval(drawn - baseline[name])
                    row |= {"difference": row["value"] - float(baseline[f"{name} value"].mean())}
                    row |= {"difference_low": low, "difference_high": high, "answer": answer(low, high)}
                rows.append(row)
    return pd.DataFrame(rows)


def _figures(prepared: PreparedSet) -> dict[str, Figure]:
    classes, cut = len(prepared.classes), referable_from(prepared.card["scale"])

    def of_confusion(metric: Callable[[np.ndarray], np.ndarray]) -> Figure:
        def figure(table: pd.DataFrame, resampling: Resampling) -> tuple[float, np.ndarray]:
            labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
            return resampling.graded(metric, labels, grades, classes)

        return figure

    def area(table: pd.DataFrame, resampling: Resampling) -> tuple[float, np.ndarray]:
        assert cut is not None
        scores, positive = severity(table, cut)
        return roc_area(scores, positive, resampling)

    found: dict[str, Figure] = {}
    if prepared.card["task"] == "grading":
        found["quadratic_kappa"] = of_confusion(metrics.quadratic_kappa)
    found |= {"accuracy": of_confusion(metrics.accuracy), "macro_f1": of_confusion(metrics.macro_f1)}
    return found | ({"referable_auc": area} if cut is not None else {})


def _over_seeds(tables: Sequence[pd.DataFrame], figure: Figure, config: CompareConfig) -> tuple[np.ndarray, np.ndarray]:
    """The figure of each seed [S], and its mean over drawn seeds in every resample [R]."""
    values, drawn = [], []
    for table in tables:
        value, resamples = figure(table, Resampling(units(table), config.resamples, config.seed))
        values.append(np.nan_to_num(value))  # kappa of constant answers to a constant is no agreement
        drawn.append(np.nan_to_num(resamples))
    generator = np.random.default_rng([config.seed, 9])
    seeds = generator.integers(len(tables), size=(len(tables), config.resamples))
    picked = np.take_along_axis(np.stack(drawn), seeds, axis=0)
    return np.array(values), picked.mean(0)


def show_comparison(table: pd.DataFrame, config: CompareConfig, sides: Sequence[Sides]) -> None:
    """Print the table: the first figure with its interval and its difference from the baseline, the others' values."""
    shown = list(dict.fromkeys(table["metric"]))
    rows = []
    for (how, labels, init), own in table.groupby(["how", "labels", "init"], sort=False):
        by_metric = own.set_index("metric")
        first = by_metric.loc[shown[0]]
        told = "baseline"
        if init != config.init[0]:
            told = f"{first['difference']:+.3f} ({first['difference_low']:+.3f} – {first['difference_high']:+.3f}): "
            told += str(first["answer"])
        values = [f"{first['value']:.3f} ({first['low']:.3f} – {first['high']:.3f})"]
        values += [f"{by_metric.loc[metric, 'value']:.3f}" for metric in shown[1:]]
        rows.append([f"{how}, {own['learned'].iloc[0]:,} labels ({labels}), {init}", *values, told])
    one = table.iloc[0]
    times = f"{config.folds} folds" if config.folds else f"mean of {config.seeds} seed(s)"
    title = (
        f"{one['images']:,} judged images of {one['groups']:,} groups, {len(sides[0].known):,} graded to learn from, "
    )
    columns = [
        "",
        *(metric.replace("_", " ") for metric in shown),
        f"{shown[0].replace('_', ' ')}: against {config.init[0]}",
    ]
    show_table(title + f"{times}; 95 % intervals", columns, rows)


def draw_curves(table: pd.DataFrame, file: Path) -> None:
    """Label-efficiency curves: the first figure against the number of labels, a panel for each way of learning."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metric = table["metric"].iloc[0]
    table = table[table["metric"] == metric]
    ways = list(dict.fromkeys(table["how"]))
    figure, axes = pyplot.subplots(1, len(ways), figsize=(1 + 4.5 * len(ways), 4), sharey=True, squeeze=False)
    titles = {"probe": "Linear probe of frozen features", "finetune": "Fine-tune of the whole network"}
    for axis, how in zip(axes[0], ways, strict=True):
        inits = list(dict.fromkeys(table["init"]))
        for number, init in enumerate(inits):
            own = table[(table["how"] == how) & (table["init"] == init)].sort_values("share")
            x = own["share"] * 100 * (1 + 0.04 * (number - (len(inits) - 1) / 2))  # side by side, not on one another
            errors = [(own["value"] - own["low"]).clip(0), (own["high"] - own["value"]).clip(0)]
            axis.errorbar(x, own["value"], yerr=errors, marker="o", capsize=3, label=Path(init).name)
        axis.set_xscale("log")
        shares = sorted(set(table["share"] * 100))
        axis.set_xticks(shares, [f"{share:.3g} %" for share in shares])
        axis.minorticks_off()
        axis.set(xlabel="labels learned from", title=titles[how])
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(metric.replace("_", " "))
    axes[0][0].legend(frameon=False)
    figure.suptitle("95 % intervals over groups of judged images and seeds", fontsize=9)
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
