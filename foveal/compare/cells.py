"""One combination of a comparison: starting weights, a way of learning, a label fraction and a seed -> predictions."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.compare.options import CompareConfig, epochs_for
from foveal.compare.probe import PENALTIES
from foveal.console import hushed, say
from foveal.files import write_text
from foveal.nets.probes import LogisticRegression
from foveal.predict.features import encode
from foveal.predict.predictor import Predictor
from foveal.runs import Run
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet
from foveal.train.fit import fit
from foveal.train.folds import folds_of
from foveal.train.learned import learned_from
from foveal.train.options import TrainConfig
from foveal.train.outcome import write_model
from foveal.train.start import frozen_encoder, start_from
from foveal.train.train import resolve, try_start

INNER_FOLDS = 5  # of the known labels, to choose the penalty of a probe
FEWEST_FOR_CHOICE = 25  # labels; with fewer the penalty is the middle one
MIDDLE = PENALTIES[2]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A combination; `share` of the known labels is learned from."""

    init: str
    how: str
    labels: str
    share: float
    repetition: int

    @property
    def network(self) -> int:
        """Which first weights: random ones are drawn anew in each repetition."""
        return self.repetition if self.init == "random" else 0

    def file(self, config: CompareConfig) -> Path:
        """Where its predictions are."""
        name = f"{self.how}-{self.labels.replace('%', 'pc')}-{_name(self.init)}-{self.repetition}"
        return config.out / "cells" / f"{name}.csv"


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Records that may be learned from, and records that are judged."""

    known: pd.DataFrame
    judged: pd.DataFrame


def repetitions(prepared: PreparedSet, folds: int, seeds: int, seed: int) -> list[Sides]:
    """Both sides of each repetition: the training and the test (or validation) part, or the folds of all labels."""
    if not folds:
        known = prepared.part("train")
        judged = prepared.part("test") if len(prepared.part("test")) else prepared.part("val")
        if not len(known) or not len(judged):
            raise ValueError(
                f"{prepared.path}: a comparison needs graded training images, and a test or validation part; or --folds"
            )
        return [Sides(known=known, judged=judged)] * seeds
    everyone = prepared.part("train", "val", "test")
    fold_of = folds_of(everyone, folds, seed)
    return [Sides(known=everyone[fold_of != fold], judged=everyone[fold_of == fold]) for fold in range(folds)]


def subset(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool [n]: a share of the images of every class, one at least; smaller shares are parts of larger ones."""
    generator, chosen = np.random.default_rng([seed, 5]), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = generator.permutation(np.flatnonzero(labels == label))
        chosen[own[: max(1, round(share * len(own)))]] = True
    return chosen


def run_cell(config: CompareConfig, cell: Cell, prepared: PreparedSet, device: torch.device) -> None:
    """Learn, grade the judged images, and write their predictions."""
    sides = repetitions(prepared, config.folds, config.seeds, config.seed)[cell.repetition]
    seed = config.seed + cell.repetition
    chosen = subset(sides.known["label"].to_numpy(np.int64), cell.share, seed)
    known = sides.known[chosen].reset_index(drop=True)
    learn = _probe if cell.how == "probe" else _finetune
    with hushed():  # what each of many graders says on its way would bury the table
        table, choices = learn(config, cell, prepared, known, sides.judged, device)
    right = float((table["label"] == table["grade"]).mean())
    say(f"{cell.how} from {cell.init}, {len(known)} labels, repetition {cell.repetition + 1}: accuracy {right:.3f} "
        f"({choices})")  # fmt: skip
    write_text(cell.file(config), table.to_csv(index=False, lineterminator="\n"))
    # The predictions are what a comparison needs; hundreds of networks are not kept.
    shutil.rmtree(cell.file(config).with_suffix(""), ignore_errors=True)


def _finetune(
    config: CompareConfig, cell: Cell, prepared: PreparedSet, known: pd.DataFrame, judged: pd.DataFrame,
    device: torch.device,
) -> tuple[pd.DataFrame, str]:  # fmt: skip
    """Predictions of the judged images, and in words what was chosen for these weights and this number of labels."""
    folder = cell.file(config).with_suffix("")
    options = TrainConfig(
        data=config.data, out=folder, init=cell.init, encoder=config.encoder, image_size=config.image_size,
        epochs=epochs_for(config, cell.share), batch_size=min(config.batch_size, len(known)), device=str(device),
        learning_rate=config.learning_rate, seed=config.seed + cell.repetition,
    )  # fmt: skip
    start = start_from(cell.init, config.encoder, config.image_size, prepared)
    options = resolve(options, prepared, start, device)
    learned = learned_from(prepared, known, [], None)
    folder.mkdir(exist_ok=True)
    run = Run(folder)
    write_model(run, options, prepared, start, learned, try_start(options, prepared))
    fit(run, options, prepared, learned, known.iloc[:0], start.spec, device)
    choices = f"{options.epochs} epochs at {options.learning_rate:.3g}, batches of {options.batch_size}"
    if options.batch_norm != "re-estimate":
        choices += f", batch norm: {options.batch_norm}"
    return Predictor(folder, device).predict_prepared(prepared, judged), choices


def _probe(
    config: CompareConfig, cell: Cell, prepared: PreparedSet, known: pd.DataFrame, judged: pd.DataFrame,
    device: torch.device,
) -> tuple[pd.DataFrame, str]:  # fmt: skip
    """Predictions of the judged images, and in words the penalty that the known labels chose."""
    names, features = features_of(config, cell.init, cell.network, prepared, device)
    place = pd.Series(range(len(names)), index=names)
    rows = [place.loc[records["id"]].to_numpy(copy=True) for records in (known, judged)]
    inside, asked = (torch.from_numpy(features[chosen]).to(device) for chosen in rows)
    labels = torch.tensor(known["label"].to_numpy(np.int64), device=device)
    classes = len(prepared.classes)
    penalty = _penalty(inside, labels, classes, config.seed + cell.repetition)
    logits = LogisticRegression(inside, labels, classes).fit(penalty).logits(asked)
    probabilities = logits.softmax(1).cpu().numpy().astype(float)
    table = pd.DataFrame({"id": judged["id"].to_numpy(), "label": judged["label"].to_numpy()})
    for k in range(classes):
        table[f"p{k}"] = probabilities[:, k].round(6)
    table = table.assign(
        grade=probabilities.argmax(1), referable="", group=judged["group"].to_numpy(), split=judged["split"].to_numpy()
    )
    return table, f"penalty {penalty:.3g}"


def _penalty(features: Tensor, labels: Tensor, classes: int, seed: int) -> float:
    """The penalty with the most right answers in inner folds of the known labels."""
    if len(labels) < FEWEST_FOR_CHOICE:
        return MIDDLE
    part = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device) % INNER_FOLDS
    right = np.zeros(len(PENALTIES))
    for fold in range(INNER_FOLDS):
        own = part == fold
        regression = LogisticRegression(features[~own], labels[~own], classes)
        for number, penalty in enumerate(PENALTIES):
            right[number] += int((regression.fit(penalty).logits(features[own]).argmax(1) == labels[own]).sum())
    return PENALTIES[int(right.argmax())]


def features_of(
    config: CompareConfig, init: str, network: int, prepared: PreparedSet, device: torch.device
) -> tuple[list[str], np.ndarray]:
    """Ids and features [n, D] of all graded images by an encoder, computed once and kept in OUT/features."""
    file = config.out / "features" / f"{_name(init)}-{network}.npz"
    if not file.is_file():
        start = start_from(init, config.encoder, config.image_size, prepared)
        encoder = frozen_encoder(init, start, prepared, config.seed + network, device)
        records = prepared.part("train", "val", "test")
        found = encode(encoder, ImageStore([(prepared, records)]), start.spec, device).cpu().numpy()
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, ids=records["id"].to_numpy(str), features=found)
        partial.replace(file)
    with np.load(file) as kept:
        return list(kept["ids"]), kept["features"]


def _name(init: str) -> str:
    """A file name for starting weights: their own, and for paths a mark of where they are."""
    if init in ("random", "imagenet"):
        return init
    return f"{Path(init).stem}-{hashlib.sha256(str(Path(init).resolve()).encode()).hexdigest()[:6]}"
