"""One cell of a comparison: starting weights, probe or fine-tune, a label fraction and a seed -> predictions."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from foveal.compare.options import EACH, CompareConfig, epochs_for
from foveal.compare.probe import PENALTIES, best_penalty, common_size, judged_part
from foveal.console import hushed, say
from foveal.errors import FovealError
from foveal.files import replacing, write_table
from foveal.nets.probes import logistic_regression
from foveal.page.words import counted
from foveal.predict.features import encode
from foveal.predict.predictor import Predictor
from foveal.runs import Run
from foveal.sets.held_out import check_sources
from foveal.sets.leaks import TAUGHT, find_seen, refuse_seen
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet
from foveal.train.fit import fit
from foveal.train.learned import learned_from
from foveal.train.options import TrainConfig
from foveal.train.outcome import write_model
from foveal.train.task import Task, frozen_encoder, set_up
from foveal.train.train import folds_of

INNER_FOLDS = 5  # of the labels learned from, to choose the penalty of a probe
FEWEST_FOR_CHOICE = 25  # labels; with fewer, the middle penalty is used
BATCH = 32  # images per step of a fine-tune, as in `train`
Sides = tuple[pd.DataFrame, pd.DataFrame]  # records to train on, and held-out records to evaluate on
Told = tuple[pd.DataFrame, str]  # predictions of the held-out records, and what was chosen, in words


@dataclass(frozen=True)
class Cell:
    """One combination; it trains on `share` of the known labels, `without` those of one source ("" = on all)."""

    init: str
    how: str
    labels: str
    share: float
    repetition: int
    without: str = ""

    def file(self, config: CompareConfig) -> Path:
        """File of its predictions."""
        name = f"{self.how}-{self.labels.replace('%', 'pc')}-{_name(self.init)}-{self.repetition}"
        name += f"-without-{_safe(self.without)}" if self.without else ""
        return config.out / "cells" / f"{name}.csv"


def repetitions(prepared: PreparedSet, config: CompareConfig) -> list[Sides]:
    """The sides of each repetition: the training and the test (or validation) part, or folds of all labelled images."""
    if config.folds:
        everyone = prepared.part("train", "val", "test")
        fold_of = folds_of(everyone, config.folds, config.seed)
        return [(everyone[fold_of != fold], everyone[fold_of == fold]) for fold in range(config.folds)]
    return [(prepared.part("train"), prepared.part(judged_part(prepared)))] * config.seeds


def sources_held_out(config: CompareConfig, prepared: PreparedSet, sides: Sequence[Sides]) -> list[str]:
    """The sources to hold out in turn; FovealError if one cannot be held out, or nothing is left to train on."""
    if not config.hold_out:
        return []
    labelled = list(dict.fromkeys(prepared.part("train", "val", "test")["source"]))
    names = labelled if config.hold_out == (EACH,) else list(config.hold_out)
    judged = set(pd.concat([test for _, test in sides])["source"])
    for name in names:
        check_sources(prepared, [name])
        if name not in judged:
            what = f"--hold-out {name}: no image of this source is in the evaluated part"
            raise FovealError("set.missing_part", what, fix="prepare it with --test, or use --folds")
        left = [known[known["source"] != name]["label"].nunique() for known, _ in sides]
        if min(left) < 2:
            what = f"without {name}, the training images are of {counted(min(left), 'class')}"
            raise FovealError("set.too_few_classes", what, expected="at least 2 classes")
    return names


def refuse_grades_of(prepared: PreparedSet, names: Sequence[str], init: str, seen: pd.DataFrame, allow: bool) -> None:
    """FovealError if starting weights learned from grades of a source held out; print if they saw its photographs."""
    for name in names:
        own = prepared.records[prepared.records["source"] == name]
        labelled, where = own[own["split"] != "unlabelled"], f"the grades that {init} has learned"
        refuse_seen(prepared, seen[seen["taught"] == TAUGHT], where, allow, records=labelled)
        if shown := len(find_seen(prepared, own[own["split"].isin(("train", "unlabelled"))], seen)):
            say(f"{init} has seen {counted(shown, 'photograph')} of {name}, without their grades")


def task_of(config: CompareConfig, init: str, prepared: PreparedSet, device: torch.device, **options: Any) -> Task:
    """The task of fine-tuning these starting weights; FovealError if they do not fit."""
    options = {"out": config.out, "encoder": config.encoder, "device": str(device), **options}
    size = common_size(config.init, prepared)
    return set_up(TrainConfig(data=(prepared.path,), init=init, image_size=size, **options), prepared, device)


def subset(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool [n]: select a share of the images of every class, at least one; larger shares contain the smaller ones."""
    generator, chosen = np.random.default_rng([seed, 5]), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = generator.permutation(np.flatnonzero(labels == label))
        chosen[own[: max(1, round(share * len(own)))]] = True
    return chosen


def taught(known: pd.DataFrame, cell: Cell, seed: int) -> pd.DataFrame:
    """The records of the training side whose labels a combination learns from."""
    # The share is drawn from all sources: training without one differs from training on all in that source alone.
    chosen = subset(known["label"].to_numpy(np.int64), cell.share, seed + cell.repetition)
    return known[chosen & (known["source"] != cell.without).to_numpy()].reset_index(drop=True)


def run_cell(config: CompareConfig, cell: Cell, prepared: PreparedSet, device: torch.device) -> None:
    """Train, grade the held-out images, and write their predictions."""
    known, judged = repetitions(prepared, config)[cell.repetition]
    known, learn = taught(known, cell, config.seed), _probe if cell.how == "probe" else _finetune
    with hushed():  # messages of many graders would hide the table
        table, choices = learn(config, cell, prepared, (known, judged), device)
    right, without = (table["label"] == table["grade"]).mean(), f" without {cell.without}" if cell.without else ""
    repetition = f"{len(known)} labels{without}, repetition {cell.repetition + 1}"
    say(f"{cell.how} from {cell.init}, {repetition}: accuracy {right:.3f} ({choices})")
    shutil.rmtree(cell.file(config).with_suffix(""), ignore_errors=True)  # the networks: only predictions are needed
    write_table(cell.file(config), table)


def _finetune(config: CompareConfig, cell: Cell, prepared: PreparedSet, sides: Sides, device: torch.device) -> Told:
    (known, judged), folder = sides, cell.file(config).with_suffix("")
    batch, epochs, seed = min(BATCH, len(known)), epochs_for(config, cell.share), config.seed + cell.repetition
    task = task_of(config, cell.init, prepared, device, out=folder, batch_size=batch, epochs=epochs, seed=seed)
    folder.mkdir(exist_ok=True)
    run, learned = Run(folder), learned_from(prepared, known)
    write_model(run, task, learned)
    fit(run, task, learned, known.iloc[:0])
    norm = "" if task.config.batch_norm == "re-estimate" else f", batch norm: {task.config.batch_norm}"
    choices = f"{epochs} epochs at {task.config.learning_rate:.3g}, batches of {batch}{norm}"
    return Predictor(folder, device).predict_prepared(prepared, judged), choices


def _probe(config: CompareConfig, cell: Cell, prepared: PreparedSet, sides: Sides, device: torch.device) -> Told:
    known, judged = sides
    ids, features = features_of(config, cell, prepared, device)
    rows = [ids.get_indexer(pd.Index(part["id"])) for part in sides]
    inside, asked = (torch.from_numpy(features[chosen]).to(device) for chosen in rows)
    labels = torch.tensor(known["label"].to_numpy(np.int64), device=device)
    classes, penalty = len(prepared.classes), PENALTIES[len(PENALTIES) // 2]
    if len(labels) >= FEWEST_FOR_CHOICE:
        generator = torch.Generator().manual_seed(config.seed + cell.repetition)
        part = torch.randperm(len(labels), generator=generator).to(device) % INNER_FOLDS
        penalty = best_penalty(inside, labels, classes, [part == fold for fold in range(INNER_FOLDS)])
    (found,) = logistic_regression(inside, labels, asked, classes, [penalty])
    probabilities = found.numpy().astype(float)
    judged = judged.reset_index(drop=True)
    table = judged[["id", "label"]].join(pd.DataFrame(probabilities.round(6)).add_prefix("p"))
    table = table.assign(grade=probabilities.argmax(1), referable="").join(judged[["group", "split"]])
    return table, f"penalty {penalty:.3g}"


def features_of(
    config: CompareConfig, cell: Cell, prepared: PreparedSet, device: torch.device
) -> tuple[pd.Index, np.ndarray]:
    """Ids and features [n, D] of all labelled images, computed once and cached in OUT/features."""
    network = cell.repetition if cell.init == "random" else 0  # each repetition draws new random weights
    file = config.out / "features" / f"{_name(cell.init)}-{network}.npz"
    if not file.is_file():
        size = common_size(config.init, prepared)
        encoder, spec = frozen_encoder(cell.init, config.encoder, size, prepared, config.seed + network, device)
        records = prepared.part("train", "val", "test")
        found = encode(encoder, ImageStore([(prepared, records)]), spec, device).cpu().numpy()
        with replacing(file) as partial:
            np.savez(partial, ids=records["id"].to_numpy(str), features=found)
    with np.load(file) as kept:
        return pd.Index(kept["ids"]), kept["features"]


def _name(init: str) -> str:
    """A file name for starting weights: their own name and, for paths, a digest of the path."""
    if init in ("random", "imagenet"):
        return init
    return f"{Path(init).stem}-{hashlib.sha256(str(Path(init).resolve()).encode()).hexdigest()[:6]}"


def _safe(source: str) -> str:
    """A file name for a source: its name and, if that has other signs than letters and digits, a digest."""
    plain = re.sub(r"[^\w-]+", "-", source)
    return plain if plain == source else f"{plain}-{hashlib.sha256(source.encode()).hexdigest()[:6]}"
