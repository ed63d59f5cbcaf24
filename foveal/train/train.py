"""train: learn grades on an encoder, as a fine-tune or, with --freeze, as a linear probe; once, or in folds.

    foveal train DATA --out RUN --init imagenet
    foveal train DATA --out RUN --init PRETRAINED_RUN --freeze
    foveal train DATA --out RUN --init imagenet --folds 5

One grader: the validation part chooses the epoch and fits the readout; the test part is only graded, once, at the end.
Folds: every image of the training and validation parts is graded by the one grader that has not learned from it or its
patient; together the graders are an ensemble, which grades the test part, if there is one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from foveal.console import hushed, say
from foveal.distributed import choose_device
from foveal.losses.grading import LOSSES
from foveal.nets.encoder import create_encoder, feature_size, takes_any_size
from foveal.nets.stages import freeze_stages
from foveal.nets.weights import load_encoder_weights
from foveal.runs import Run, check_out, open_run, sole_writer
from foveal.sets.leaks import TAUGHT, read_seen, refuse_seen, seen_of, write_seen
from foveal.sets.records import PreparedSet, open_prepared
from foveal.train.fit import fit
from foveal.train.folds import finish_folds, folds_of
from foveal.train.learned import Learned, learned_from, warn_of_both
from foveal.train.mistakes import write_held_out
from foveal.train.options import TrainConfig
from foveal.train.outcome import finish, write_model
from foveal.train.pseudo import read_pseudo, teachers_seen
from foveal.train.start import Start, start_from

SMALL_BATCH = 16  # below, the statistics of a batch scatter by more than a quarter of their size


def train(config: TrainConfig) -> Path:
    """Train a grader, or one a fold; grade what it has not learned from; return its run folder."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("train runs in one process; start it with `foveal train`, not under torchrun")
    device = choose_device(config.device)
    prepared = open_prepared(config.data)
    records = prepared.part("train", "val") if config.folds else prepared.part("train")
    pseudo = read_pseudo(config.pseudo_labels, prepared) if config.pseudo_labels else []
    learned = learned_from(prepared, records, pseudo, config.second)
    if config.batch_size > len(learned):
        raise ValueError(f"--batch-size {config.batch_size} is larger than the {len(learned)} training images")
    start = start_from(config.init, config.encoder, config.image_size, prepared)
    config = resolve(config, prepared, start, device)
    warn_of_both(config)
    before = pd.concat([read_seen(config.init), teachers_seen(config.pseudo_labels)])
    held_out = ("train", "val", "test") if config.folds else ("val", "test")
    teachers = [config.init] * (config.init not in ("random", "imagenet")) + [
        "the graders of the pseudo-labels"
    ] * bool(pseudo)
    where = f"what {' and '.join(teachers)} {'have' if pseudo else 'has'} learned from"
    refuse_seen(prepared, before, where, config.allow_leaks, held_out)
    own = learned.parts[1:] if config.folds else learned.parts
    if own:
        what = "the pseudo-labelled images" if config.folds else "the training part"
        refuse_seen(prepared, seen_of(own), what, config.allow_leaks, held_out)
    if config.patience and not len(prepared.part("val")):
        raise ValueError(f"--patience: {prepared.path} has no validation part that could say when to stop")
    check_out(config.out, "train", config)
    features = try_start(config, prepared)
    with sole_writer(config.out, "train"):
        run = open_run(config.out, "train", config, {str(config.data): prepared.card["content_hash"]})
        if config.folds:
            train_folds(run, config, prepared, learned, before, start, features, device)
        else:
            write_start(run, config, prepared, learned, before, start, features)
            best = fit(run, config, prepared, learned, prepared.part("val"), start.spec, device)
            finish(run, config, prepared, prepared.part("val", "test"), best, device)
        run.close()
    say(f"grader: {run.path}")
    return run.path


def train_folds(
    run: Run, config: TrainConfig, prepared: PreparedSet, learned: Learned, before: pd.DataFrame, start: Start,
    features: int, device: torch.device,
) -> None:  # fmt: skip
    """A grader for each fold in RUN/fold1 …, each resumed where it stopped; then what they say together."""
    records = learned.parts[0][1]
    fold_of = folds_of(records, config.folds, config.seed)
    test = prepared.part("test")
    for number in range(config.folds):
        inside, outside = fold_of != number, fold_of == number
        own = replace(config, out=config.out / f"fold{number + 1}", folds=0)
        say(f"\nfold {number + 1} of {config.folds}: {inside.sum():,} images to learn from, {outside.sum():,} held out",
            style="bold")  # fmt: skip
        fold = open_run(own.out, "train", own, {str(config.data): prepared.card["content_hash"]})
        if not (own.out / "predictions.csv").is_file():
            rest = learned.rows(inside)
            write_start(fold, own, prepared, rest, before, start, features)
            # The fold that is held out chooses nothing: the last epoch is kept.
            best = fit(fold, own, prepared, rest, records.iloc[:0], start.spec, device)
            judged = pd.concat([records[outside].assign(split="val"), test])
            plain = replace(own, calibrate=False, thresholds="half-way", coverage=0.0)
            with hushed():  # what a fold says of itself is said of all together
                finish(fold, plain, prepared, judged, best, device)
            write_held_out(own.out, best, prepared.classes)
        else:
            say("done already")
        fold.close()
    write_start(run, config, prepared, learned, before, start, features)
    finish_folds(run, config, prepared, records, fold_of, device)


def write_start(
    run: Run, config: TrainConfig, prepared: PreparedSet, learned: Learned, before: pd.DataFrame, start: Start,
    features: int,
) -> None:  # fmt: skip
    """What is known of a run before it begins: what it learns from, and model.json."""
    write_seen(run.path, seen_of(learned.parts).assign(taught=TAUGHT), before)
    write_model(run, config, prepared, start, learned, features)


def try_start(config: TrainConfig, prepared: PreparedSet) -> int:
    """Load the starting weights and freeze once, before anything is written; returns the number of features."""
    encoder = create_encoder(config.encoder, prepared.channels, config.image_size)
    if config.freeze_stages:
        freeze_stages(encoder, config.freeze_stages)
    load_encoder_weights(encoder, config.encoder, config.init)
    return feature_size(encoder)


def resolve(config: TrainConfig, prepared: PreparedSet, start: Start, device: torch.device) -> TrainConfig:
    """Replace every `auto` that means something by its value; ValueError for choices that do not go together."""
    graded = prepared.card["task"] == "grading"
    views = config.views
    if views == "auto" and not config.freeze:
        views = "mild" if prepared.card["fundus"] else ("digits" if prepared.channels == 1 else "plain")
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    rate = config.learning_rate
    if rate is None:
        rate = 1e-3 if config.freeze or config.init == "random" else 4e-4
    loss = config.loss
    if loss == "auto":
        loss = "ordinal" if graded else "cross_entropy"
    if LOSSES[loss].ordered and not graded:
        raise ValueError(f"--loss {loss} needs grades in an order, and {prepared.path} holds classes without one")
    weights = config.class_weights
    if weights == "auto":
        weights = "none" if LOSSES[loss].ordered or config.sampling != "natural" else "balanced"
    norm = config.batch_norm
    if norm == "auto" and not config.freeze:
        small = (config.micro_batch or config.batch_size) < SMALL_BATCH
        # Running statistics trail behind the weights: in short runs a grader that is judged by them is far poorer.
        norm = "freeze" if small and config.init != "random" else "re-estimate"
    select = config.select_on
    if select == "auto" and not config.folds:
        select = "kappa" if graded else "accuracy"
    thresholds = config.thresholds
    if thresholds == "auto":
        thresholds = "fitted" if LOSSES[loss].form == "regression" else "half-way"
    if thresholds == "fitted" and LOSSES[loss].decision == "most_probable":
        raise ValueError(f"--thresholds fitted cuts an expected grade; with --loss {loss} the likeliest class is taken")
    if select == "kappa" and not graded:
        raise ValueError(f"--select-on kappa needs grades in an order, and {prepared.path} holds classes without one")
    if config.grow_from > start.spec.image_size:
        raise ValueError(f"--grow-from {config.grow_from} is larger than --image-size {start.spec.image_size}")
    if config.grow_from and not takes_any_size(start.encoder):
        raise ValueError(f"--grow-from: {start.encoder} is built for one image size; leave it out")
    return replace(
        config, encoder=start.encoder, views=views, precision=precision, learning_rate=rate, loss=loss,
        image_size=start.spec.image_size, class_weights=weights, batch_norm=norm, select_on=select,
        thresholds=thresholds,
    )  # fmt: skip
