"""Options of `foveal compare`; reading them needs no torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foveal.config import check
from foveal.errors import FovealError
from foveal.train.options import MOST_FOLDS

EACH = "source"  # --hold-out source: every source with labels in turn
MOST_TIMES = 10.0  # a small share of the labels gets at most this many times the epochs of all labels


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Options of `foveal compare`."""

    ## What to compare
    # Prepared set with labels; several sets are joined into a new one beside the first.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Folder to write the table, the figure and all predictions to.
    out: Path
    # Starting weights to compare, the baseline first: random, imagenet, run folders, or files of weights.
    init: tuple[str, ...] = ("random", "imagenet")
    # Network for random, imagenet and files: any timm model or one of Foveal's; auto is tf_efficientnet_lite0.
    encoder: str = "auto"
    # What to train: probe (logistic regression on frozen features, takes minutes), finetune (the whole network).
    how: tuple[Literal["probe", "finetune"], ...] = ("probe", "finetune")
    # How many labels to use: shares of the training images ("10%"), or counts.
    labels: tuple[str, ...] = ("1%", "10%", "100%")
    # Also train without each of these sources (names of joined sets) and evaluate on it; source means each in turn.
    hold_out: tuple[str, ...] = ()

    ## How long
    # Repetitions, each with a different choice of labels, random weights and order of images.
    seeds: int = 3
    # Cross-validation with this many folds instead of seeds and the test part; 0 is off.
    folds: int = 0
    # Epochs of fine-tuning with all labels; a share f of them gets 1 / sqrt(f) times as many, at most ten times.
    epochs: int = 12

    ## Where
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"

    ## For experts
    # Continue although validation or test images were used, or would be used, for training.
    allow_leaks: bool = False
    # Random seed for everything random: splits, new weights, the order of the images, views and resamples.
    seed: int = 0

    def __post_init__(self) -> None:
        check(self, "data", bool(self.data), "a prepared set")
        for name in ("init", "how", "labels"):
            values = getattr(self, name)
            check(self, name, 0 < len(set(values)) == len(values), "at least one value, all different")
        for name in ("seeds", "epochs"):
            check(self, name, getattr(self, name) >= 1, "1 or more")
        check(self, "folds", not self.folds or 2 <= self.folds <= MOST_FOLDS, f"0, or from 2 to {MOST_FOLDS}")
        for given in self.labels:
            share_of(given, 1000)


def share_of(given: str, images: int) -> float:
    """The share (0-1] that a label fraction stands for: "10%", or a count out of `images`."""
    percent = given.endswith("%")
    try:
        share = float(given.removesuffix("%")) / 100 if percent else int(given) / images
    except ValueError:
        share = math.nan
    if not share > 0 or (percent and share > 1):
        raise FovealError("option.value", f"--labels {given}", expected="a share such as 10%, or a count such as 200")
    return min(share, 1.0)


def epochs_for(config: CompareConfig, share: float) -> int:
    """Epochs of fine-tuning on a share of the labels: more epochs for fewer images, but fewer steps in total."""
    return round(config.epochs * min(MOST_TIMES, 1 / math.sqrt(share)))
