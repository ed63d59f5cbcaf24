"""The table of a comparison: from the predictions of its combinations to means over seeds, intervals and differences.

Each resample draws groups of held-out images, and seeds; a difference uses the same draws on both sides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foveal.compare.cells import Cell, Sides, taught
from foveal.compare.options import CompareConfig
from foveal.compare.probe import metrics_of
from foveal.evaluate.columns import ALL, MEAN, OTHERS, all_but
from foveal.evaluate.curves import roc_area
from foveal.evaluate.difference import difference
from foveal.evaluate.intervals import RESAMPLES, Resampling
from foveal.evaluate.operating import severity
from foveal.page.render import print_template
from foveal.readout.predictions import read_predictions
from foveal.readout.scales import referable_from
from foveal.sets.held_out import sources_of
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
        entry = self.resampling.entry(self.value, self.drawn, len(self.resampling.units))
        counts = {"seeds": len(self.seeds), "spread": spread, "images": entry["n"], "groups": self.resampling.groups}
        return {key: math.nan if entry[key] is None else entry[key] for key in ("value", "low", "high")} | counts

    def minus(self, first: "Figure", name: str, sign: str) -> dict[str, Any]:
        """The paired difference from `first` and its answer, in columns NAME, NAME_low, NAME_high and `sign`."""
        found = difference((first.value, first.drawn), (self.value, self.drawn), self.resampling)
        return {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"], sign: found["answer"]}


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

    def figures(self, name: str, tables: dict[str, list[pd.DataFrame]]) -> dict[tuple[str, str], Figure]:
        """(trained on, tested on) -> the figure of one metric; tables: those of each source left out, "" for none."""
        if not (abroad := [without for without in tables if without]):
            return {(ALL, ""): self.figure(name, tables[""])}
        there = [source for source in sources_of(self.prepared) if source in set(self.sources)]
        found = {(all_but(without), source): self.figure(name, own, source)
                 for without, own in tables.items() for source in there}  # fmt: skip
        for trained, of in ((ALL, lambda _: ALL), (OTHERS, all_but)):
            figures = [found[of(source), source] for source in abroad]  # each counts alike, however many images
            drawn, seeds = (np.mean([getattr(one, part) for one in figures], axis=0) for part in ("drawn", "seeds"))
            resampling = self.resampling.part(np.isin(self.sources, abroad))
            found[trained, MEAN] = Figure(float(np.mean([one.value for one in figures])), drawn, seeds, resampling)
        return found

    def _measure(self, name: str, table: pd.DataFrame, resampling: Resampling) -> tuple[float, np.ndarray]:
        if name == "referable_auc" and self.lowest is not None:
            return roc_area(*severity(table, self.lowest), resampling)
        labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
        return resampling.graded(metrics_of(self.prepared)[name], labels, grades, len(self.prepared.classes))


def tabulate(judge: Judge, sides: Sequence[Sides], cells: Sequence[Cell], abroad: Sequence[str] = ()) -> pd.DataFrame:
    """The table in compare.csv: a row per combination and metric, and where sources in `abroad` are left out in turn
    also per trained_on and tested_on. Differences and gaps are empty if there is nothing to compare with.
    """
    rows: list[dict[str, Any]] = []
    baseline: dict[tuple[str, ...], Figure] = {}
    for how, labels, init in dict.fromkeys((cell.how, cell.labels, cell.init) for cell in cells):
        own = [cell for cell in cells if (cell.how, cell.labels, cell.init) == (how, labels, init)]
        parts = {without: [cell for cell in own if cell.without == without] for without in ("", *abroad)}
        tables = {without: judge.tables(part) for without, part in parts.items()}
        learned = {all_but(without): len(taught(sides[0][0], part[0], judge.config.seed))
                   for without, part in parts.items()}  # fmt: skip
        for name in judge.names:
            figures = judge.figures(name, tables)
            for (trained, tested), figure in figures.items():
                row = {"init": init, "how": how, "labels": labels, "share": own[0].share}
                row |= {"learned": learned.get(trained)}
                row |= {"trained_on": trained, "tested_on": tested} if abroad else {}
                row |= {"metric": name, **figure.columns}
                if (first := baseline.setdefault((how, labels, name, trained, tested), figure)) is not figure:
                    row |= figure.minus(first, "difference", "answer")
                if trained != ALL:
                    row |= figure.minus(figures[ALL, tested], "gap", "gap_answer")
                rows.append(row)
    return pd.DataFrame(rows)


def means(table: pd.DataFrame, trained: str) -> pd.DataFrame:
    """The rows of means over sources, of training on all (`ALL`) or on all but the tested one (`OTHERS`)."""
    return table[(table["tested_on"] == MEAN) & (table["trained_on"] == trained)].reset_index(drop=True)


def show(table: pd.DataFrame, config: CompareConfig, known: int) -> None:
    """Print the table, with sources held out in turn also a matrix per combination. known: labelled training images."""

    def combinations(part: pd.DataFrame) -> list[list[dict[str, Any]]]:
        return [own.to_dict("records") for _, own in part.groupby(["how", "labels", "init"], sort=False)]  # type: ignore

    parts, matrices, metrics = [("", False, combinations(table))], list[Any](), table["metric"].unique()
    if "tested_on" in table:
        parts = [("mean over sources trained on", False, combinations(means(table, ALL))),
                 ("mean over sources not trained on", True, combinations(means(table, OTHERS)))]  # fmt: skip
        matrices = combinations(table[(table["metric"] == metrics[0]) & (table["tested_on"] != MEAN)])
    names = [metric.replace("_", " ") for metric in metrics]
    said = {"parts": parts, "matrices": matrices, "names": names}
    print_template("compared.txt", **said, config=config, known=known, all_but=all_but)
