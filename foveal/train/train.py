"""train: fine-tune an encoder to grade images, or train a linear probe (--freeze); one grader, or one per fold.

One grader: the validation part chooses the epoch and fits the readout; the test part, and sources held out, are graded
once, at the end. Folds: every training and validation image is graded by the one grader that was not trained on it or
its patient; together they form an ensemble, which grades the test part.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from foveal.config import check, read_toml
from foveal.console import hushed, say, show_table
from foveal.distributed import choose_device, decided_by_first, joined, lost_process_explained
from foveal.errors import FovealError
from foveal.files import write_json, write_table
from foveal.page.words import counted
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.readout.referral import check_referral, least_sensitivity
from foveal.readout.scales import referable_from
from foveal.runs import Run, check_out, open_run, read_model, record_weights, sole_writer
from foveal.sets.held_out import hold_out, open_together
from foveal.sets.leaks import read_seen, refuse_seen, seen_of, write_validation
from foveal.sets.records import PreparedSet
from foveal.sets.splits import group_codes, k_folds
from foveal.train.fit import fit, summarise
from foveal.train.learned import Learned, learned_from, read_pseudo, teachers_seen
from foveal.train.options import TrainConfig
from foveal.train.outcome import FILE, finish, write_errors, write_predictions, write_start
from foveal.train.plan import within_budget
from foveal.train.task import Task, set_up


def train(config: TrainConfig) -> Path:
    """Train a grader, or one for each fold; grade the held-out images; return the run folder."""
    device, world = choose_device(config.device), int(os.environ.get("WORLD_SIZE", "1"))
    check(config, "batch_size", config.batch_size % world == 0, f"a multiple of the {world} processes")
    check(config, "folds", world == 1 or not config.folds, f"0 in {world} processes")
    with joined(device) as (rank, _), lost_process_explained(config.out):
        return _train(config, device, rank)


def _train(config: TrainConfig, device: torch.device, rank: int) -> Path:
    began = time.monotonic()
    path = decided_by_first(lambda: open_together(config.data, config.hold_out).path)
    whole = open_together((path,), config.hold_out)
    config = replace(config, data=(path,))
    prepared, abroad = hold_out(whole, config.hold_out) if config.hold_out else (whole, None)
    records = prepared.part("train", "val") if config.folds else prepared.part("train")
    pseudo = read_pseudo(config.pseudo_labels, prepared) if config.pseudo_labels else []
    learned = learned_from(prepared, records, pseudo, config.second)
    check(config, "batch_size", config.batch_size <= len(learned), f"at most {len(learned)}, the training images")
    if config.patience and not len(prepared.part("val")):
        what = f"--patience {config.patience} needs validation images, but there are none"
        raise FovealError("option.conflict", what, fix="leave out --patience")
    before = pd.concat([read_seen(config.init), teachers_seen(config.pseudo_labels)])
    check_leaks(config, prepared, learned, before)
    if abroad is not None:
        check_abroad(config, whole, abroad, learned, before)
    if config.folds:
        folds_of(records, config.folds, config.seed)  # refuses too many folds before anything is written
    if (least := least_sensitivity(config.refer_at)) is not None:
        judged = records if config.folds else prepared.part("val")
        check_referral(least, referable_from(prepared.card["scale"]), judged["label"].dropna().to_numpy(np.int64))
    config = decided_by_first(lambda: remembered(config))
    task = replace(set_up(config, prepared, device), abroad=abroad)
    if not decided_by_first(lambda: check_out(config.out, "train", task.config)):
        graded = len(task.with_abroad(prepared.part("test") if config.folds else prepared.part("val", "test")))
        task = within_budget(task, learned, len(prepared.part("val")), graded, began)
    if rank:  # it takes part in every step and waits for the validation; what it writes is not kept
        with TemporaryDirectory() as folder:
            fit(Run(Path(folder)), task, learned, prepared.part("val").iloc[:0])
        return config.out
    hashes = {str(prepared.path): prepared.card["content_hash"]}
    with sole_writer(config.out, "train"):
        run = open_run(config.out, "train", task.config, hashes)
        record_weights(run.path, {config.init: task.weights.record})
        if config.folds:
            train_folds(run, task, learned, before, hashes)
        else:
            write_start(run, task, learned, before)
            write_validation(run.path, prepared, prepared.part("val"))
            best = fit(run, task, learned, prepared.part("val"))
            finish(run, task, task.with_abroad(prepared.part("val", "test")), best, learned.parts[0][1])
        run.close()
    say(f"grader: {run.path}")
    return run.path


def remembered(config: TrainConfig) -> TrainConfig:
    """The config with the epochs that --budget allowed when the run in --out began."""
    try:
        saved = read_toml(config.out / "config.toml", "train")
    except FovealError:  # no run yet, or one of another verb, which `check_out` refuses
        return config
    return replace(config, epochs=saved["epochs"]) if config.budget is not None and "budget" in saved else config


def check_leaks(config: TrainConfig, prepared: PreparedSet, learned: Learned, before: pd.DataFrame) -> None:
    """FovealError if images used for evaluation are in `before` (seen already) or among the training images."""
    judged = ("train", "val", "test") if config.folds else ("val", "test")
    teachers = [config.init] if config.init not in ("random", "imagenet") else []
    teachers += ["the graders that assigned the pseudo-labels"] if config.pseudo_labels else []
    refuse_seen(prepared, before, f"the training images of {' and '.join(teachers)}", config.allow_leaks, judged)
    if own := learned.parts[1:] if config.folds else learned.parts:
        where = "the pseudo-labelled images" if config.folds else "the training part"
        refuse_seen(prepared, seen_of(own), where, config.allow_leaks, judged)


def check_abroad(
    config: TrainConfig, whole: PreparedSet, abroad: pd.DataFrame, learned: Learned, before: pd.DataFrame
) -> None:
    """FovealError if images of the sources held out (`abroad`), copies of them or their patients are learned from."""
    for pool, records in learned.parts[1:]:
        if (known := records["source"].isin(config.hold_out)).any():
            what = f"{int(known.sum())} pseudo-labelled images of {pool.path} are from a source that is held out"
            raise FovealError("leak.source", what, fix="make the pseudo-labels again with a grader that held it out")
    prepared, records = learned.parts[0]
    shaping = [(prepared, pd.concat([records, prepared.part("val")]).drop_duplicates("id")), *learned.parts[1:]]
    seen = pd.concat([seen_of(shaping), before])
    refuse_seen(whole, seen, "what the grader learns from", config.allow_leaks, records=abroad)


def folds_of(records: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """int [n]: the fold that holds out each image, with whole groups; FovealError if there are fewer groups."""
    labels, groups = records["label"].to_numpy(np.int64), records["group"].to_numpy()
    if (count := int(group_codes(groups).max()) + 1) < folds:
        raise FovealError("option.value", f"--folds is {folds}", expected=f"at most {count}, the groups of the images")
    return k_folds(labels, groups, folds, np.random.default_rng(seed))


def train_folds(run: Run, task: Task, learned: Learned, before: pd.DataFrame, hashes: dict[str, str]) -> None:
    """Train a grader for each fold in RUN/fold1 …, each to its last epoch, resuming each, then combine them."""
    config, prepared, records = task.config, task.prepared, learned.parts[0][1]
    fold_of, test = folds_of(records, config.folds, config.seed), task.with_abroad(prepared.part("test"))
    for number in range(config.folds):
        inside, outside = fold_of != number, fold_of == number
        counts = f"{counted(int(inside.sum()), 'image')} to train on, {outside.sum():,} held out"
        say(f"\nfold {number + 1} of {config.folds}: {counts}", style="bold")
        own = replace(task, config=replace(config, out=config.out / f"fold{number + 1}", folds=0))
        fold = open_run(own.config.out, "train", own.config, hashes)
        if (fold.path / FILE).is_file():
            say("already finished")
        else:
            rest = learned.rows(inside)
            write_start(fold, own, rest, before)
            best = fit(fold, own, rest, records.iloc[:0])
            # The common readout is fitted later, on the held-out predictions of all folds.
            fixed = "fixed" if config.cutoffs == "fitted" else config.cutoffs
            plain = replace(own.config, calibrate=False, cutoffs=fixed, coverage=0.0, refer_at="grade")
            with hushed():  # metrics of all folds together are shown later
                judged = pd.concat([records[outside].assign(split="val"), test])
                finish(fold, replace(own, config=plain), judged, best, records[inside])
        table = read_predictions(fold.path / FILE).query("split == 'val'")
        true, given = (table[name].to_numpy(np.int64) for name in ("label", "grade"))
        probabilities = table[probability_columns(table)].to_numpy(float)
        write_errors(fold.path, config.epochs, {"val": (table["id"].tolist(), true, given, probabilities)})
        fold.close()
    write_start(run, task, learned, before)
    join_folds(run, task, records, fold_of)


def join_folds(run: Run, task: Task, records: pd.DataFrame, fold_of: np.ndarray) -> None:
    """Write RUN's model.json, readout, folds.csv and predictions: held-out ones, and of test images the ensemble's."""
    names = [f"fold{number + 1}" for number in range(task.config.folds)]
    tables = [read_predictions(run.path / name / FILE) for name in names]
    held_out = pd.concat([table[table["split"] == "val"] for table in tables]).set_index("id").loc[records["id"]]
    raw = held_out[probability_columns(tables[0])].to_numpy(float)
    write_json(run.path / "model.json", read_model(run.path) | {"members": names})
    write_table(run.path / "folds.csv", pd.DataFrame({"id": records["id"], "fold": fold_of + 1}))
    test = task.with_abroad(task.prepared.part("test"))
    predictor = Predictor(run.path, task.device, encoder=task.config.encoder)
    answers = predictor.raw_answers_of(task.prepared, test)
    extra = pd.DataFrame({"fold": [*(fold_of + 1), *[""] * len(test)]})
    if (second := predictor.second_table(answers, task.prepared, test)) is not None:
        extra = extra.join(pd.concat([held_out[second.columns], second], ignore_index=True))
    raw = np.concatenate([raw, answers.probabilities])
    write_predictions(run, task, predictor, pd.concat([records.assign(split="val"), test]), raw, fold_of, extra)
    table, rows = read_predictions(run.path / FILE), []
    for name, part in table[table["split"] == "val"].groupby("fold"):
        labels, grades = (part[column].to_numpy(np.int64) for column in ("label", "grade"))
        figures = summarise("val", labels, grades, len(task.prepared.classes))
        values = [f"{figures[f'val_{metric}']:.3f}" for metric in ("accuracy", "kappa")]
        rows.append([f"fold {name}", f"{len(part):,}", *values])
    show_table("Held-out images of each fold", ("", "images", "accuracy", "quadratic kappa"), rows)
    say(f"out-of-fold predictions of {len(records):,} images: {run.path / FILE}")
    say(f"next: foveal evaluate {run.path}{' --split val' if len(test) else ''}")
