"""The table of a comparison: from the predictions of its combinations to means over seeds, intervals and differences.

The interval of a mean over seeds covers two sources of chance: each resample draws groups of held-out images, and
seeds. A difference uses the same draws on both sides. With only a few seeds, intervals understate how much results vary
between seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from foveal.compare.cells import Cell, Sides, taught
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


@dataclass(frozen=True)
class Figure:
    """A metric: its mean over seeds, the mean in every resample [R], the values of the seeds, and its resampling."""

    value: float
    drawn: np.ndarray
    seeds: np.ndarray
    resampling: Resampling

    @property
    def columns(self) -> dict[str, Any]:
        """value, low, high, seeds, spread, images and groups."""
        spread = float(self.seeds.std(ddof=1)) if len(self.seeds) > 1 else math.nan
        size = {"images": len(self.resampling.units), "groups": self.resampling.groups}
        entry = entry_of(self.value, self.drawn, self.resampling)
        return {**entry, "seeds": len(self.seeds), "spread": spread, **size}

    def minus(self, first: Figure, name: str, sign: str) -> dict[str, Any]:
        """The paired difference from `first` and its answer, in columns NAME, NAME_low, NAME_high and `sign`."""
        entry = entry_of(self.value - first.value, self.drawn - first.drawn, self.resampling)
        found: dict[str, Any] = {name: entry["value"], f"{name}_low": entry["low"], f"{name}_high": entry["high"]}
        return found | {sign: answer(entry["low"], entry["high"])}


def entry_of(value: float, drawn: np.ndarray, resampling: Resampling) -> dict[str, float]:
    """value, low and high; nan if undefined."""
    entry = resampling.entry(value, drawn, len(resampling.units))
    return {key: math.nan if entry[key] is None else entry[key] for key in ("value", "low", "high")}


class Judge:
    """The figures of a comparison. All combinations share the images, the groups and the drawn seeds."""

    def __init__(self, config: CompareConfig, prepared: PreparedSet, sides: Sequence[Sides]) -> None:
        self.config, self.prepared = config, prepared
        judged = pd.concat([side[1] for side in sides]).drop_duplicates("id").sort_values("id", ignore_index=True)
        self.sources = judged["source"].to_numpy()
        self.resampling = Resampling(group_codes(judged["group"]), RESAMPLES, config.seed)
        self.lowest = referable_from(prepared.card["scale"])
        self.names = [*metrics_of(prepared), *(["referable_auc"] if self.lowest is not None else [])]

    def tables(self, cells: Sequence[Cell]) -> list[pd.DataFrame]:
        """The predictions of each seed, sorted by id; folds are joined into one table."""
        tables = [read_predictions(cell.file(self.config)) for cell in cells]
        tables = [pd.concat(tables)] if self.config.folds else tables
        return [table.sort_values("id", ignore_index=True) for table in tables]

    def figure(self, name: str, tables: Sequence[pd.DataFrame], source: str = "") -> Figure:
        """A metric of the predictions of all seeds, on all images or on those of one source."""
        chosen = self.sources == source if source else np.ones(len(self.sources), bool)
        resampling = self.resampling.part(chosen)
        found = [self._measure(name, table[chosen], resampling) for table in tables]
        values, drawn = np.array([value for value, _ in found]), np.stack([resamples for _, resamples in found])
        seeds = np.random.default_rng([self.config.seed, 9]).integers(len(found), size=drawn.shape)
        drawn = np.take_along_axis(drawn, seeds, axis=0).mean(0)  # over drawn seeds
        return Figure(float(values.mean()), drawn, values, resampling)

    def mean(self, figures: Sequence[Figure], sources: Sequence[str]) -> Figure:
        """The mean of one metric over its figures on these sources: each counts alike, however many images it has."""
        resampling = self.resampling.part(np.isin(self.sources, sources))
        value, drawn = float(np.mean([one.value for one in figures])), np.mean([one.drawn for one in figures], axis=0)
        return Figure(value, drawn, np.mean([one.seeds for one in figures], axis=0), resampling)

    def _measure(self, name: str, table: pd.DataFrame, resampling: Resampling) -> tuple[float, np.ndarray]:
        if name == "referable_auc" and self.lowest is not None:
            return roc_area(*severity(table, self.lowest), resampling)
        labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
        return resampling.graded(metrics_of(self.prepared)[name], labels, grades, len(self.prepared.classes))


def tabulate(judge: Judge, sides: Sequence[Sides], cells: Sequence[Cell]) -> pd.DataFrame:
    """A row per combination and metric: init, how, labels, learned, metric, value, low, high, seeds, difference, ….

    The last four columns (difference, its interval and an answer in words) are empty for the baseline.
    """
    rows: list[dict[str, Any]] = []
    for how, labels in dict.fromkeys((cell.how, cell.labels) for cell in cells):
        own = [cell for cell in cells if (cell.how, cell.labels) == (how, labels)]
        learned = len(taught(sides[0][0], own[0], judge.config.seed))
        tables = {init: judge.tables([cell for cell in own if cell.init == init]) for init in judge.config.init}
        baseline: dict[str, Figure] = {}
        for init, name in product(judge.config.init, judge.names):
            figure = judge.figure(name, tables[init])
            row = {"init": init, "how": how, "labels": labels, "share": own[0].share, "learned": learned}
            row |= {"metric": name, **figure.columns}
            first = baseline.setdefault(name, figure)
            if init != judge.config.init[0]:
                row |= figure.minus(first, "difference", "answer")
            rows.append(row)
    return pd.DataFrame(rows)


def show_comparison(table: pd.DataFrame, config: CompareConfig, sides: Sequence[Sides]) -> None:
    """Print the table: the first metric with its interval and difference from the baseline; the others' values."""
    names = [metric.replace("_", " ") for metric in table["metric"].unique()]
    rows = []
    for (how, labels, init), own in table.groupby(["how", "labels", "init"], sort=False):
        entries: Any = own.to_dict("records")
        first, *others = entries
        values = [value_with_interval(first, 3), *(number(other["value"], 3) for other in others)]
        against = "baseline" if init == config.init[0] else said(first, "difference", "answer")
        rows.append([f"{how}, {first['learned']:,} labels ({labels}), {init}", *values, against])
    show_table(title_of(table, config, sides), ["", *names, f"{names[0]}: difference from {config.init[0]}"], rows)


def said(row: dict[str, Any], name: str, sign: str) -> str:
    """A paired difference with its interval and its answer; see `Figure.minus`."""
    entry = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
    return f"{difference_with_interval(entry)}: {row[sign]}"


def title_of(table: pd.DataFrame, config: CompareConfig, sides: Sequence[Sides]) -> str:
    """How many images were judged, how many there were to train on, and how often."""
    one = table.sort_values("images").iloc[-1]
    times = f"{config.folds} folds" if config.folds else f"mean of {counted(config.seeds, 'seed')}"
    judged = f"{one['images']:,} held-out images in {one['groups']:,} groups"
    return f"{judged}, {len(sides[0][0]):,} labelled training images, {times}; 95 % intervals"
