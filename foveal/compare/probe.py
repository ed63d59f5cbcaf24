"""probe: a quick test of frozen features: how well logistic regression and nearest neighbours predict the labels.

    foveal probe DATA --init RUN imagenet random

The features of every image are computed once. Both classifiers use the training part. The penalty of the regression is
chosen on the validation part, or on every fifth training image if there is none to spare. The table shows results on
the test part or, without one, on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import tyro
from torch import Tensor

from foveal import metrics
from foveal.console import say, show_table
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.evaluate.intervals import Resampling
from foveal.files import check_file, write_table
from foveal.nets.probes import LogisticRegression, nearest_neighbours
from foveal.page.words import value_with_interval
from foveal.predict.features import encode
from foveal.sets.leaks import read_seen, refuse_seen
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet, open_prepared
from foveal.sets.splits import owners
from foveal.train.options import check
from foveal.train.task import frozen_encoder, start_from

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # strongest first; each fit starts from the previous one
RESAMPLES = 500
EVERY = 5  # without a spare validation part, every fifth training image is used to choose the penalty


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Options of `foveal probe`."""

    # Prepared set (folder written by `foveal prepare`) with labels.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Encoders to compare: random, imagenet, run folders, or files of weights.
    init: tuple[str, ...] = ("imagenet",)
    # Network for random, imagenet and files: any timm model or one of Foveal's; auto is tf_efficientnet_lite0.
    encoder: str = "auto"
    # Image size in pixels; 0 uses the size of the run, else of the prepared images.
    image_size: int = 0
    # Number of nearest neighbours that vote.
    neighbours: int = 20
    # CSV file to write; by default the table is only printed.
    out: Path | None = None
    # Continue even if an encoder was trained on the held-out images.
    allow_leaks: bool = False
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"
    # Random seed for random weights and for the resamples of intervals.
    seed: int = 0

    def __post_init__(self) -> None:
        check(self, "init", bool(self.init), "at least one encoder")
        check(self, "neighbours", self.neighbours >= 1, "1 or more")


def probe(config: ProbeConfig) -> pd.DataFrame:
    """Probe each encoder; returns a row per encoder, classifier and metric: value, low, high, n, groups."""
    if config.out is not None:
        check_file(config.out)
    device = choose_device(config.device)
    prepared = open_prepared(config.data)
    parts = {name: prepared.part(name) for name in ("train", "val", "test")}
    judged = "test" if len(parts["test"]) else "val"
    if not len(parts["train"]) or not len(parts[judged]):
        what = f"{config.data} has no labelled images to train on, or none to evaluate on"
        raise FovealError("set.missing_part", what, expected="a training part, and a test or validation part")
    for init in config.init:
        refuse_seen(prepared, read_seen(init), f"the training images of {init}", config.allow_leaks)
    rows: list[dict[str, Any]] = []
    for init in config.init:
        start = start_from(init, config.encoder, config.image_size, prepared)
        encoder = frozen_encoder(init, start, prepared, config.seed, device)
        known = {
            part: (
                encode(encoder, ImageStore([(prepared, records)]), start.spec, device),
                torch.tensor(records["label"].to_numpy(np.int64), device=device),
            )
            for part, records in parts.items() if len(records)
        }  # fmt: skip
        for readout, grades in _readouts(config, known, judged, len(prepared.classes)):
            rows += [
                {"init": init, "readout": readout, **row} for row in _rows(prepared, parts[judged], grades, config)
            ]
    table = pd.DataFrame(rows)
    _show(table, judged, len(parts["train"]))
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_table(config.out, table)
        say(f"table: {config.out}")
    return table


def _readouts(
    config: ProbeConfig, known: dict[str, tuple[Tensor, Tensor]], judged: str, classes: int
) -> list[tuple[str, np.ndarray]]:
    """(name, grades of the `judged` part) of both classifiers; known: part -> features [n, D] and labels [n]."""
    (features, labels), asked = known["train"], known[judged][0]
    near = nearest_neighbours(features, labels, asked, classes, config.neighbours).argmax(1)
    if judged == "test" and "val" in known:
        both = [torch.cat(pair) for pair in zip(known["train"], known["val"], strict=True)]
        held_out = torch.arange(len(both[1]), device=labels.device) >= len(labels)
    else:
        both = [features, labels]
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(config.seed)).to(labels.device)
        held_out = torch.zeros_like(labels, dtype=torch.bool).index_fill(0, order[::EVERY], True)
    penalty = best_penalty(both[0], both[1], classes, [held_out])
    linear = LogisticRegression(features, labels, classes).fit(penalty).logits(asked).argmax(1)
    return [(f"{config.neighbours} nearest", near.cpu().numpy()), ("linear", linear.cpu().numpy())]


def best_penalty(features: Tensor, labels: Tensor, classes: int, held_out: Sequence[Tensor]) -> float:
    """The penalty with the most correct predictions on held-out images. held_out: bool [n] for each split."""
    right = np.zeros(len(PENALTIES))
    for own in held_out:
        regression = LogisticRegression(features[~own], labels[~own], classes)
        for number, penalty in enumerate(PENALTIES):
            right[number] += int((regression.fit(penalty).logits(features[own]).argmax(1) == labels[own]).sum())
    return PENALTIES[int(right.argmax())]


def metrics_of(prepared: PreparedSet) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The metrics to compare, the main one first; kappa only for grades, which have an order."""
    ordered = {"quadratic_kappa": metrics.quadratic_kappa} if prepared.card["task"] == "grading" else {}
    return ordered | {"accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1}


def _rows(
    prepared: PreparedSet, records: pd.DataFrame, grades: np.ndarray, config: ProbeConfig
) -> Iterator[dict[str, Any]]:
    """The metrics on the held-out images, with intervals over groups."""
    labels, classes = records["label"].to_numpy(np.int64), len(prepared.classes)
    units = np.unique(owners(records["group"], records["id"]), return_inverse=True)[1]
    resampling = Resampling(units, RESAMPLES, config.seed)
    for name, metric in sorted(metrics_of(prepared).items()):
        entry = resampling.entry(*resampling.graded(metric, labels, grades, classes), len(labels))
        yield {
            "metric": name,
            **{key: entry[key] for key in ("value", "low", "high", "n")},
            "groups": resampling.groups,
        }


def _show(table: pd.DataFrame, judged: str, known: int) -> None:
    lines = []
    for (init, readout), part in table.groupby(["init", "readout"], sort=False):
        entries: Any = part.to_dict("records")
        lines.append((f"{init}, {readout}", *(value_with_interval(entry, 3) for entry in entries)))
    n, groups = table["n"].iloc[0], table["groups"].iloc[0]
    title = f"Frozen features: {known:,} training images, evaluated on {n:,} {judged} images in {groups:,} groups"
    show_table(title, ("", *(metric.replace("_", " ") for metric in table["metric"].unique())), lines)
