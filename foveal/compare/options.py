"""Options of `foveal compare`; reading them needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foveal.errors import FovealError
from foveal.train.options import MOST_FOLDS, check

MOST_TIMES = 10.0  # as many passes over a small share of the labels as over all of them, at most


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Options of `foveal compare`."""

    ## What to compare
    # Prepared set with labels.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Folder for the table, the figure and all predictions.
    out: Path
    # Starting weights, the baseline first: random, imagenet, run folders, or .safetensors files with timm's keys.
    init: tuple[str, ...] = ("random", "imagenet")
    # Any timm model or a network of Foveal, for random, imagenet and files; auto is tf_efficientnet_lite0.
    encoder: str = "auto"
    # What is trained: probe, a logistic regression on frozen features (minutes), or finetune, the whole network.
    how: tuple[Literal["probe", "finetune"], ...] = ("probe", "finetune")
    # How many labels: shares of the training part ("10%") or counts.
    labels: tuple[str, ...] = ("1%", "10%", "100%")

    ## How long
    # Repetitions, each with other labels, random weights and order of images.
    seeds: int = 3
    # Grouped folds instead of seeds: each is judged by what was trained on the others; 0 judges the test part.
    folds: int = 0
    # Passes of a fine-tune over all labels; over a share f of them 1 / sqrt(f) times as many, ten times at most.
    epochs: int = 12

    ## Where
    # Devices that work in parallel, such as cuda:0 cuda:1, or cpu cpu.
    devices: tuple[str, ...] = ("auto",)

    ## For experts
    # Continue although an encoder has seen images that are judged.
    allow_leaks: bool = False
    # First seed.
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("init", "how", "labels", "devices"):
            values = getattr(self, name)
            different = len(set(values)) == len(values) or name == "devices"
            check(self, name, bool(values) and different, "one value or more, all different")
        for name in ("seeds", "epochs"):
            check(self, name, getattr(self, name) >= 1, "1 or more")
        check(self, "folds", not self.folds or 2 <= self.folds <= MOST_FOLDS, f"0, or from 2 to {MOST_FOLDS}")
        for given in self.labels:
            share_of(given, 1000)

    @property
    def repetitions(self) -> int:
        """How often each combination is run."""
        return self.folds or self.seeds


def share_of(given: str, images: int) -> float:
    """The share (0-1] that a label fraction means: "10%", or a count out of `images`."""
    try:
        share = float(given.removesuffix("%")) / 100 if given.endswith("%") else int(given) / images
    except ValueError:
        share = math.nan
    if not share > 0 or (given.endswith("%") and share > 1):
        raise FovealError("option.value", f"--labels {given}", expected="a share such as 10%, or a count such as 200")
    return min(share, 1.0)


def epochs_for(config: CompareConfig, share: float) -> int:
    """Passes of a fine-tune over a share of the labels: fewer images, more passes, fewer steps in all."""
    return round(config.epochs * min(MOST_TIMES, 1 / math.sqrt(share)))
