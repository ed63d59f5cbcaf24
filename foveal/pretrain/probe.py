"""A probe while pre-training: what the encoder's features say about labels, without training a network.

Images of the training and validation parts of a labelled set are judged by cross-validation over groups (five folds):
by their nearest neighbours, and by a linear model in closed form. Test images are never touched, and nothing is chosen
by the result: it is a line in a plot, and its first point is the encoder as it was before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.console import say, warn
from foveal.evaluate.intervals import Resampling
from foveal.files import write_text
from foveal.metrics import accuracy, confusion_matrices, quadratic_kappa
from foveal.nets.probes import nearest_neighbours, ridge
from foveal.sets.leaks import TAUGHT, find_seen
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet, differing, open_prepared

FOLDS = 5
MOST_IMAGES = 4000  # a closed form of so many, five times, takes half a minute with 2,048 features on one core


@dataclass(frozen=True)
class Probe:
    """The images, labels and folds of a probe; made once by `open_probe`."""

    store: ImageStore
    labels: np.ndarray  # int [n]
    folds: np.ndarray  # int [n]
    units: np.ndarray  # int [n], group of each image
    classes: int
    ordered: bool

    @property
    def metric(self) -> str:
        """Name of the figure: kappa counts distances, which only ordered classes have."""
        return "quadratic_kappa" if self.ordered else "accuracy"


def open_probe(path: Path, like: PreparedSet, seed: int, seen: pd.DataFrame) -> Probe:
    """The probe of a labelled set; ValueError where it cannot be judged or its images do not fit the pool's.

    seen: what shapes the encoder, with the columns of seen.csv. Images whose label is learned, copies of them and all
    of their group are left out: an encoder that knows their labels repeats them.
    """
    prepared = open_prepared(path)
    if prepared.channels != like.channels:  # its size may differ: the network's input is resized from it
        raise ValueError(
            f"--probe {path} has images with {prepared.channels} channel(s), the pool has {like.channels}; the "
            "encoder takes only those of the pool"
        )
    if unlike := differing(like.card, prepared.card, but=("size",)):
        warn(
            f"{like.path} and {path} of --probe were not prepared alike ({unlike}): the probe judges pictures of "
            "another kind than those learned from"
        )
    records = prepared.part("train", "val")
    records = records[records["label"].notna()]
    generator, owners = np.random.default_rng(seed), records["group"].where(records["group"] != "", records["id"])
    known = find_seen(prepared, records, seen[seen["taught"] == TAUGHT])["id"]
    taught = owners.isin(owners[records["id"].isin(known)])
    left_out = f"; {taught.sum():,} are left out, whose labels the encoder learns from" if taught.any() else ""
    records, owners = records[~taught], owners[~taught]
    names, units = np.unique(owners, return_inverse=True)
    order = generator.permutation(len(names))
    cumulative = np.bincount(units, minlength=len(names))[order].cumsum()
    kept = order[: max(1, int(np.searchsorted(cumulative, MOST_IMAGES, side="right")))]
    chosen = np.isin(units, kept)
    records, units = records[chosen], np.unique(units[chosen], return_inverse=True)[1]
    labels = records["label"].to_numpy(np.int64)
    if len(kept) < FOLDS or len(np.unique(labels)) < 2:
        raise ValueError(
            f"--probe {path}: its training and validation parts have {len(records)} labelled images of {len(kept)} "
            f"group(s) and {len(np.unique(labels))} class(es){left_out}; a probe needs {FOLDS} groups and two classes"
        )
    if left_out:
        say(f"probe: {len(records):,} images of {path}{left_out}")
    folds = _deal_out(labels, units, len(prepared.card["classes"]), generator)
    ordered = prepared.card["task"] == "grading"
    return Probe(ImageStore([(prepared, records)]), labels, folds, units, len(prepared.card["classes"]), ordered)


def _deal_out(labels: np.ndarray, units: np.ndarray, classes: int, generator: np.random.Generator) -> np.ndarray:
    """A fold for each image: whole groups, the largest first, to the fold that lacks their classes most."""
    counts = np.zeros((units.max() + 1, classes))
    np.add.at(counts, (units, labels), 1)
    wanted, dealt = counts.sum(0) / FOLDS, np.zeros((FOLDS, classes))
    fold_of = np.zeros(len(counts), np.int64)
    for unit in sorted(generator.permutation(len(counts)), key=lambda unit: -counts[unit].sum()):
        lacking = ((wanted - dealt) / np.maximum(wanted, 1)) @ counts[unit]
        fold_of[unit] = np.lexsort((dealt.sum(1), -lacking))[0]  # the smallest of those that lack them alike
        dealt[fold_of[unit]] += counts[unit]
    return fold_of[units]


def judge(probe: Probe, features: Tensor) -> list[dict[str, Any]]:
    """A row for each of knn and linear: probe, metric, value, low, high, n, groups."""
    if features.device.type == "mps":  # it has no float64
        features = features.cpu()
    labels, folds = torch.from_numpy(probe.labels).to(features.device), torch.from_numpy(probe.folds)
    resampling = Resampling(probe.units, 500)
    rows = []
    for name, grade in (("knn", nearest_neighbours), ("linear", ridge)):
        grades = torch.empty(len(labels), dtype=torch.int64)
        for fold in range(FOLDS):
            held_out = folds == fold
            if held_out.any() and not held_out.all():
                inside, outside = (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]
                scores = grade(features[inside], labels[inside.to(labels.device)], features[outside], probe.classes)
                grades[held_out] = scores.argmax(1).cpu()
        rows.append({"probe": name, "metric": probe.metric, **_measured(probe, grades.numpy(), resampling)})
    return rows


def _measured(probe: Probe, grades: np.ndarray, resampling: Resampling) -> dict[str, Any]:
    score = quadratic_kappa if probe.ordered else accuracy
    value = float(score(confusion_matrices(probe.labels, grades, probe.units, probe.classes).sum(0)))
    drawn = score(resampling.confusions(probe.labels, grades, probe.classes))
    entry = resampling.entry(value, drawn, len(grades))
    return {key: entry[key] for key in ("value", "low", "high", "n")} | {"groups": resampling.groups}


def append(run: Path, epoch: int, rows: list[dict[str, Any]]) -> None:
    """Add the rows of an epoch to RUN/probe.csv, in place of any that an interrupted run wrote for it or later."""
    file = run / "probe.csv"
    new = pd.DataFrame([{"epoch": epoch, **row} for row in rows])
    if file.exists():
        before = pd.read_csv(file)
        new = pd.concat([before[before["epoch"] < epoch], new], ignore_index=True)
    write_text(file, new.to_csv(index=False, lineterminator="\n"))


def describe(rows: list[dict[str, Any]]) -> str:
    """`knn 0.52 (0.44-0.60), linear 0.61 (0.55-0.68) quadratic kappa`."""
    parts = []
    for row in rows:
        interval = "" if row["low"] is None else f" ({row['low']:.3f}-{row['high']:.3f})"
        parts.append(f"{row['probe']} {row['value']:.3f}{interval}")
    return f"{', '.join(parts)} {rows[0]['metric'].replace('_', ' ')}"
