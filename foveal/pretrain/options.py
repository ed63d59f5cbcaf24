"""Options of `foveal pretrain`; no torch is needed to read them.

A method's own options have their defaults in the method's file; here they are None until `resolve` fills them in, so
that an option which the chosen method does not know is an error and not a silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foveal.augment.recipes import recipe_pair

MEASURED = ("precision", "memory_format", "compile", "views_on", "micro_batch")  # `auto` is settled by measuring
LOWEST = {
    "learning_rate": 0, "weight_decay": 0, "chunk": 0, "projection_hidden": 0, "projection_size": 1, "prototypes": 2,
    "prediction_hidden": 1, "redundancy": 0, "variance_weight": 0, "invariance_weight": 0, "covariance_weight": 0,
    "freeze_stages": 0, "image_size": 0, "probe_every": 0, "seed": 0,
}  # fmt: skip
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Options of `foveal pretrain`."""

    # Prepared sets; their training and unlabelled images are the pool.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Run folder to write, or to resume.
    out: Path
    # Self-supervised method; supcon also uses the labels of the pool.
    method: Literal["simclr", "supcon", "byol", "simsiam", "mocov3", "barlow_twins", "vicreg", "dino"] = "simclr"
    # Any timm model name, or our small_conv, strided_conv or residual_conv for images of 28-64 pixels.
    encoder: str = "tf_efficientnet_lite0"
    # Starting weights: random, imagenet, a run folder, or a .safetensors file in timm's keys.
    init: str = "random"
    # The first stages of the encoder (the stem is one) that keep their starting weights.
    freeze_stages: int = 0
    # Share of the learning rate from one stage to the one below it: 1 is the same rate for all.
    layer_decay: float = 1.0
    # Keep a running average of the encoder's weights with this momentum, and save that one; 0 saves the last weights.
    ema: float = 0.0
    # Recipe of random views: simclr, cifar, fundus, mild, digits, jitter, plain or byol; auto goes by the images.
    views: str = "auto"
    # Write a sheet of random views, OUT-views.jpg, and stop.
    preview: bool = False
    # Pixels the network sees; 0 takes the size of the prepared images.
    image_size: int = 0
    # Passes over the pool.
    epochs: int = 100
    # Time to spend, such as 90m or 2h: the number of epochs is measured and chosen, in place of --epochs.
    budget: str | None = None
    # Measure what suits the machine and half a minute of steps, print speeds, memory and the time to the end, and stop.
    plan: bool = False
    # Images per step, over all processes; each gives two views.
    batch_size: int = 128
    # Images of a step that a process holds at once, or whole: gradients stay those of the batch, but for BatchNorm.
    micro_batch: str = "auto"
    # Optimiser; lars is meant for batches of 1,024 and more.
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    # Peak learning rate; by default adamw 0.001, sgd 0.12 and lars 0.6, times batch size / 256 (adamw: its root).
    learning_rate: float | None = None
    # Weight decay of matrices and kernels; by default adamw 0.01, sgd 0.0005, lars 0.000001.
    weight_decay: float | None = None
    # Share of all steps in which the learning rate rises to its peak.
    warm_up: float = 0.05
    # Images of one patient: ignore (simclr), mask (they do not repel each other) or positive (they attract each other).
    same_group: Literal["ignore", "mask", "positive"] | None = None
    # Take the positive out of the denominator (decoupled contrastive learning).
    decoupled: bool = False
    # Columns of the similarity matrix that are held at once; 0 holds it whole; simclr and supcon 0.
    chunk: int | None = None
    # Temperature of the loss; lower counts near neighbours more; simclr and mocov3 0.2, supcon and dino 0.1.
    temperature: float | None = None
    # Hidden width of the projection; simclr and supcon 0, which takes that of the features; byol 1024, others 2048.
    projection_hidden: int | None = None
    # Dimensions in which views are compared; simclr and supcon 128, byol, mocov3 and dino 256, others 2048.
    projection_size: int | None = None
    # Hidden width of the prediction; byol 1024, simsiam 512, mocov3 2048.
    prediction_hidden: int | None = None
    # Momentum of the target network at the start; byol and mocov3 0.99, dino 0.996.
    momentum: float | None = None
    # Weight of the off-diagonal part; barlow_twins 0.005.
    redundancy: float | None = None
    # Weight of the variance part; vicreg 25.
    variance_weight: float | None = None
    # Weight of the invariance part; vicreg 25.
    invariance_weight: float | None = None
    # Weight of the covariance part; vicreg 1.
    covariance_weight: float | None = None
    # Number of prototypes; dino 1024.
    prototypes: int | None = None
    # Temperature of the teacher; dino 0.04.
    teacher_temperature: float | None = None
    # A prepared set with labels on which the encoder is judged now and then: its training and validation parts.
    probe: Path | None = None
    # Epochs between two probes; 0 makes at most ten in a run.
    probe_every: int = 0
    # Arithmetic; auto measures, and takes bf16 where it is faster.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Order of pixels in memory; auto measures.
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    # Compile the encoder; auto measures on a GPU, where the run is long enough to pay for it.
    compile: Literal["auto", "yes", "no"] = "auto"
    # Where views are made; auto measures on a GPU.
    views_on: Literal["auto", "cpu", "device"] = "auto"
    # Go on although images of a validation or test part stand in the pool.
    allow_leaks: bool = False
    # Send the metrics to tensorboard (RUN/tensorboard) or mlflow (a SQLite file beside RUN) as well.
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    # auto, cpu, cuda or mps.
    device: str = "auto"
    # Decides initial weights, order and views.
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("pretrain needs at least one prepared set")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"--epochs must be at least 1 and --batch-size at least 2: {self.epochs}, {self.batch_size}"
            )
        if not re.fullmatch(r"auto|whole|[1-9][0-9]*", self.micro_batch):
            raise ValueError(f"--micro-batch {self.micro_batch}: expected auto, whole or a number of images")
        for name in ("temperature", "teacher_temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")
        for name, low, high in (("warm_up", 0, 1), ("ema", 0, 1), ("momentum", 0, 1)):
            value = getattr(self, name)
            if value is not None and not low <= value < high:
                raise ValueError(f"--{name.replace('_', '-')} must be from {low} to below {high}, got {value}")
        for name, low in LOWEST.items():
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {low}, got {value}")
        if self.learning_rate == 0:
            raise ValueError("--learning-rate 0 learns nothing: give a rate above 0, or leave it out")
        if self.optimiser == "lars" and self.weight_decay == 0:
            raise ValueError("--optimiser lars adapts its step by the weight decay: give one above 0, such as 1e-6")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"--layer-decay must be above 0 and at most 1, got {self.layer_decay}")
        if self.freeze_stages and self.init == "random":
            raise ValueError(
                "--freeze-stages keeps starting weights, and random ones know nothing: give --init imagenet, a run or "
                "a file, or leave it out"
            )
        if self.probe_every and self.probe is None:
            raise ValueError("--probe-every counts epochs between probes, and needs --probe DATA")
        if self.views != "auto":
            recipe_pair(self.views)
        if self.budget is not None:
            seconds_of(self.budget)


def seconds_of(budget: str) -> float:
    """Seconds of a time such as 45s, 90m, 2h, 1.5d."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", budget.strip())
    if match is None or not float(match[1]) > 0:
        raise ValueError(f"--budget {budget}: expected a time such as 90m, 2h or 1.5d")
    return float(match[1]) * SECONDS[match[2]]
