"""compare: did the pre-training help? Starting weights x (probe, fine-tune) x label fractions x seeds, in one table.

    foveal compare DATA --init random imagenet RUN --labels 1% 10% 100% --out OUT

    OUT/cells/*.csv     predictions of the judged images by each combination; the same command goes on where it stopped
    OUT/features/*.npz  features of a frozen encoder, computed once
    OUT/compare.csv     a row per combination and figure: mean over seeds, interval, paired difference from the first
    OUT/compare.png     label-efficiency curves

Smaller label fractions are parts of larger ones. Only the labels of a fraction are used, for all choices too; nothing
is chosen on the images that are judged: the test part, or with --folds every graded image, by what did not learn it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from foveal.compare.cells import Cell, Sides, features_of, repetitions, run_cell
from foveal.compare.efficiency import draw_curves, show_comparison, tabulate
from foveal.compare.options import CompareConfig, share_of
from foveal.config import to_toml
from foveal.console import progress_bar, say, warn
from foveal.distributed import choose_device
from foveal.files import write_text
from foveal.runs import check_out, open_run, sole_writer
from foveal.sets.leaks import TAUGHT, read_seen, refuse_seen
from foveal.sets.records import PreparedSet, open_prepared
from foveal.train.options import TrainConfig
from foveal.train.start import start_from
from foveal.train.train import try_start

# Combinations are files of their own: more of them can be asked for later, and elsewhere.
FREE = ("init", "how", "labels", "seeds", "devices", "resamples")


def compare(config: CompareConfig) -> pd.DataFrame:
    """Run all combinations that have no predictions yet, and write the table and the figure; returns the table."""
    prepared = open_prepared(config.data)
    sides = repetitions(prepared, config.folds, config.seeds, config.seed)
    judged = ("train", "val", "test") if config.folds else ("val", "test")
    for init in config.init:
        refuse_seen(prepared, read_seen(init), f"what {init} has learned from", config.allow_leaks, judged)
    choose_device(config.devices[0])
    refuse_taught(config)
    hashes = {str(config.data): prepared.card["content_hash"]} | {init: hash_of(init) for init in config.init}
    check_out(config.out, "compare", config, FREE)
    sizes = {}
    for init in config.init:
        start = start_from(init, config.encoder, config.image_size, prepared)
        sizes[init] = start.spec.image_size
        try_start(TrainConfig(data=config.data, out=config.out, init=init, encoder=start.encoder,
                              image_size=start.spec.image_size), prepared)  # fmt: skip
    if len(set(sizes.values())) > 1:
        seen = ", ".join(f"{init} {size} px" for init, size in sizes.items())
        warn(f"the starting weights see images of different sizes ({seen}): --image-size gives all of them one")
    with sole_writer(config.out, "compare"):
        return _compare(config, prepared, sides, hashes)


def _compare(config: CompareConfig, prepared: PreparedSet, sides: list[Sides], hashes: dict[str, str]) -> pd.DataFrame:
    open_run(config.out, "compare", config, hashes, FREE)
    write_text(config.out / "config.toml", to_toml("compare", config))  # with what is new of the free options
    for folder in ("cells", "features"):
        (config.out / folder).mkdir(exist_ok=True)
    known = len(sides[0].known)
    cells = [
        Cell(init=init, how=how, labels=said, share=share_of(said, known), repetition=repetition)
        for how, said, init, repetition in product(config.how, config.labels, config.init, range(config.repetitions))
    ]
    missing = [cell for cell in cells if not cell.file(config).is_file()]
    say(f"{len(cells)} combinations, {len(cells) - len(missing)} of them done; {known:,} graded images to learn from")
    for init, network in dict.fromkeys((cell.init, cell.network) for cell in missing if cell.how == "probe"):
        features_of(config, init, network, prepared, choose_device(config.devices[0]))
    run_all(config, prepared, missing)
    table = tabulate(config, prepared, sides, cells)
    write_text(config.out / "compare.csv", table.to_csv(index=False, lineterminator="\n"))
    show_comparison(table, config, sides)
    draw_curves(table, config.out / "compare.png")
    say(f"table: {config.out / 'compare.csv'}; figure: {config.out / 'compare.png'}")
    return table


def refuse_taught(config: CompareConfig) -> None:
    """ValueError for weights that have learned from grades, where fewer grades are to be learned from."""
    for init in config.init:
        taught = (read_seen(init)["taught"] == TAUGHT).any()
        if taught and any(said != "100%" for said in config.labels) and not config.allow_leaks:
            raise ValueError(
                f"--init {init} has learned from grades already: with a part of the labels it would know more than it "
                "is given. Compare it with --labels 100% only, or say --allow-leaks"
            )


def hash_of(init: str) -> str:
    """What tells starting weights from others of the same name: sha256 of their file, or the name."""
    file = Path(init) / "encoder.safetensors" if Path(init).is_dir() else Path(init)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else init


def run_all(config: CompareConfig, prepared: PreparedSet, cells: list[Cell]) -> None:
    """Run the cells, one after the other or, with several devices, side by side."""
    with progress_bar("compare", len(cells), "combinations") as bar:
        if len(config.devices) == 1:
            for cell in cells:
                run_cell(config, cell, prepared, choose_device(config.devices[0]))
                bar.advance()
            return
        context = multiprocessing.get_context("spawn")
        devices: Any = context.Queue()
        for name in config.devices:
            devices.put(name)
        threads = max(1, (os.cpu_count() or 1) // len(config.devices))
        with ProcessPoolExecutor(len(config.devices), context, _take_device, (devices, threads)) as pool:
            for done in [pool.submit(_run_here, config, cell) for cell in cells]:
                done.result()
                bar.advance()


_taken: list[torch.device] = []  # by this process, where several work side by side


def _take_device(devices: Any, threads: int) -> None:
    """What a process that has just started takes: one of the devices, and its share of the threads."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _taken.append(choose_device(devices.get()))
    torch.set_num_threads(threads)


def _end_with_parent(parent: int) -> None:
    """A process whose parent was killed must not go on: the same command, given again, would run beside it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run_here(config: CompareConfig, cell: Cell) -> None:
    run_cell(config, cell, open_prepared(config.data), _taken[0])
