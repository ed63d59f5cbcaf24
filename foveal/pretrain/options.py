"""Options of `foveal pretrain`, and what their `auto` values become.

A method's own options have their defaults in the method's file; here they are None until `resolve` fills them in, so
that an option which the chosen method does not know is an error and not a silence.
"""

from __future__ import annotations

import math
import re
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from foveal.augment.recipes import RECIPES, recipe_pair
from foveal.config import field_names, read_toml
from foveal.data.records import PreparedSet
from foveal.nets.encoder import create_encoder, feature_size
from foveal.pretrain.barlow_twins import BarlowTwins, BarlowTwinsConfig
from foveal.pretrain.byol import BYOL, BYOLConfig
from foveal.pretrain.dino import DINO, DINOConfig
from foveal.pretrain.mocov3 import MoCoV3, MoCoV3Config
from foveal.pretrain.simclr import SimCLR, SimCLRConfig
from foveal.pretrain.simsiam import SimSiam, SimSiamConfig
from foveal.pretrain.supcon import SupCon, SupConConfig
from foveal.pretrain.vicreg import VICReg, VICRegConfig

METHODS: dict[str, tuple[Any, Any]] = {
    "simclr": (SimCLR, SimCLRConfig),
    "supcon": (SupCon, SupConConfig),
    "byol": (BYOL, BYOLConfig),
    "simsiam": (SimSiam, SimSiamConfig),
    "mocov3": (MoCoV3, MoCoV3Config),
    "barlow_twins": (BarlowTwins, BarlowTwinsConfig),
    "vicreg": (VICReg, VICRegConfig),
    "dino": (DINO, DINOConfig),
}
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
    # Any timm model name, or small_conv or strided_conv for images of 28-64 pixels.
    encoder: str = "tf_efficientnet_lite0"
    # Starting weights: random, imagenet, a run folder, or a .safetensors file in timm's keys.
    init: str = "random"
    # The first stages of the encoder (the stem is one) that keep their starting weights.
    freeze_stages: int = 0
    # Share of the learning rate from one stage to the one below it: 1 is the same rate for all.
    layer_decay: float = 1.0
    # Keep a running average of the encoder's weights with this momentum, and save that one; 0 saves the last weights.
    ema: float = 0.0
    # Recipe of random views: simclr, cifar, fundus, mild, digits, plain or byol; auto chooses by the kind of images.
    views: str = "auto"
    # Write a sheet of random views, OUT-views.jpg, and stop.
    preview: bool = False
    # Pixels the network sees; 0 takes the size of the prepared images.
    image_size: int = 0
    # Passes over the pool.
    epochs: int = 100
    # Time to spend, such as 90m or 2h: the number of epochs is measured and chosen, in place of --epochs.
    budget: str | None = None
    # Measure for half a minute, print speeds, memory and the time that the run would take, and stop.
    plan: bool = False
    # Images per step, over all processes; each gives two views.
    batch_size: int = 128
    # Images of a step that a process holds at once, a number or whole; gradients stay those of the whole batch (but for
    # BatchNorm, whose statistics are those of what is held).
    micro_batch: str = "auto"
    # Optimiser; lars is meant for batches of 1,024 and more.
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    # Peak learning rate; by default adamw 0.001, sgd 0.12 and lars 0.6, times batch size / 256 (adamw: its root).
    learning_rate: float | None = None
    # Weight decay of matrices and kernels; by default adamw 0.01, sgd 0.0005, lars 0.000001.
    weight_decay: float | None = None
    # Share of all steps in which the learning rate rises to its peak.
    warm_up: float = 0.05
    # Images of one patient: ignore (strangers), mask (not each other's negatives) or positive (drawn together).
    same_group: Literal["ignore", "mask", "positive"] | None = None
    # Take the positive out of the denominator (decoupled contrastive learning).
    decoupled: bool | None = None
    # Columns of the similarity matrix that are held at once; 0 holds it whole.
    chunk: int | None = None
    # Temperature of the loss; lower makes near neighbours count more.
    temperature: float | None = None
    # Hidden width of the projection; 0 takes the encoder's number of features.
    projection_hidden: int | None = None
    # Dimensions in which views are compared.
    projection_size: int | None = None
    # Hidden width of the prediction (byol, simsiam, mocov3).
    prediction_hidden: int | None = None
    # Momentum of the target network at the start (byol, mocov3, dino).
    momentum: float | None = None
    # Weight of the off-diagonal part (barlow_twins).
    redundancy: float | None = None
    # Weight of the variance part (vicreg).
    variance_weight: float | None = None
    # Weight of the invariance part (vicreg).
    invariance_weight: float | None = None
    # Weight of the covariance part (vicreg).
    covariance_weight: float | None = None
    # Number of prototypes (dino).
    prototypes: int | None = None
    # Temperature of the teacher (dino).
    teacher_temperature: float | None = None
    # A prepared set with labels on which the encoder is judged now and then: its training and validation parts.
    probe: Path | None = None
    # Epochs between two probes; 0 makes about ten in a run.
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
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"--layer-decay must be above 0 and at most 1, got {self.layer_decay}")
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


def resolve(config: PretrainConfig, sets: list[PreparedSet], world: int = 1) -> PretrainConfig:
    """Replace every value that is left open and need not be measured; an earlier run in `--out` gives the others.

    Raises ValueError for an option that the method does not know.
    """
    config = _remember(config, world)
    channels, size = sets[0].channels, config.image_size or sets[0].size
    views = config.views
    if views == "auto":
        colour = "fundus" if all(s.card["fundus"] for s in sets) else ("cifar" if size <= 64 else "simclr")
        views = "digits" if channels == 1 else colour
    assert views in RECIPES
    scale = config.batch_size / 256
    rates = {"adamw": 1e-3 * math.sqrt(scale), "sgd": 0.12 * scale, "lars": 0.6 * scale}
    decays = {"adamw": 0.01, "sgd": 5e-4, "lars": 1e-6}
    return replace(
        config, views=views, image_size=size, **_method_options(config, channels, size),
        learning_rate=rates[config.optimiser] if config.learning_rate is None else config.learning_rate,
        weight_decay=decays[config.optimiser] if config.weight_decay is None else config.weight_decay,
    )  # fmt: skip


def _remember(config: PretrainConfig, world: int) -> PretrainConfig:
    """What was measured when the run in `--out` began stays so when it goes on.

    A micro-batch as well, where it divides the share of a process; whether whole shares fit is asked again.
    """
    file = config.out / "config.toml"
    if not file.is_file():
        return config
    try:
        saved = read_toml(file, "pretrain")
    except ValueError:  # another verb's run, which `check_out` refuses
        return config
    known: dict[str, Any] = {
        name: saved[name] for name in MEASURED[:-1] if name in saved and getattr(config, name) == "auto"
    }
    micro = str(saved.get("micro_batch"))
    if config.micro_batch == "auto" and micro.isdigit() and config.batch_size // world % int(micro) == 0:
        known["micro_batch"] = micro
    if config.budget is not None and saved.get("budget") == config.budget:
        known["epochs"] = saved["epochs"]
    return replace(config, **known)


def _method_options(config: PretrainConfig, channels: int, size: int) -> dict[str, Any]:
    """The options of the method with its defaults; ValueError for one that another method has and this one lacks."""
    own = {field.name: field.default for field in fields(METHODS[config.method][1])}
    others = {name for _, options in METHODS.values() for name in field_names(options)} - set(own)
    for name in sorted(others):
        if getattr(config, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} means nothing to {config.method}; leave it out")
    values = {
        name: default if getattr(config, name) is None else getattr(config, name) for name, default in own.items()
    }
    assert MISSING not in values.values()
    if values.get("projection_hidden") == 0:
        values["projection_hidden"] = feature_size(create_encoder(config.encoder, channels, size))
    return values
