"""compare: did the pre-training help? Starting weights x (probe, fine-tune) x label fractions x seeds, in one table.

OUT/compare.csv has a row per combination and metric: mean over seeds, interval, paired difference from the first. All
starting weights use the same image size. Larger label fractions contain the smaller ones. A fraction uses only its own
labels, also to choose a penalty. The held-out images are the test part or, with --folds, every labelled image in turn;
nothing is chosen on them. With --hold-out, trained_on is "all" or "all but X". The rows tested on "mean" have the mean
over the sources that were held out in turn. `gap` is the difference from training on all sources.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from foveal.compare.cells import Cell, refuse_grades_of, repetitions, run_cell, sources_held_out, task_of
from foveal.compare.options import EACH, CompareConfig, share_of
from foveal.compare.probe import common_size
from foveal.compare.tables import Judge, means, show, tabulate
from foveal.config import to_toml
from foveal.console import progress_bar, say
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.evaluate.columns import OTHERS
from foveal.files import read_json, replacing, sha256_of, write_json, write_table, write_text
from foveal.nets.weights import file_of
from foveal.runs import check_out, open_run, record_weights, sole_writer
from foveal.sets.held_out import open_together
from foveal.sets.leaks import TAUGHT, read_seen, refuse_seen
from foveal.sets.records import PreparedSet

# These options may change when resuming: each combination has its own file, so more can be added later.
FREE = ("init", "how", "labels", "hold_out", "seeds", "device")


def compare(config: CompareConfig) -> pd.DataFrame:
    """Run all combinations that have no predictions yet; write the table and the figure; return the table."""
    prepared = open_together(config.data, [name for name in config.hold_out if name != EACH])
    config = replace(config, data=(prepared.path,))
    device = choose_device(config.device)
    abroad = sources_held_out(config, prepared, repetitions(prepared, config))
    weights: dict[str, dict[str, Any]] = {}
    judged = ("train", "val", "test") if config.folds else ("val", "test")
    check_out(config.out, "compare", config, FREE)
    for init in config.init:
        seen = read_seen(init)
        refuse_seen(prepared, seen, f"the training images of {init}", config.allow_leaks, judged)
        if (seen["taught"] == TAUGHT).any() and set(config.labels) != {"100%"} and not config.allow_leaks:
            what = f"--init {init} was trained on grades, so it has seen more labels than a fraction allows"
            raise FovealError("leak.grades", what, fix="use --labels 100%, or --allow-leaks")
        refuse_grades_of(prepared, abroad, init, seen, config.allow_leaks)
        # This also checks, before anything is written, that the weights fit.
        weights[init] = task_of(config, init, prepared, device).weights.record
    with sole_writer(config.out, "compare"):
        return _compare(config, prepared, abroad, device, weights)


def _compare(
    config: CompareConfig, prepared: PreparedSet, abroad: list[str], device: torch.device, weights: dict[str, Any]
) -> pd.DataFrame:
    sides = repetitions(prepared, config)
    hashes = {str(prepared.path): prepared.card["content_hash"]}
    hashes |= {init: init if init in ("random", "imagenet") else sha256_of(file_of(init)) for init in config.init}
    size, about = common_size(config.init, prepared), config.out / "provenance.json"
    known = read_json(about) if about.is_file() else {}
    before = int(known.get("image_size", known.get("data", {}).get("the image size", size)))  # the latter: version 0.1
    if before != size:
        what = f"the image size of the combinations in {config.out} is {before} px, with these --init {size} px"
        raise FovealError("run.other_size", what, fix="choose another --out")
    open_run(config.out, "compare", config, hashes, FREE)
    record_weights(config.out, weights)
    write_json(about, read_json(about) | {"image_size": size})
    write_text(config.out / "config.toml", to_toml("compare", config))  # with the current values of the free options
    for folder in ("cells", "features"):
        (config.out / folder).mkdir(exist_ok=True)
    images = len(sides[0][0])
    combined = product(config.how, config.labels, config.init, ("", *abroad), range(len(sides)))
    cells = [Cell(init, how, labels, share_of(labels, images), seed, out) for how, labels, init, out, seed in combined]
    missing = [cell for cell in cells if not cell.file(config).is_file()]
    say(f"{len(cells)} combinations, {len(cells) - len(missing)} already finished; {images:,} labelled training images")
    with progress_bar("compare", len(missing), "combinations") as bar:
        for cell in missing:
            run_cell(config, cell, prepared, device)
            bar.advance()
    table = tabulate(Judge(config, prepared, sides), sides, cells, abroad)
    write_table(config.out / "compare.csv", table)
    show(table, config, images)
    curves, judged = (means(table, OTHERS), "mean over sources not trained on") if abroad else (table, "")
    with replacing(config.out / "compare.png") as partial:
        draw_curves(curves, partial, judged)
    say(f"table: {config.out / 'compare.csv'}; figure: {config.out / 'compare.png'}")
    return table


def draw_curves(table: pd.DataFrame, file: Path, judged: str = "") -> None:
    """Label-efficiency curves: the first metric against the share of labels, with a panel for probe and fine-tune."""
    from matplotlib.figure import Figure

    metric = table["metric"].iloc[0]
    table = table[table["metric"] == metric]
    ways, inits = list(table["how"].unique()), list(table["init"].unique())
    figure = Figure(figsize=(1 + 4.5 * len(ways), 4))
    axes = figure.subplots(1, len(ways), sharey=True, squeeze=False)
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
    axes[0][0].set_ylabel(", ".join(filter(None, [metric.replace("_", " "), judged])))
    axes[0][0].legend(frameon=False)
    figure.suptitle("95 % intervals over groups of held-out images and over seeds", fontsize=9)
    figure.tight_layout()
    figure.savefig(file, dpi=150)
