"""pseudolabel: grade unlabelled images, keep the confident grades, and train again with them; in rounds.

OUT/round1/grader is trained like RUN, but also on the images of round1/pseudo_labels.csv (train/learned.py); it assigns
the labels of round 2. pseudolabel.json has metrics on the test part and their paired differences. No round uses the
test part of DATA, copies of its images, or other images of its patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import tyro

from foveal.config import build, check, read_options, to_toml
from foveal.console import say, show_table, warn
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.evaluate.difference import describe, paired_difference
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import measure
from foveal.files import json_ready, read_json, write_json, write_table, write_text
from foveal.page.words import value_with_interval
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import read_predictions
from foveal.readout.scales import Scale
from foveal.runs import check_out, read_model, sole_writer
from foveal.sets.leaks import pool_of, read_seen, refuse_seen, seen_of, write_seen
from foveal.sets.records import PreparedSet, check_alike, open_prepared
from foveal.sets.splits import group_codes
from foveal.train.learned import PSEUDO_LABELS
from foveal.train.options import TrainConfig
from foveal.train.train import train

SHOWN = ("quadratic_kappa", "accuracy", "macro_f1", "referable_auc")
Pool = Sequence[tuple[PreparedSet, pd.DataFrame]]  # sets with their unlabelled records


@dataclass(frozen=True, kw_only=True)
class PseudolabelConfig:
    """Options of `foveal pseudolabel`."""

    # Run folder of the grader that assigns the first labels; folds work as an ensemble.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Prepared sets whose unlabelled images are graded; first the one that the run was trained on.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Folder to write the labels and graders of all rounds to, or to resume.
    out: Path
    # Keep images whose grade has at least this probability: one value for all classes, or one for each.
    threshold: tuple[float, ...] = (0.7,)
    # Instead of a threshold, keep this share of the images of each class, those with the highest probability.
    top_share: float | None = None
    # Train on the probabilities (soft labels) instead of the grade.
    soft: bool = False
    # Rounds of labelling and training; 0 only assigns labels.
    rounds: int = 1
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        share, values = self.top_share, self.threshold
        check(self, "data", bool(self.data), "the prepared set that the run was trained on")
        check(self, "threshold", all(0 <= value <= 1 for value in values), "probabilities between 0 and 1")
        check(self, "top_share", share is None or 0 < share <= 1, "a share above 0 and at most 1")
        check(self, "rounds", self.rounds >= 0, "0 (only assign labels) or more")
        if share is not None and values != (0.7,):
            what = f"--threshold {values} and --top-share {share} cannot be used together"
            raise FovealError("option.conflict", what, fix="leave one of them out")


def pseudolabel(config: PseudolabelConfig) -> Path:
    """Label and train again in rounds; returns the path of the last round's label table."""
    sets = [open_prepared(path) for path in config.data]
    check_alike(sets, "to train on them together")
    pool = ungraded(sets, config.run)
    student = student_config(config, sets[0])
    device = choose_device(config.device)
    # Folds were trained on the validation part too; the comparison uses only the test part.
    student = replace(student, allow_leaks=student.allow_leaks or bool(student.folds))
    runs = [config.run]
    check_out(config.out, "pseudolabel", config, free=("device", "rounds"))
    with sole_writer(config.out, "pseudolabel"):
        for number in range(1, max(1, config.rounds) + 1):
            file = config.out / f"round{number}" / PSEUDO_LABELS
            if not file.is_file():
                images = sum(len(part) for _, part in pool)
                say(f"\nround {number}: {runs[-1]} grades {images:,} unlabelled images", style="bold")
                table = label(config, runs[-1], pool, number, device)
                write_text(config.out / "config.toml", to_toml("pseudolabel", config))
                file.parent.mkdir(exist_ok=True)
                write_seen(file.parent, seen_of(pool), read_seen(str(runs[-1])))
                write_table(file, table)
            show_labels(file, sets[0].classes)
            if config.rounds:
                runs.append(train(replace(student, out=file.parent / "grader", pseudo_labels=file)))
        if config.rounds:
            compare_rounds(config.out, runs)
    say(f"pseudo-labels: {file}")
    return file


def ungraded(sets: Sequence[PreparedSet], run: Path) -> Pool:
    """The unlabelled images of each set, without sources held out; FovealError for none, or for evaluation images."""
    pool, held_out = [], read_model(run).get("held_out", [])
    for prepared in sets:
        records = pool_of(prepared)
        records = records[(records["split"] == "unlabelled") & ~records["source"].isin(held_out)].reset_index(drop=True)
        if len(records):
            pool.append((prepared, records))
        elif prepared is not sets[0] or len(sets) == 1:
            fix = "add a set that has some: DATA POOL" if len(sets) == 1 else "leave it out"
            raise FovealError("set.no_ungraded", f"{prepared.path} has no unlabelled images", fix=fix)
    refuse_seen(sets[0], seen_of(pool), "the images to be labelled", allow=False)
    refuse_seen(sets[0], read_seen(str(run)), f"the training images of {run}", False, ("test",))
    return pool


def student_config(config: PseudolabelConfig, prepared: PreparedSet) -> TrainConfig:
    """The training options of the run; FovealError if its test part does not allow a valid comparison."""
    file, model, classes = config.run / "config.toml", read_model(config.run), len(prepared.classes)
    if model["kind"] != "grader":
        fix = f"train a grader: foveal train DATA --init {config.run}"
        raise FovealError("run.not_a_grader", f"{config.run} is a pre-trained encoder, not a grader", fix=fix)
    if not file.is_file():
        raise FovealError("run.not_a_run", f"{config.run} has no config.toml", expected="a run folder of foveal train")
    known = read_json(config.run / "provenance.json")["data"]
    if prepared.card["content_hash"] not in known.values():
        what = f"{config.run} was trained on {', '.join(known)}, not on the current content of {prepared.path}"
        raise FovealError("run.other_set", what, fix="give the set it was trained on first, then the others")
    if config.rounds and not len(prepared.part("test")):
        what = f"{prepared.path} has no test part to measure whether the labels help"
        raise FovealError("set.missing_part", what, fix="prepare it with --test, or use --rounds 0 to label only")
    check(config, "threshold", len(config.threshold) in (1, classes), f"1 value, or {classes}: one for each class")
    options = {"data": config.data[0], "out": config.out, "device": config.device}
    return build(TrainConfig, read_options(file, "train", TrainConfig) | options, str(file))


def label(config: PseudolabelConfig, teacher: Path, pool: Pool, number: int, device: torch.device) -> pd.DataFrame:
    """The pseudo-labels of one round, the most confident first in each class; FovealError if none is kept."""
    predictor, tables = Predictor(teacher, device), []
    for prepared, records in pool:
        parts = [predictor.probabilities(images) for _, images in predictor.images_of(prepared, records)]
        probabilities = np.concatenate(parts)
        grades = predictor.readout.grades(probabilities)  # as `predict` would give them
        scores = probabilities[np.arange(len(grades)), grades]
        targets = probabilities if config.soft else np.eye(probabilities.shape[1])[grades]
        table = records[["id"]].assign(set=str(prepared.path.resolve()), sha256=records["sha256"], grade=grades)
        table["class"] = np.array(predictor.classes)[grades]
        table = table.join(pd.DataFrame(targets.astype(float).round(6)).add_prefix("p"))
        table = table.assign(score=scores.astype(float).round(6), round=number, model=str(teacher))
        tables.append(table[chosen(grades, scores, config)])
    if not len(found := pd.concat(tables, ignore_index=True)):
        what = f"{teacher} is not confident enough about any unlabelled image"
        raise FovealError("label.none_sure", what, fix="lower --threshold or use --top-share")
    return found.sort_values(["grade", "score", "id"], ascending=[True, False, True], ignore_index=True)


def chosen(grades: np.ndarray, scores: np.ndarray, config: PseudolabelConfig) -> np.ndarray:
    """bool [n]: images whose score reaches the threshold of their class, or is in the top share of the class."""
    if config.top_share is None:
        limits = np.asarray(config.threshold)
        return np.asarray(scores >= (limits[grades] if len(limits) > 1 else limits))
    by_grade = pd.Series(scores).groupby(grades)
    most = (config.top_share * by_grade.transform("size")).round().clip(lower=1)
    return (by_grade.rank(method="first", ascending=False) <= most).to_numpy()


def show_labels(file: Path, classes: list[str]) -> None:
    """Print how many images each class got, and the range of their scores."""
    table = pd.read_csv(file, usecols=["grade", "score"])
    found = table.groupby("grade")["score"].agg(["size", "min", "max"]).itertuples()
    rows = [[classes[grade], f"{size:,}", f"{low:.2f} – {high:.2f}"] for grade, size, low, high in found]
    show_table(f"{len(table):,} pseudo-labels", ["class", "images", "score"], rows)
    if empty := [name for number, name in enumerate(classes) if number not in set(table["grade"])]:
        warn(f"there are no pseudo-labels for {', '.join(empty)}: the next grader learns nothing new about this class")


def compare_rounds(out: Path, runs: list[Path]) -> None:
    """Print and write the metrics on the test part before and after each round, and their differences."""
    model = read_model(runs[0])
    scale = Scale(names=model["classes"], ordered=model["task"] == "grading", referable_from=model["referable_from"])
    tests = [read_predictions(run / "predictions.csv").query("split == 'test'").reset_index(drop=True) for run in runs]
    found: list[dict[str, Any]] = []
    for number, (run, test) in enumerate(zip(runs, tests, strict=True)):
        figures = measure(test, scale, Resampling(group_codes(test["group"])))["metrics"]
        changed = paired_difference(tests[0], test, scale.referable_from) if number else None
        shown = {metric: figures[metric] for metric in SHOWN if metric in figures}
        name = f"round {number}" if number else "before"
        found.append({"name": name, "run": str(run), "metrics": shown, "difference": changed})
    rows = [[row["name"], *(value_with_interval(entry, 3) for entry in row["metrics"].values())] for row in found]
    metrics = [metric.replace("_", " ") for metric in found[0]["metrics"]]
    show_table(f"Test part: {len(tests[0])} held-out images (95 % intervals)", ["", *metrics], rows)
    for row in found[1:]:
        say(f"{row['name']} compared with before: {describe(row['difference'])}")
    write_json(out / "pseudolabel.json", json_ready(found))
