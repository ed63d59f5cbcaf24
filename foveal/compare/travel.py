"""Leave one source out: train on the other sources and test on each, beside training on all of them.

    foveal compare APTOS MALAYSIA MESSIDOR --hold-out source --out OUT

    OUT/compare.csv   a row per starting weights, way, share of labels, trained_on, tested_on and metric
    OUT/travel.svg    the matrices: trained on (rows) by tested on (columns)

Every combination is judged on the same images of a source: its test part, or all with --folds. trained_on is "all" or
"all but X". The rows tested on "mean" have the mean over the sources that were held out in turn, each counting alike,
of "all" and of "all but the tested one". `difference` is that from the first starting weights; `gap` is that from
training on all sources, on the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pandas as pd

from foveal.compare.cells import Cell, Sides, taught
from foveal.compare.options import CompareConfig
from foveal.compare.tables import Figure, Judge, said, title_of
from foveal.console import say, show_table
from foveal.errors import FovealError
from foveal.evaluate.travel import ALL, MEAN, OTHERS, all_but
from foveal.page.words import counted, value_with_interval
from foveal.sets.held_out import check_sources, sources_of
from foveal.sets.leaks import TAUGHT, find_seen, refuse_seen
from foveal.sets.records import PreparedSet

EACH = "source"  # --hold-out source: every source with labels in turn


def sources_held_out(config: CompareConfig, prepared: PreparedSet, sides: Sequence[Sides]) -> list[str]:
    """The sources to hold out in turn; FovealError where one cannot be held out, or nothing is left to train on."""
    if not config.hold_out:
        return []
    labelled = list(dict.fromkeys(prepared.part("train", "val", "test")["source"]))
    names = labelled if config.hold_out == (EACH,) else list(config.hold_out)
    for name in names:
        check_sources(prepared, [name])
    if len(labelled) < 2:
        what = f"{prepared.path} has labels from one source only, {', '.join(labelled) or 'none'}"
        raise FovealError("source.single", what, fix="give prepared sets with labels from several sources")
    judged = set(pd.concat([test for _, test in sides])["source"])
    if without := [name for name in names if name not in judged]:
        what = f"--hold-out {without[0]}: no image of this source is in the part that is judged"
        raise FovealError("set.missing_part", what, fix="prepare it with --test, or use --folds")
    for name in names:
        left = [known[known["source"] != name]["label"].nunique() for known, _ in sides]
        if min(left) < 2:
            what = f"without {name}, the training images are of {counted(min(left), 'class')}"
            raise FovealError("set.too_few_classes", what, expected="at least 2 classes")
    return names


def refuse_grades_of(prepared: PreparedSet, names: Sequence[str], init: str, seen: pd.DataFrame, allow: bool) -> None:
    """FovealError if starting weights learned from grades of a source held out; print if they saw its photographs.

    Pre-training without grades may use photographs of all sources: what that brings is a question of its own.
    """
    for name in names:
        own = prepared.records[prepared.records["source"] == name]
        labelled, where = own[own["split"] != "unlabelled"], f"the grades that {init} has learned"
        refuse_seen(prepared, seen[seen["taught"] == TAUGHT], where, allow, records=labelled)
        if shown := len(find_seen(prepared, own[own["split"].isin(("train", "unlabelled"))], seen)):
            say(f"{init} has seen {counted(shown, 'photograph')} of {name}, without their grades")


def tabulate_travel(judge: Judge, sides: Sequence[Sides], cells: Sequence[Cell], names: Sequence[str]) -> pd.DataFrame:
    """The table in compare.csv: a row per starting weights, way, labels, trained_on, tested_on and metric.

    names: the sources held out in turn. Differences and gaps are empty where there is nothing to compare with.
    """
    rows: list[dict[str, Any]] = []
    ways = dict.fromkeys((cell.how, cell.labels) for cell in cells)
    for (how, labels), name in product(ways, judge.names):
        own = [cell for cell in cells if (cell.how, cell.labels) == (how, labels)]
        baseline: dict[tuple[str, str], Figure] = {}
        for init in judge.config.init:
            figures = _figures(judge, name, [cell for cell in own if cell.init == init], names)
            for (trained, tested), figure in figures.items():
                row = {"init": init, "how": how, "labels": labels, "share": own[0].share}
                row |= {"learned": _learned(judge, sides, own, trained), "trained_on": trained, "tested_on": tested}
                row |= {"metric": name, **figure.columns}
                first = baseline.setdefault((trained, tested), figure)
                if init != judge.config.init[0]:
                    row |= figure.minus(first, "difference", "answer")
                if trained != ALL:
                    row |= figure.minus(figures[ALL, tested], "gap", "gap_answer")
                rows.append(row)
    return pd.DataFrame(rows)


def _figures(judge: Judge, name: str, cells: Sequence[Cell], names: Sequence[str]) -> dict[tuple[str, str], Figure]:
    """(trained on, tested on) -> the figure of one metric, for the cells of one way, share and starting weights."""
    there = [source for source in sources_of(judge.prepared) if source in set(judge.sources)]
    found: dict[tuple[str, str], Figure] = {}
    for without in ("", *names):
        tables = judge.tables([cell for cell in cells if cell.without == without])
        found |= {(all_but(without), source): judge.figure(name, tables, source) for source in there}
    found[ALL, MEAN] = judge.mean([found[ALL, source] for source in names], names)
    found[OTHERS, MEAN] = judge.mean([found[all_but(source), source] for source in names], names)
    return found


def _learned(judge: Judge, sides: Sequence[Sides], cells: Sequence[Cell], trained: str) -> int | None:
    """How many labels the first repetition learns from; None for means over several."""
    own = [cell for cell in cells if all_but(cell.without) == trained]
    return len(taught(sides[0][0], own[0], judge.config.seed)) if own else None


def means(table: pd.DataFrame, trained: str) -> pd.DataFrame:
    """The rows of means over sources, of training on all (`ALL`) or on all but the tested one (`OTHERS`)."""
    return table[(table["tested_on"] == MEAN) & (table["trained_on"] == trained)].reset_index(drop=True)


def show_travel(table: pd.DataFrame, config: CompareConfig, sides: Sequence[Sides]) -> None:
    """Print the means over sources, and a matrix of the first metric for each way, share and starting weights."""
    first = table[table["metric"] == table["metric"].iloc[0]]
    name = str(first["metric"].iloc[0]).replace("_", " ")
    columns = ["mean over sources", name, "unseen minus seen", *[f"minus {config.init[0]}"] * (len(config.init) > 1)]
    show_table(title_of(table, config, sides), columns, list(_mean_rows(first, config)))
    for (how, labels, init), own in first[first["tested_on"] != MEAN].groupby(["how", "labels", "init"], sort=False):
        there = list(dict.fromkeys(own["tested_on"]))
        cells: Any = own.to_dict("records")
        lines = [
            [trained, *(_cell(one) for one in cells if one["trained_on"] == trained)]
            for trained in dict.fromkeys(own["trained_on"])
        ]
        say()
        title = f"{name}: {how}, {labels} of the labels, {init}; rows: trained on, columns: tested on, * not trained on"
        show_table(title, ["", *there], lines)


def _cell(row: dict[str, Any]) -> str:
    unseen = row["trained_on"] == all_but(row["tested_on"])
    return f"{'*' if unseen else ''}{value_with_interval(row, 3)} n={row['images']}"


def _mean_rows(table: pd.DataFrame, config: CompareConfig) -> Iterator[list[str]]:
    """The printed means over sources, seen and unseen; each difference is paired."""
    for (how, labels, init), own in table[table["tested_on"] == MEAN].groupby(["how", "labels", "init"], sort=False):
        for found in own.to_dict("records"):
            row, unseen = _text(found), found["trained_on"] == OTHERS
            name = f"{how}, {labels}, {init}: {'not trained on' if unseen else 'trained on'}"
            against = "baseline" if init == config.init[0] else said(row, "difference", "answer")
            others = [against] * (len(config.init) > 1)
            yield [name, value_with_interval(row, 3), said(row, "gap", "gap_answer") if unseen else "", *others]


def _text(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items()}
