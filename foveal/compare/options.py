"""Options of `foveal compare`; no torch is needed to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Options of `foveal compare`."""

    # Prepared set with labels.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Folder for the table, the figure and all predictions.
    out: Path
    # Starting weights, the baseline first: random, imagenet, run folders, or .safetensors files in timm's keys.
    init: tuple[str, ...] = ("random", "imagenet")
    # What learns: probe, a logistic regression on frozen features (minutes), or finetune, the whole network.
    how: tuple[Literal["probe", "finetune"], ...] = ("probe", "finetune")
    # How many labels: shares of the training part ("10%") or counts.
    labels: tuple[str, ...] = ("1%", "10%", "100%")
    # Repetitions: each draws other labels, first weights and orders.
    seeds: int = 3
    # Grouped folds in place of seeds: each is judged by what has learned from the others; 0 judges the test part.
    folds: int = 0
    # Any timm model name or a network of our own, for random, imagenet and files; auto is tf_efficientnet_lite0.
    encoder: str = "auto"
    # Pixels the network sees; 0 takes those of the run, else the size of the prepared images.
    image_size: int = 0
    # Passes of a fine-tune over all labels; with a share f of them 1 / sqrt(f) times as many, ten times at most.
    epochs: int = 12
    # Images per step of a fine-tune.
    batch_size: int = 32
    # Peak learning rate of a fine-tune; by default 0.001 from random weights and 0.0004 else.
    learning_rate: float | None = None
    # Go on although an encoder has seen images that are judged.
    allow_leaks: bool = False
    # Devices that work side by side, such as cuda:0 cuda:1, or cpu cpu.
    devices: tuple[str, ...] = ("auto",)
    # Bootstrap resamples for the intervals.
    resamples: int = 1000
    # First seed.
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.init) < 1 or len(set(self.init)) < len(self.init):
            raise ValueError(f"--init needs different starting weights, the baseline first; got {' '.join(self.init)}")
        if not self.how or not self.labels or not self.devices:
            raise ValueError("--how, --labels and --devices need at least one value each")
        if self.seeds < 1 or self.folds == 1 or self.folds < 0:
            raise ValueError(f"--seeds must be at least 1 and --folds 0 or at least 2, got {self.seeds}, {self.folds}")
        if self.folds > 20 or self.epochs < 1 or self.batch_size < 2 or self.resamples < 100:
            raise ValueError("--folds are 20 at most, --epochs at least 1, --batch-size 2 and --resamples 100")
        if len(set(self.labels)) < len(self.labels) or len(set(self.how)) < len(self.how):
            raise ValueError("--labels and --how must not name one thing twice")
        for said in self.labels:
            share_of(said, 1000)

    @property
    def repetitions(self) -> int:
        """How often each combination is run."""
        return self.folds or self.seeds


def share_of(said: str, images: int) -> float:
    """The share (0-1] that a label fraction means: "10%", or a count out of `images`."""
    try:
        share = float(said.removesuffix("%")) / 100 if said.endswith("%") else int(said) / images
    except ValueError:
        raise ValueError(f"--labels {said}: expected a share such as 10%, or a count such as 200") from None
    if not share > 0 or (said.endswith("%") and share > 1):
        raise ValueError(f"--labels {said}: expected a share above 0 % and at most 100 %, or a count above 0")
    return min(share, 1.0)


def epochs_for(config: CompareConfig, share: float) -> int:
    """Passes of a fine-tune with a share of the labels: fewer images, more passes, fewer steps in all."""
    return round(config.epochs * min(10.0, 1 / math.sqrt(share)))
