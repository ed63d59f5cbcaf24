"""probe: a quick test of frozen features: how well logistic regression and nearest neighbours predict the labels.

Both use the training part; the table is of the test part or, without one, the validation part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import tyro
from torch import Tensor

from foveal import metrics
from foveal.config import check
from foveal.console import say
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.evaluate.difference import difference
from foveal.evaluate.intervals import Resampling
from foveal.files import check_file, write_table
from foveal.nets.probes import logistic_regression, nearest_neighbours
from foveal.page.render import print_template
from foveal.predict.features import encode
from foveal.runs import read_model
from foveal.sets.leaks import read_seen, refuse_seen
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet, open_prepared
from foveal.sets.splits import owners
from foveal.train.task import frozen_encoder

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # strongest first; each fit starts from the previous one
RESAMPLES = 500
DIFFERENCE = {"difference": "value", "difference_low": "low", "difference_high": "high", "answer": "answer"}
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
    # Image size in pixels, the same for all encoders. 0 uses that of the first run, else of the prepared images.
    image_size: int = 0
    # Number of nearest neighbours that vote.
    neighbours: int = 20
    # CSV file to write; by default the table is only printed.
    out: Path | None = None
    # Continue although validation or test images were used, or would be used, for training.
    allow_leaks: bool = False
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"
    # Random seed for everything random: splits, new weights, the order of the images, views and resamples.
    seed: int = 0

    def __post_init__(self) -> None:
        check(self, "init", bool(self.init), "at least one encoder")
        check(self, "neighbours", self.neighbours >= 1, "1 or more")


def probe(config: ProbeConfig) -> pd.DataFrame:
    """Probe each encoder; returns a row per encoder, classifier and metric: value, low, high, n, groups.

    From the second encoder on, also the paired difference from the first: difference, its low and high, and answer.
    """
    if config.out is not None:
        check_file(config.out)
    device = choose_device(config.device)
    prepared = open_prepared(config.data)
    parts, judged = {name: prepared.part(name) for name in ("train", "val", "test")}, judged_part(prepared)
    for init in config.init:
        refuse_seen(prepared, read_seen(init), f"the training images of {init}", config.allow_leaks)
    labels, owned = parts[judged]["label"].to_numpy(np.int64), owners(parts[judged]["group"], parts[judged]["id"])
    resampling = Resampling(np.unique(owned, return_inverse=True)[1], RESAMPLES, config.seed)
    size, rows = config.image_size or common_size(config.init, prepared), list[dict[str, Any]]()
    first: dict[tuple[str, str], tuple[float, np.ndarray]] = {}  # of the first encoder, with which others are compared
    for init in config.init:
        encoder, spec = frozen_encoder(init, config.encoder, size, prepared, config.seed, device)
        seen = {part: (encode(encoder, ImageStore([(prepared, records)]), spec, device),
                       torch.tensor(records["label"].to_numpy(np.int64), device=device))
                for part, records in parts.items() if len(records)}  # fmt: skip
        for readout, grades in _readouts(config, seen, judged, len(prepared.classes)):
            for metric, of in sorted(metrics_of(prepared).items()):
                drawn = resampling.graded(of, labels, grades, len(prepared.classes))
                entry = resampling.entry(*drawn, len(labels))
                del entry["noise"]
                row = {"init": init, "readout": readout, "metric": metric, **entry, "groups": resampling.groups}
                found = difference(first.setdefault((readout, metric), drawn), drawn, resampling)
                compared = init != config.init[0]
                rows.append(row | {name: found[key] if compared else None for name, key in DIFFERENCE.items()})
    table = pd.DataFrame(rows)
    names = [metric.replace("_", " ") for metric in table["metric"].unique()]
    of_each = [list(own) for _, own in groupby(rows, lambda row: (row["init"], row["readout"]))]
    print_template("probed.txt", rows=of_each, names=names, known=len(parts["train"]), judged=judged, size=size)
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_table(config.out, table)
        say(f"table: {config.out}")
    return table


def common_size(inits: Sequence[str], prepared: PreparedSet) -> int:
    """The common image size of a comparison, in pixels: that of the first run, else of the prepared images."""
    runs = [init for init in inits if (Path(init) / "model.json").is_file()]
    return read_model(Path(runs[0]))["image_size"] if runs else prepared.size


def judged_part(prepared: PreparedSet) -> str:
    """test or, without one, val; FovealError if there are no images to train on, or none to evaluate on."""
    judged = "test" if len(prepared.part("test")) else "val"
    if not len(prepared.part("train")) or not len(prepared.part(judged)):
        what = f"{prepared.path} has no labelled images to train on, or none to evaluate on"
        fix = "prepare it with --test, or use --folds of foveal compare"
        raise FovealError("set.missing_part", what, expected="a training part, and a test or validation part", fix=fix)
    return judged


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
    (linear,) = logistic_regression(features, labels, asked, classes, [penalty])
    return [(f"{config.neighbours} nearest", near.cpu().numpy()), ("linear", linear.argmax(1).numpy())]


def best_penalty(features: Tensor, labels: Tensor, classes: int, held_out: Sequence[Tensor]) -> float:
    """The penalty with the most correct predictions on held-out images. held_out: bool [n] for each split."""
    right = np.zeros(len(PENALTIES))
    for own in held_out:
        answers = logistic_regression(features[~own], labels[~own], features[own], classes, PENALTIES)
        right += [int((answer.argmax(1) == labels[own].cpu()).sum()) for answer in answers]
    return PENALTIES[int(right.argmax())]


def metrics_of(prepared: PreparedSet) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The metrics to compare, the main one first; kappa only for grades, which have an order."""
    ordered = {"quadratic_kappa": metrics.quadratic_kappa} if prepared.card["task"] == "grading" else {}
    return ordered | {"accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1}
