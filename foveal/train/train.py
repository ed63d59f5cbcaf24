"""train: fine-tune an encoder to grade images, or train a linear probe (--freeze); one grader, or one per fold.

    foveal train DATA --out RUN --init imagenet
    foveal train DATA --out RUN --init PRETRAINED_RUN --freeze
    foveal train DATA --out RUN --init imagenet --folds 5

One grader: the validation part chooses the epoch and fits the readout; the test part is graded once, at the end.
Folds: every training and validation image is graded by the one grader that was not trained on it or its patient.
Together the graders form an ensemble, which grades the test part, if there is one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from foveal.console import say
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.runs import check_out, open_run, sole_writer
from foveal.sets.leaks import read_seen, refuse_seen, seen_of
from foveal.sets.records import PreparedSet, open_prepared
from foveal.train.fit import fit
from foveal.train.folds import folds_of, train_folds
from foveal.train.learned import Learned, learned_from, read_pseudo, teachers_seen
from foveal.train.options import TrainConfig
from foveal.train.outcome import finish, write_start
from foveal.train.task import resolved, set_up, start_from


def train(config: TrainConfig) -> Path:
    """Train a grader, or one for each fold; grade the held-out images; return the run folder."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        what = "train runs in a single process, but WORLD_SIZE is above 1"
        raise FovealError("option.processes", what, fix="start it with `foveal train`")
    device = choose_device(config.device)
    prepared = open_prepared(config.data)
    records = prepared.part("train", "val") if config.folds else prepared.part("train")
    pseudo = read_pseudo(config.pseudo_labels, prepared) if config.pseudo_labels else []
    learned = learned_from(prepared, records, pseudo, config.second)
    if config.batch_size > len(learned):
        expected = f"at most {len(learned)}, the training images"
        raise FovealError("option.value", f"--batch-size is {config.batch_size}", expected=expected)
    if config.patience and not len(prepared.part("val")):
        what = f"--patience {config.patience} needs validation images, but {prepared.path} has none"
        raise FovealError("option.conflict", what, fix="leave out --patience")
    before = pd.concat([read_seen(config.init), teachers_seen(config.pseudo_labels)])
    check_leaks(config, prepared, learned, before)
    if config.folds:
        folds_of(records, config.folds, config.seed)  # refuses too many folds before anything is written
    start = start_from(config.init, config.encoder, config.image_size, prepared)
    check_out(config.out, "train", resolved(config, prepared, start, device))  # before weights are loaded
    task = set_up(config, prepared, device)
    hashes = {str(config.data): prepared.card["content_hash"]}
    with sole_writer(config.out, "train"):
        run = open_run(config.out, "train", task.config, hashes)
        if config.folds:
            train_folds(run, task, learned, before, hashes)
        else:
            write_start(run, task, learned, before)
            best = fit(run, task, learned, prepared.part("val"))
            finish(run, task, prepared.part("val", "test"), best)
        run.close()
    say(f"grader: {run.path}")
    return run.path


def check_leaks(config: TrainConfig, prepared: PreparedSet, learned: Learned, before: pd.DataFrame) -> None:
    """FovealError if images used for evaluation were seen before or are among the training images.

    before: seen.csv of the starting weights and of the graders that assigned pseudo-labels.
    """
    judged = ("train", "val", "test") if config.folds else ("val", "test")
    teachers = [config.init] if config.init not in ("random", "imagenet") else []
    teachers += ["the graders that assigned the pseudo-labels"] if config.pseudo_labels else []
    where = f"the training images of {' and '.join(teachers)}"
    refuse_seen(prepared, before, where, config.allow_leaks, judged)
    own = learned.parts[1:] if config.folds else learned.parts
    if own:
        where = "the pseudo-labelled images" if config.folds else "the training part"
        refuse_seen(prepared, seen_of(own), where, config.allow_leaks, judged)
