"""A probe during pre-training: how well the encoder's features predict labels, without training a network.

The training and validation images of a labelled set are judged by cross-validation over groups: by their nearest
neighbours, and by a linear model in closed form. The result chooses nothing.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.console import hushed, say, warn
from foveal.errors import FovealError
from foveal.evaluate.difference import difference
from foveal.evaluate.intervals import Resampling
from foveal.files import write_table
from foveal.metrics import accuracy, quadratic_kappa
from foveal.nets.probes import nearest_neighbours, ridge
from foveal.page.words import counted, value_with_interval
from foveal.pretrain.options import NO_PROBE
from foveal.sets.leaks import TAUGHT, find_seen
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet, differing, open_prepared
from foveal.sets.splits import draw_groups, k_folds, owners

START = "probe_start.csv"  # in the run folder: what the encoder before training says about each image of the probe
DIFFERENCE = ("difference", "difference_low", "difference_high", "answer")
FOLDS = 5
MOST_IMAGES = 4000  # a closed form of so many, five times, takes half a minute with 2,048 features on one core
MOST_OF_POOL = 1000  # if nobody asked for a probe


@dataclass(frozen=True)
class Probe:
    """The images, labels and folds of a probe; made once by `open_probe`."""

    store: ImageStore
    labels: np.ndarray  # int [n]
    folds: np.ndarray  # int [n]
    units: np.ndarray  # int [n], group of each image
    classes: int
    ordered: bool


def probe_of(path: Path | None, sets: list[PreparedSet], seed: int, seen: pd.DataFrame) -> Probe | None:
    """The probe of --probe, or else of the first set of the pool with enough labels; None if there is none."""
    if path is not None:
        return None if path == NO_PROBE else open_probe(path, sets[0], seed, seen)
    for prepared in sets:
        with suppress(FovealError), hushed():
            return open_probe(prepared.path, sets[0], seed, seen, MOST_OF_POOL)
    return None


def open_probe(path: Path, like: PreparedSet, seed: int, seen: pd.DataFrame, most: int = MOST_IMAGES) -> Probe:
    """The probe of a labelled set; FovealError if it is too small or its images do not fit the pool's.

    most: images that are drawn from it, by group. seen: what shapes the encoder, with the columns of seen.csv. Images
    whose label it learns are left out, with their copies and groups.
    """
    prepared = open_prepared(path)
    if prepared.channels != like.channels:
        what = f"--probe {path} has images with {prepared.channels} channel(s)"
        raise FovealError("set.preparation", what, expected=f"{like.channels}, as in the pool")
    if unlike := differing(like.card, prepared.card, but=("size",)):  # images are resized to the network's input
        warn(f"--probe {path} was prepared differently from {like.path} ({unlike})")
    records = prepared.part("train", "val")
    records = records[records["label"].notna()]
    names = owners(records["group"], records["id"])
    known = find_seen(prepared, records, seen[seen["taught"] == TAUGHT])["id"]
    taught = pd.Series(names).isin(names[records["id"].isin(known)]).to_numpy()
    records, units = records[~taught], np.unique(names[~taught], return_inverse=True)[1]
    generator = np.random.default_rng(seed)
    chosen = draw_groups(units, most, generator)
    records, units = records[chosen], np.unique(units[chosen], return_inverse=True)[1]
    labels, groups = records["label"].to_numpy(np.int64), len(np.unique(units))
    left_out = f"; {taught.sum():,} are left out because the encoder learns their labels" if taught.any() else ""
    if groups < FOLDS or len(np.unique(labels)) < 2:
        there = f"{counted(len(records), 'image')} with {counted(len(np.unique(labels)), 'different label')}"
        what = f"--probe {path}: its training and validation parts have {there} in {counted(groups, 'group')}{left_out}"
        raise FovealError("set.too_small", what, expected=f"{FOLDS} groups and two classes")
    if left_out:
        say(f"probe: {len(records):,} images of {path}{left_out}")
    folds, ordered = k_folds(labels, units, FOLDS, generator), prepared.card["task"] == "grading"
    return Probe(ImageStore([(prepared, records)]), labels, folds, units, len(prepared.card["classes"]), ordered)


def judge(probe: Probe, features: Tensor) -> pd.DataFrame:
    """The grades of the images by knn and linear, int [n] each, from features [n, D]."""
    if features.device.type == "mps":  # it has no float64
        features = features.cpu()
    labels, folds = torch.from_numpy(probe.labels).to(features.device), torch.from_numpy(probe.folds)
    given = {name: torch.empty(len(labels), dtype=torch.int64) for name in ("knn", "linear")}
    for held_out in (folds == fold for fold in range(FOLDS)):
        if held_out.any() and not held_out.all():
            inside, outside = (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]
            known = features[inside], labels[inside.to(labels.device)], features[outside], probe.classes
            given["knn"][held_out] = nearest_neighbours(*known).argmax(1).cpu()
            given["linear"][held_out] = ridge(*known).argmax(1).cpu()
    return pd.DataFrame({name: grades.numpy() for name, grades in given.items()})


def rows_of(probe: Probe, grades: pd.DataFrame, before: pd.DataFrame | None) -> list[dict[str, Any]]:
    """A row each for knn and linear: value and interval; against `before`, the paired difference and its answer."""
    # Kappa weighs distances between classes, which only ordered classes have.
    metric, resampling = quadratic_kappa if probe.ordered else accuracy, Resampling(probe.units, 500)
    rows = []
    for name in grades:
        now = resampling.graded(metric, probe.labels, grades[name].to_numpy(), probe.classes)
        row = {"probe": name, "metric": metric.__name__, **resampling.entry(*now, len(grades))}
        del row["noise"]
        row["groups"] = resampling.groups
        if before is not None:
            old = resampling.graded(metric, probe.labels, before[name].to_numpy(), probe.classes)
            row |= zip(DIFFERENCE, difference(old, now, resampling).values(), strict=True)
        rows.append(row)
    return rows


def record(run: Path, epoch: int, probe: Probe, features: Tensor) -> None:
    """Judge features [n, D] and print it; RUN/probe.csv loses rows of an interrupted run for this epoch or later."""
    grades, start, file = judge(probe, features), run / START, run / "probe.csv"
    if epoch == 0:
        write_table(start, grades)
    rows = rows_of(probe, grades, pd.read_csv(start) if epoch and start.is_file() else None)  # version 0.1 wrote none
    table = pd.DataFrame([{"epoch": epoch, **row} for row in rows])
    if file.exists():
        earlier = pd.read_csv(file)
        table = pd.concat([earlier[earlier["epoch"] < epoch], table], ignore_index=True)
    write_table(file, table)
    parts = ", ".join(f"{row['probe']} {value_with_interval(row, 3)}" for row in rows)
    say(f"probe after epoch {epoch}: {parts} {rows[0]['metric'].replace('_', ' ')}")


def helped(run: Path) -> list[dict[str, Any]]:
    """The rows of the last probe, with the difference from the start; [] if the run had no probe."""
    table = pd.read_csv(run / "probe.csv") if (run / START).is_file() else pd.DataFrame({"epoch": []})
    return [] if "answer" not in table else table[table["epoch"] == table["epoch"].max()].to_dict("records")
