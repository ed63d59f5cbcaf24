"""compare: did the pre-training help? Starting weights x (probe, fine-tune) x label fractions x seeds, in one table.

    foveal compare DATA --init random imagenet RUN --labels 1% 10% 100% --out OUT

    OUT/cells/*.csv     held-out predictions of each combination; run the same command again to resume
    OUT/features/*.npz  features of a frozen encoder, computed once
    OUT/compare.csv     a row per combination and metric: mean over seeds, interval, paired difference from the first
    OUT/compare.png     label-efficiency curves

All starting weights use the same image size. Larger label fractions contain the smaller ones. A fraction uses only its
own labels, also to choose a penalty. The held-out images are the test part or, with --folds, every labelled image in
turn (joined into one table); nothing is chosen on them.

The interval of a mean over seeds covers two sources of chance: each resample draws groups of held-out images, and
seeds. A difference uses the same draws on both sides. With only a few seeds, intervals understate how much results vary
between seeds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from foveal.compare.cells import Cell, Sides, common_size, features_of, repetitions, run_cell, subset, task_of
from foveal.compare.options import CompareConfig, share_of
from foveal.compare.probe import metrics_of
from foveal.config import to_toml
from foveal.console import progress_bar, say, show_table
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.evaluate.curves import roc_area
from foveal.evaluate.difference import answer
from foveal.evaluate.intervals import RESAMPLES, Resampling
from foveal.evaluate.operating import severity
from foveal.files import read_json, replacing, write_json, write_table, write_text
from foveal.page.words import counted, difference_with_interval, number, value_with_interval
from foveal.readout.predictions import read_predictions
from foveal.readout.scales import referable_from
from foveal.runs import check_out, open_run, record_weights, sole_writer
from foveal.sets.leaks import TAUGHT, read_seen, refuse_seen
from foveal.sets.records import PreparedSet, open_prepared
from foveal.sets.splits import group_codes

# These options may change when resuming: each combination has its own file, so more can be added later.
FREE = ("init", "how", "labels", "seeds", "device")


def compare(config: CompareConfig) -> pd.DataFrame:
    """Run all combinations that have no predictions yet; write the table and the figure; return the table."""
    prepared = open_prepared(config.data)
    device = choose_device(config.device)
    sides = repetitions(prepared, config)
    weights: dict[str, dict[str, Any]] = {}
    judged = ("train", "val", "test") if config.folds else ("val", "test")
    check_out(config.out, "compare", config, FREE)
    for init in config.init:
        seen = read_seen(init)
        refuse_seen(prepared, seen, f"the training images of {init}", config.allow_leaks, judged)
        if (seen["taught"] == TAUGHT).any() and set(config.labels) != {"100%"} and not config.allow_leaks:
            what = f"--init {init} was trained on grades, so it has seen more labels than a fraction allows"
            raise FovealError("leak.grades", what, fix="use --labels 100%, or --allow-leaks")
        # This also checks, before anything is written, that the weights fit.
        weights[init] = task_of(config, init, prepared, device).weights.record
    with sole_writer(config.out, "compare"):
        return _compare(config, prepared, sides, device, weights)


def _compare(
    config: CompareConfig, prepared: PreparedSet, sides: list[Sides], device: torch.device, weights: dict[str, Any]
) -> pd.DataFrame:
    hashes = {str(config.data): prepared.card["content_hash"]} | {init: hash_of(init) for init in config.init}
    size, about = common_size(config, prepared), config.out / "provenance.json"
    check_size(about, size)
    open_run(config.out, "compare", config, hashes, FREE)
    record_weights(config.out, weights)
    write_json(about, read_json(about) | {"image_size": size})
    write_text(config.out / "config.toml", to_toml("compare", config))  # with the current values of the free options
    for folder in ("cells", "features"):
        (config.out / folder).mkdir(exist_ok=True)
    known = len(sides[0][0])
    cells = [
        Cell(init=init, how=how, labels=labels, share=share_of(labels, known), repetition=repetition)
        for how, labels, init, repetition in product(config.how, config.labels, config.init, range(len(sides)))
    ]
    missing = [cell for cell in cells if not cell.file(config).is_file()]
    say(f"{len(cells)} combinations, {len(cells) - len(missing)} already finished; {known:,} labelled training images")
    for init, network in dict.fromkeys((cell.init, cell.network) for cell in missing if cell.how == "probe"):
        features_of(config, init, network, prepared, device)
    with progress_bar("compare", len(missing), "combinations") as bar:
        for cell in missing:
            run_cell(config, cell, prepared, device)
            bar.advance()
    table = tabulate(config, prepared, sides, cells)
    write_table(config.out / "compare.csv", table)
    show_comparison(table, config, sides)
    with replacing(config.out / "compare.png") as partial:
        draw_curves(table, partial)
    say(f"table: {config.out / 'compare.csv'}; figure: {config.out / 'compare.png'}")
    return table


def hash_of(init: str) -> str:
    """The identity of starting weights: sha256 of their file, or their name (random, imagenet)."""
    file = Path(init) / "encoder.safetensors" if Path(init).is_dir() else Path(init)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else init


def check_size(about: Path, size: int) -> None:
    """FovealError where OUT/provenance.json says that the combinations in OUT were run with another image size."""
    known = read_json(about) if about.is_file() else {}
    before = int(known.get("image_size", known.get("data", {}).get("the image size", size)))  # the latter: version 0.1
    if before != size:
        what = f"the image size of the combinations in {about.parent} is {before} px, with these --init {size} px"
        raise FovealError("run.other_size", what, fix="choose another --out")


def tabulate(
    config: CompareConfig, prepared: PreparedSet, sides: Sequence[Sides], cells: Sequence[Cell]
) -> pd.DataFrame:
    """A row per combination and metric: init, how, labels, learned, metric, value, low, high, seeds, difference, ….

    The last four columns (difference, its interval and an answer in words) are empty for the baseline.
    """
    names = list(metrics_of(prepared))
    if referable_from(prepared.card["scale"]) is not None:
        names.append("referable_auc")
    rows: list[dict[str, Any]] = []
    known = sides[0][0]["label"].to_numpy(np.int64)
    for how, labels in dict.fromkeys((cell.how, cell.labels) for cell in cells):
        own = [cell for cell in cells if (cell.how, cell.labels) == (how, labels)]
        learned = int(subset(known, own[0].share, config.seed).sum())
        tables = {init: _tables(config, own, init) for init in config.init}
        resampling = Resampling(group_codes(tables[config.init[0]][0]["group"]), RESAMPLES, config.seed)
        size = {"images": len(resampling.units), "groups": resampling.groups}
        baseline: dict[str, tuple[float, np.ndarray]] = {}
        for init, name in product(config.init, names):
            found = [_figure(name, table, resampling, prepared) for table in tables[init]]
            values = np.array([value for value, _ in found])
            drawn = np.stack([resamples for _, resamples in found])
            seeds = np.random.default_rng([config.seed, 9]).integers(len(found), size=drawn.shape)
            drawn = np.take_along_axis(drawn, seeds, axis=0).mean(0)  # over drawn seeds
            value, spread = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
            row = {"init": init, "how": how, "labels": labels, "share": own[0].share, "learned": learned}
            row |= {"metric": name, **_entry(value, drawn, resampling), "seeds": len(values), "spread": spread, **size}
            first, first_drawn = baseline.setdefault(name, (value, drawn))
            if init != config.init[0]:
                entry = _entry(value - first, drawn - first_drawn, resampling)
                row |= {"difference": entry["value"], "difference_low": entry["low"]}
                row |= {"difference_high": entry["high"], "answer": answer(entry["low"], entry["high"])}
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


def _figure(name: str, table: pd.DataFrame, resampling: Resampling, prepared: PreparedSet) -> tuple[float, np.ndarray]:
    """The value of a metric, and its resamples [R]."""
    lowest = referable_from(prepared.card["scale"])
    if name == "referable_auc" and lowest is not None:
        return roc_area(*severity(table, lowest), resampling)
    labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
    return resampling.graded(metrics_of(prepared)[name], labels, grades, len(prepared.classes))


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
