"""probe: what frozen features know of the labels, in minutes: logistic regression and nearest neighbours.

    foveal probe DATA --init RUN imagenet random

Features of every image are computed once. Both readouts learn from the training part; the validation part (or, without
one, every fifth training image) chooses the penalty of the regression; the test part (or, without one, the validation
part) is what the table shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import tyro
from torch import Tensor

from foveal.console import say, show_table
from foveal.distributed import choose_device
from foveal.evaluate.intervals import Resampling
from foveal.files import write_text
from foveal.metrics import accuracy, confusion_matrices, macro_f1, quadratic_kappa
from foveal.nets.probes import LogisticRegression, nearest_neighbours
from foveal.predict.features import encode
from foveal.sets.leaks import read_seen, refuse_seen
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet, open_prepared
from foveal.train.start import frozen_encoder, start_from

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # from the strongest on, each fit starting from the one before


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Options of `foveal probe`."""

    # Prepared set with labels.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Encoders to compare: random, imagenet, run folders, or .safetensors files in timm's keys.
    init: tuple[str, ...] = ("imagenet",)
    # Any timm model name or a network of our own, for random, imagenet and files; auto is tf_efficientnet_lite0.
    encoder: str = "auto"
    # Pixels the network sees; 0 takes those of the run, else the size of the prepared images.
    image_size: int = 0
    # Neighbours that vote.
    neighbours: int = 20
    # Table to write (CSV); without it the table is only printed.
    out: Path | None = None
    # Go on although an encoder has seen images of the part that is judged.
    allow_leaks: bool = False
    # auto, cpu, cuda or mps.
    device: str = "auto"
    # Decides random weights and the resamples of intervals.
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.init:
            raise ValueError("--init needs at least one encoder: random, imagenet, a run folder or a file")
        if self.neighbours < 1:
            raise ValueError(f"--neighbours must be at least 1, got {self.neighbours}")


def probe(config: ProbeConfig) -> pd.DataFrame:
    """Probe each encoder; returns a row per encoder, readout and figure: value, low, high, n, groups."""
    device = choose_device(config.device)
    prepared = open_prepared(config.data)
    labelled = prepared.records[prepared.records["label"].notna()]
    parts = {name: labelled[labelled["split"] == name] for name in ("train", "val", "test")}
    judged = "test" if len(parts["test"]) else "val"
    if not len(parts["train"]) or not len(parts[judged]):
        raise ValueError(f"{config.data}: a probe needs labelled training images, and test or validation images")
    for init in config.init:
        refuse_seen(prepared, read_seen(init), f"what {init} has learned from", config.allow_leaks)
    rows: list[dict[str, Any]] = []
    for init in config.init:
        features = _features(config, init, prepared, parts, device)
        labels = {name: torch.tensor(part["label"].to_numpy(np.int64)).to(device) for name, part in parts.items()}
        for readout, grades in _readouts(config, features, labels, judged, len(prepared.classes)):
            rows += [
                {"init": init, "readout": readout, **row} for row in _figures(prepared, parts[judged], grades, config)
            ]
    table = pd.DataFrame(rows)
    _show(table, judged, len(parts["train"]))
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(config.out, table.to_csv(index=False, lineterminator="\n"))
        say(f"table: {config.out}")
    return table


def _features(
    config: ProbeConfig, init: str, prepared: PreparedSet, parts: dict[str, pd.DataFrame], device: torch.device
) -> dict[str, Tensor]:
    """Features [n, D] of each part, on the device."""
    start = start_from(init, config.encoder, config.image_size, prepared)
    encoder = frozen_encoder(init, start, prepared, config.seed, device)
    return {
        part: encode(encoder, ImageStore([(prepared, records)]), start.spec, device)
        for part, records in parts.items()
        if len(records)
    }


def _readouts(
    config: ProbeConfig, features: dict[str, Tensor], labels: dict[str, Tensor], judged: str, classes: int
) -> list[tuple[str, np.ndarray]]:
    """(name, grades of the judged part) of nearest neighbours and of logistic regression."""
    known, asked = features["train"], features[judged]
    near = nearest_neighbours(known, labels["train"], asked, classes, config.neighbours).argmax(1)
    penalty = _penalty(config, features, labels, judged, classes)
    chosen = LogisticRegression(known, labels["train"], classes).fit(penalty).logits(asked).argmax(1)
    return [(f"{config.neighbours} nearest", near.cpu().numpy()), ("linear", chosen.cpu().numpy())]


def _penalty(
    config: ProbeConfig, features: dict[str, Tensor], labels: dict[str, Tensor], judged: str, classes: int
) -> float:
    """The penalty with the most right answers on the validation part, or else on every fifth training image."""
    inside = [features["train"], labels["train"]]
    if judged == "test" and "val" in features:
        outside = [features["val"], labels["val"]]
    else:
        generator = torch.Generator().manual_seed(config.seed)
        order = torch.randperm(len(inside[0]), generator=generator).to(inside[0].device)
        outside = [part[order[::5]] for part in inside]
        kept = torch.ones(len(order), dtype=torch.bool, device=order.device).index_fill(0, order[::5], False)
        inside = [part[kept] for part in inside]
    regression = LogisticRegression(inside[0], inside[1], classes)
    right = [int((regression.fit(penalty).logits(outside[0]).argmax(1) == outside[1]).sum()) for penalty in PENALTIES]
    return PENALTIES[int(np.argmax(right))]


def _figures(
    prepared: PreparedSet, records: pd.DataFrame, grades: np.ndarray, config: ProbeConfig
) -> list[dict[str, Any]]:
    """Accuracy, macro F1 and, for ordered classes, kappa, with intervals over groups."""
    labels, classes = records["label"].to_numpy(np.int64), len(prepared.classes)
    names = records["group"].where(records["group"] != "", records["id"])
    units = np.unique(names, return_inverse=True)[1]
    resampling = Resampling(units, 500, config.seed)
    whole = confusion_matrices(labels, grades, units * 0, classes)[0]
    drawn = resampling.confusions(labels, grades, classes)
    figures = {"accuracy": accuracy, "macro_f1": macro_f1}
    if prepared.card["task"] == "grading":
        figures["quadratic_kappa"] = quadratic_kappa
    found = []
    for name, figure in figures.items():
        entry = resampling.entry(float(figure(whole)), figure(drawn), len(labels))
        shown = {key: entry[key] for key in ("value", "low", "high", "n")}
        found.append({"metric": name, **shown, "groups": resampling.groups})
    return found


def _show(table: pd.DataFrame, judged: str, known: int) -> None:
    metrics = list(dict.fromkeys(table["metric"]))
    lines = []
    for (init, readout), part in table.groupby(["init", "readout"], sort=False):
        row = part.set_index("metric")
        lines.append((f"{init}, {readout}", *(_cell(row.loc[metric]) for metric in metrics)))
    n, groups = int(table["n"].iloc[0]), int(table["groups"].iloc[0])
    title = f"Frozen features: {known:,} training images, judged on {n:,} {judged} images of {groups:,} groups"
    show_table(title, ("", *(metric.replace("_", " ") for metric in metrics)), lines)


def _cell(row: pd.Series) -> str:
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3f}-{row['high']:.3f})"
    return f"{row['value']:.3f}{interval}"
