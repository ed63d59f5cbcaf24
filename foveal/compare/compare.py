"""compare: did the pre-training help? Starting weights x (probe, fine-tune) x label fractions x seeds, in one table.

    foveal compare DATA --init random imagenet RUN --labels 1% 10% 100% --out OUT

    OUT/cells/*.csv     held-out predictions of each combination; run the same command again to resume
    OUT/features/*.npz  features of a frozen encoder, computed once
    OUT/compare.csv     a row per combination and metric: mean over seeds, interval, paired difference from the first
    OUT/compare.png     label-efficiency curves

All starting weights use the same image size. Larger label fractions contain the smaller ones. A fraction uses only its
own labels, also to choose a penalty. The held-out images are the test part or, with --folds, every labelled image in
turn; nothing is chosen on them.
"""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from foveal.compare.cells import Cell, Sides, common_size, features_of, repetitions, run_cell, task_of
from foveal.compare.efficiency import draw_curves, show_comparison, tabulate
from foveal.compare.options import CompareConfig, share_of
from foveal.config import to_toml
from foveal.console import progress_bar, say
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.files import read_json, replacing, write_json, write_table, write_text
from foveal.runs import check_out, open_run, sole_writer
from foveal.sets.leaks import TAUGHT, read_seen, refuse_seen
from foveal.sets.records import PreparedSet, open_prepared

# These options may change when resuming: each combination has its own file, so more can be added later.
FREE = ("init", "how", "labels", "seeds", "device")


def compare(config: CompareConfig) -> pd.DataFrame:
    """Run all combinations that have no predictions yet; write the table and the figure; return the table."""
    prepared = open_prepared(config.data)
    device = choose_device(config.device)
    sides = repetitions(prepared, config)
    judged = ("train", "val", "test") if config.folds else ("val", "test")
    check_out(config.out, "compare", config, FREE)
    for init in config.init:
        refuse_seen(prepared, read_seen(init), f"the training images of {init}", config.allow_leaks, judged)
        refuse_taught(config, init)
        task_of(config, init, prepared, device)  # check that the weights fit before anything is written
    with sole_writer(config.out, "compare"):
        return _compare(config, prepared, sides, device)


def _compare(config: CompareConfig, prepared: PreparedSet, sides: list[Sides], device: torch.device) -> pd.DataFrame:
    hashes = {str(config.data): prepared.card["content_hash"]} | {init: hash_of(init) for init in config.init}
    open_run(config.out, "compare", config, hashes, FREE)
    keep_size(config.out, common_size(config, prepared))
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


def refuse_taught(config: CompareConfig, init: str) -> None:
    """FovealError if the weights were trained on grades, but the comparison allows only a fraction of the grades."""
    taught = (read_seen(init)["taught"] == TAUGHT).any()
    if taught and set(config.labels) != {"100%"} and not config.allow_leaks:
        what = f"--init {init} was trained on grades, so it has seen more labels than a fraction allows"
        raise FovealError("leak.grades", what, fix="use --labels 100%, or --allow-leaks")


def hash_of(init: str) -> str:
    """The identity of starting weights: sha256 of their file, or their name (random, imagenet)."""
    file = Path(init) / "encoder.safetensors" if Path(init).is_dir() else Path(init)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else init


def keep_size(out: Path, size: int) -> None:
    """Record the image size in OUT/provenance.json; FovealError where finished combinations have another one."""
    known = read_json(out / "provenance.json")
    before = known.setdefault("image_size", size)
    if before != size:
        what = (
            f"the combinations in {out} were run with an image size of {before} px; with these --init it is {size} px"
        )
        raise FovealError("run.other_size", what, fix="choose another --out")
    write_json(out / "provenance.json", known)
