"""Options of `foveal pretrain`; no torch is needed to read them.

Options of one method are a table of their own: `--simclr.temperature 0.5`, `[pretrain.simclr]` in a recipe,
`simclr={"temperature": 0.5}` in Python.
"""

import re
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foveal.augment.recipes import recipe_pair
from foveal.budget import seconds_of
from foveal.config import check, check_numbers, check_paths, flag, flat
from foveal.errors import FovealError
from foveal.given import Given

Method = Literal["simclr", "supcon", "byol", "simsiam", "mocov3", "barlow_twins", "vicreg"]
SameGroup = Literal["ignore", "mask", "positive"]
METHOD = "a class or a function of (encoder, features) that gives a foveal.pretrain.interface.TwoViews"
NO_PROBE = Path("none")
LOWEST = {"epochs": 1, "batch_size": 2, "image_size": 0, "freeze_stages": 0, "weight_decay": 0, "probe_every": 0,
          "seed": 0, "simclr.projection_hidden": 0, "simclr.projection_size": 1}  # fmt: skip
POSITIVE = ("learning_rate", "simclr.temperature", "supcon.temperature")


@dataclass(frozen=True, kw_only=True)
class SimCLROptions:
    """SimCLR (Chen et al. 2020)."""

    # Temperature of the loss; a lower one gives near neighbours more weight.
    temperature: float = 0.2
    # Width of the hidden layer of the projection; 0 uses the width of the features.
    projection_hidden: int = 0
    # Dimensions of the projection, in which views are compared.
    projection_size: int = 128
    # Images of one patient: ignore groups, mask (they do not repel each other), or positive (they attract each other).
    same_group: SameGroup = "ignore"


@dataclass(frozen=True, kw_only=True)
class SupConOptions:
    """SupCon (Khosla et al. 2020)."""

    # Temperature of the loss; a lower one gives near neighbours more weight.
    temperature: float = 0.1


@dataclass(frozen=True, kw_only=True)
class BYOLOptions:
    """BYOL (Grill et al. 2020)."""

    # Momentum of the target network at the first step; it rises to 1. The paper uses 0.996, for longer runs.
    momentum: float = 0.99


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Options of `foveal pretrain`."""

    ## What to learn
    # Prepared sets; their training and unlabelled images are the pool.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Self-supervised method; supcon also uses the labels of the pool.
    method: Method = "simclr"
    # Network: any timm model, or Foveal's small_conv, strided_conv or residual_conv for images of 28-64 pixels.
    encoder: str = "tf_efficientnet_lite0"
    # Starting weights: random, imagenet, a run folder, or a file of weights (`foveal weights FILE` says what it is).
    init: str = "random"
    # Keep a random first convolution if that of --init has another shape.
    random_stem: bool = False
    # Recipe of random views: simclr, cifar, fundus, cameras, mild, digits, jitter, plain or byol; auto fits the images.
    views: str = "auto"
    # Write a sheet of random views, OUT-views.jpg, and stop.
    preview: bool = False
    # Image size in pixels; 0 uses the size of the prepared images.
    image_size: int = 0
    # Labelled set whose training and validation parts measure the encoder during the run, or none. By default, labels
    # of the pool measure it before and after the run, if there are enough.
    probe: Path | None = None
    # Epochs between two probes; 0 means at most ten probes in a run.
    probe_every: int = 0

    ## How long
    # Number of epochs (passes over the pool).
    epochs: int = 100
    # Time to spend, such as 20m or 2h, in place of --epochs.
    budget: str | None = None
    # Take a few steps, print the speed, the memory and the time that the run would take, and stop; within a minute.
    plan: bool = False

    ## Where
    # Run folder to create, or to resume if training was interrupted.
    out: Path
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"
    # Also log to tensorboard (RUN/tensorboard), mlflow (a file beside RUN) or wandb (RUN/wandb).
    track: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()

    ## For experts
    # Images per step, over all processes; each image gives two views.
    batch_size: int = 128
    # Images of a batch to process at a time, to save memory, or whole. This changes results only with BatchNorm.
    micro_batch: str = "auto"
    # Optimiser; lars is meant for batches of 1,024 and more.
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    # Peak learning rate; by default adamw 0.001, sgd 0.12 and lars 0.6, times batch size / 256 (adamw: its root).
    learning_rate: float | None = None
    # Weight decay of matrices and kernels; by default adamw 0.01, sgd 0.0005, lars 0.000001.
    weight_decay: float | None = None
    # Share of all steps used for warm-up, in which the learning rate rises to its peak.
    warm_up: float = 0.05
    # Number of first stages to freeze; the stem is one.
    freeze_stages: int = 0
    # Train earlier stages more slowly: factor on the learning rate from each stage to the one before it; 1 is off.
    layer_decay: float = 1.0
    # Numerical precision: auto is bf16 if the hardware supports it, otherwise fp32.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Compile the encoder; this makes long runs on a GPU faster.
    compile: Literal["no", "yes"] = "no"
    # Continue although validation or test images were used, or would be used, for training.
    allow_leaks: bool = False
    # Random seed for everything random: splits, new weights, the order of the images, views and resamples.
    seed: int = 0

    simclr: SimCLROptions = SimCLROptions()
    supcon: SupConOptions = SupConOptions()
    byol: BYOLOptions = BYOLOptions()

    def __post_init__(self) -> None:
        check_paths(self.data, "pretrain DATA", "a prepared set")
        check_numbers(self, LOWEST, POSITIVE, ("warm_up", "byol.momentum"), ("layer_decay",))
        micro = re.fullmatch(r"auto|whole|[1-9][0-9]*", self.micro_batch)
        check(self, "micro_batch", micro is not None, "auto, whole or a number of images")
        if self.views != "auto":
            recipe_pair(self.views)
        made = self.method.given if isinstance(self.method, Given) else dict
        if not callable(made) or (hasattr(made, "state_dict") and not isinstance(made, type)):
            what = f"method={self.method} is an instance, which has its encoder already"
            raise FovealError("method.object", what, expected=METHOD)
        if self.budget is not None:
            seconds_of(self.budget)
        self._check_together()

    def _check_together(self) -> None:
        given = "give --init imagenet, a run or a file"
        usual = flat({field.name: field.default for field in fields(self)})
        values = flat({field.name: getattr(self, field.name) for field in fields(self)})
        changed = [name for name, value in values.items() if value != usual[name]]
        strange = [flag(name) for name in changed if name.partition(".")[0] in self.unused]
        for wrong, what, fix in (
            (self.optimiser == "lars" and self.weight_decay == 0,
             "--optimiser lars needs a --weight-decay above 0, which sets its step size", "give --weight-decay 1e-6"),
            (self.freeze_stages and (self.init == "random" or self.random_stem),
             "--freeze-stages would freeze random weights", f"{given} without --random-stem, or leave it out"),
            (self.random_stem and self.init == "random",
             "--random-stem with --init random: all weights are random", f"{given}, or leave out --random-stem"),
            (self.probe_every and self.probe in (None, NO_PROBE), "--probe-every needs --probe DATA", "give both"),
            (strange, f"--method {self.method} has no {', '.join(strange)}",
             "leave it out, or choose another --method"),
        ):  # fmt: skip
            if wrong:
                raise FovealError("option.conflict", what, fix=fix)

    @property
    def unused(self) -> list[str]:
        """The tables of the other methods, which do not belong to the configuration of a run."""
        tables = (field.name for field in fields(self) if is_dataclass(field.default))
        return [name for name in tables if name != self.method]
