"""pseudolabel: let a grader grade the ungraded, keep what it is sure of, and train again with it; in rounds.

    foveal pseudolabel RUN DATA --out OUT
    foveal pseudolabel RUN DATA POOL --threshold 0.9 --soft --rounds 2 --out OUT

    OUT/round1/pseudo_labels.csv   id, set, sha256, grade, class, target p0 … pK, score, round, model (pseudo.py)
    OUT/round1/grader              a run that learned as RUN did, with these images as well; it labels round 2
    OUT/pseudolabel.json           test part: figures before and after each round, and their paired differences

The test part of DATA is seen by no round: neither it, nor copies of it, nor its patients are labelled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import tyro

from foveal.config import build, read_toml, to_toml
from foveal.console import say, show_table, warn
from foveal.distributed import choose_device
from foveal.evaluate.difference import describe, paired_difference
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import measure
from foveal.files import write_json, write_text
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import read_predictions, units
from foveal.readout.scales import Scale
from foveal.runs import check_out, read_model, sole_writer
from foveal.sets.leaks import pool_of, read_seen, refuse_seen, seen_of, write_seen
from foveal.sets.records import PreparedSet, check_alike, open_prepared
from foveal.train.options import TrainConfig
from foveal.train.pseudo import FILE
from foveal.train.train import train

SHOWN = ("quadratic_kappa", "accuracy", "macro_f1", "referable_auc")


@dataclass(frozen=True, kw_only=True)
class PseudolabelConfig:
    """Options of `foveal pseudolabel`."""

    # Run folder of the first grader; a run of folds labels as an ensemble.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # The set that the run learned from, and further sets; their ungraded images are labelled.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Folder for the labels and graders of all rounds; the same command goes on where it stopped.
    out: Path
    # Least probability of the grade that is given: one for all classes, or one for each.
    threshold: tuple[float, ...] = (0.7,)
    # Take this share of the images given to each class, the surest, in place of a threshold.
    top_share: float | None = None
    # Learn the probabilities; otherwise the grade that is given, as if a person had given it.
    soft: bool = False
    # Take only images on which all folds or members of the grader agree.
    agreement: bool = False
    # Rounds of labelling and training; 0 only labels.
    rounds: int = 1
    # auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("pseudolabel needs the prepared set that the run learned from")
        if not all(0 <= value <= 1 for value in self.threshold):
            raise ValueError(f"--threshold holds probabilities from 0 to 1, got {self.threshold}")
        if self.top_share is not None and not 0 < self.top_share <= 1:
            raise ValueError(f"--top-share is a share above 0 and at most 1, got {self.top_share}")
        if self.top_share is not None and self.threshold != (0.7,):
            raise ValueError("--threshold and --top-share are two ways to choose: give one of them")
        if self.rounds < 0:
            raise ValueError(f"--rounds must be 0 (only label) or more, got {self.rounds}")


def pseudolabel(config: PseudolabelConfig) -> Path:
    """Label, and train again, for some rounds; returns the table of the last round's labels."""
    sets = [open_prepared(path) for path in config.data]
    check_alike(sets, "to learn from them together")
    pool = ungraded(sets, config.run)
    student = student_config(config, sets[0])
    device = choose_device(config.device)
    check_out(config.out, "pseudolabel", config, free=("device", "rounds"))
    with sole_writer(config.out, "pseudolabel"):
        return _rounds(config, sets, pool, student, device)


def _rounds(
    config: PseudolabelConfig, sets: list[PreparedSet], pool: list[tuple[PreparedSet, pd.DataFrame]],
    student: TrainConfig, device: torch.device,
) -> Path:  # fmt: skip
    teacher, runs = config.run, [config.run]
    file = config.out / FILE
    for number in range(1, max(1, config.rounds) + 1):
        folder = config.out / f"round{number}"
        file = folder / FILE
        if not file.is_file():
            say(
                f"\nround {number}: {teacher} grades {sum(len(part) for _, part in pool):,} ungraded images",
                style="bold",
            )
            table = label(config, teacher, pool, number, device)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(config.out / "config.toml", to_toml("pseudolabel", config))
            write_seen(folder, seen_of(pool), read_seen(str(teacher)))
            write_text(file, table.to_csv(index=False, lineterminator="\n"))
        show_labels(file, sets[0].classes)
        if config.rounds:
            # An ensemble of folds has learned from every graded image but the test part's, which alone is compared.
            leaky = student.allow_leaks or bool(student.folds)
            teacher = train(replace(student, out=folder / "grader", pseudo_labels=file, allow_leaks=leaky))
            runs.append(teacher)
    if config.rounds:
        compare_rounds(config.out, runs, sets[0])
    say(f"pseudo-labels: {file}")
    return file


def ungraded(sets: Sequence[PreparedSet], run: Path) -> list[tuple[PreparedSet, pd.DataFrame]]:
    """The ungraded images of each set; ValueError where there are none, or they stand among the judged ones too."""
    pool = []
    for prepared in sets:
        records = pool_of(prepared)
        records = records[records["split"] == "unlabelled"].reset_index(drop=True)
        if len(records):
            pool.append((prepared, records))
        elif prepared is not sets[0]:
            raise ValueError(f"{prepared.path} has no ungraded images: every image in it has a grade of its own")
    if not pool:
        raise ValueError(f"{sets[0].path} has no ungraded images; give a pool of them as well: DATA POOL")
    refuse_seen(sets[0], seen_of(pool), "the images to be labelled", allow=False)
    refuse_seen(sets[0], read_seen(str(run)), f"what {run} has learned from", False, ("test",))
    return pool


def student_config(config: PseudolabelConfig, prepared: PreparedSet) -> TrainConfig:
    """How the run was trained; ValueError where a comparison on its test part could not be honest."""
    if not (config.run / "config.toml").is_file():
        raise ValueError(f"{config.run} is no run folder of `foveal train`: it has no config.toml")
    known = json.loads((config.run / "provenance.json").read_text(encoding="utf-8"))["data"]
    if prepared.card["content_hash"] not in known.values():
        raise ValueError(
            f"{config.run} has not learned from {prepared.path} as it is now, but from {', '.join(known)}; give that "
            "set first, and pools after it"
        )
    options = read_toml(config.run / "config.toml", "train")
    options |= {"data": config.data[0], "out": config.out, "device": config.device}
    student = build(TrainConfig, options, str(config.run / "config.toml"))
    if config.rounds and not len(prepared.part("test")):
        raise ValueError(
            f"{prepared.path} has no test part, so nothing could tell whether the labels helped; prepare it with "
            "--test, or say --rounds 0 to label only"
        )
    model = read_model(config.run)
    if len(config.threshold) not in (1, len(model["classes"])):
        raise ValueError(f"--threshold needs one value, or one for each of {len(model['classes'])} classes")
    if config.agreement and not model.get("members"):
        raise ValueError(f"--agreement: {config.run} is a single grader; train it with --folds to have several")
    return student


def label(
    config: PseudolabelConfig, teacher: Path, pool: Sequence[tuple[PreparedSet, pd.DataFrame]], number: int,
    device: torch.device,
) -> pd.DataFrame:  # fmt: skip
    """The pseudo-labels of one round, surest first in each class; ValueError where no image is sure enough."""
    predictor, tables = Predictor(teacher, device), []
    for prepared, records in pool:
        probabilities, agreed = predictor.answers_of(prepared, records)
        grades = predictor.readout.grades(probabilities)  # as `predict` would give them
        scores = probabilities[np.arange(len(grades)), grades]
        taken = chosen(grades, scores, config) & (agreed if config.agreement else True)
        targets = probabilities if config.soft else np.eye(probabilities.shape[1])[grades]
        table = pd.DataFrame({
            "id": records["id"], "set": str(prepared.path.resolve()), "sha256": records["sha256"], "grade": grades,
            "class": [predictor.classes[grade] for grade in grades],
        })  # fmt: skip
        for k in range(probabilities.shape[1]):
            table[f"p{k}"] = targets[:, k].astype(float).round(6)
        table = table.assign(score=scores.astype(float).round(6), round=number, model=str(teacher))
        tables.append(table[taken])
    found = pd.concat(tables, ignore_index=True)
    if not len(found):
        raise ValueError(
            f"{teacher} is not sure enough of any ungraded image; lower --threshold, or take a --top-share"
        )
    return found.sort_values(["grade", "score", "id"], ascending=[True, False, True], ignore_index=True)


def chosen(grades: np.ndarray, scores: np.ndarray, config: PseudolabelConfig) -> np.ndarray:
    """bool [n]: images whose score reaches the threshold of their class, or is in the top share of it."""
    if config.top_share is None:
        limits = np.asarray(config.threshold)
        reached: np.ndarray = scores >= (limits[grades] if len(limits) > 1 else limits[0])
        return reached
    taken = np.zeros(len(grades), bool)
    for grade in np.unique(grades):
        own = np.flatnonzero(grades == grade)
        best = own[np.argsort(-scores[own], kind="stable")]
        taken[best[: max(1, round(config.top_share * len(own)))]] = True
    return taken


def show_labels(file: Path, classes: list[str]) -> None:
    """How many images each class got, and how sure the grader was of them."""
    table = pd.read_csv(file, usecols=["grade", "score"])
    rows = []
    for number, name in enumerate(classes):
        own = table["score"][table["grade"] == number]
        rows.append([name, f"{len(own):,}", f"{own.min():.2f} – {own.max():.2f}" if len(own) else "–"])
    show_table(f"{len(table):,} pseudo-labels", ["class", "images", "score"], rows)
    empty = [name for number, name in enumerate(classes) if not (table["grade"] == number).any()]
    if empty:
        warn(f"no image was taken for {', '.join(empty)}: training again will know no more of it; see --top-share")


def compare_rounds(out: Path, runs: list[Path], prepared: PreparedSet) -> None:
    """Print and write the figures of the test part before and after each round, and whether they differ."""
    model = read_model(runs[0])
    cut = model["referable_from"]
    scale = Scale(names=model["classes"], ordered=model["task"] == "grading", referable_from=cut)
    tables = [read_predictions(run / "predictions.csv") for run in runs]
    tests = [table[table["split"] == "test"].reset_index(drop=True) for table in tables]
    names = ["before", *(f"round {number}" for number in range(1, len(runs)))]
    found: list[dict[str, Any]] = []
    for name, run, test in zip(names, runs, tests, strict=True):
        figures = measure(test, scale, Resampling(units(test)))["metrics"]
        kept = {metric: figures[metric] for metric in SHOWN if metric in figures}
        difference = None if name == "before" else paired_difference(tests[0], test, referable_from=cut)
        found.append({"name": name, "run": str(run), "metrics": kept, "difference": difference})
    rows = [[row["name"], *map(_cell, row["metrics"].values())] for row in found]
    metrics = [metric.replace("_", " ") for metric in found[0]["metrics"]]
    show_table(f"Test part, {len(tests[0])} images that no round saw (95 % intervals)", ["", *metrics], rows)
    for row in found[1:]:
        say(f"{row['name']} against before: {describe(row['difference'])}")
    write_json(out / "pseudolabel.json", found)


def _cell(entry: dict[str, Any]) -> str:
    interval = "" if entry["low"] is None else f" ({entry['low']:.3f} – {entry['high']:.3f})"
    return f"{entry['value']:.3f}{interval}"
