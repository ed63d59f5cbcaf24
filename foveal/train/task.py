"""A training task: options with every `auto` resolved, and starting weights that are known to fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from foveal.augment.views import NetworkInput
from foveal.console import warn
from foveal.errors import FovealError
from foveal.hardware import bf16_support, free_memory
from foveal.losses.grading import LOSSES, GradingLoss
from foveal.nets.encoder import create_encoder, feature_size, freeze_stages, takes_any_size
from foveal.nets.memory import PEAK, bytes_of_learning, kept_bytes
from foveal.nets.weights import load_encoder_weights
from foveal.sets.records import PreparedSet
from foveal.train.options import TrainConfig
from foveal.train.start import Start, start_from

MIN_BATCH, MIN_SIZE = 4, 64  # images, pixels: smaller ones are no good advice
SMALL_BATCH = 16  # images: the statistics of smaller batches vary by more than a quarter of their size
NEW_RATE, TUNE_RATE = 1e-3, 4e-4  # learning rates: for a linear probe or random weights, and for fine-tuning


@dataclass(frozen=True, kw_only=True)
class Task:
    """config: without `auto`. features: the encoder's number of features."""

    config: TrainConfig
    prepared: PreparedSet
    spec: NetworkInput
    features: int
    device: torch.device

    @property
    def loss(self) -> GradingLoss:
        """The grading loss."""
        return LOSSES[self.config.loss]

    @property
    def ordered(self) -> bool:
        """Whether the classes are grades, in order."""
        return bool(self.prepared.card["task"] == "grading")


def set_up(config: TrainConfig, prepared: PreparedSet, device: torch.device) -> Task:
    """Resolve the options and load the starting weights once; FovealError if anything does not fit.

    Nothing is written, so a wrong option leaves no folder behind.
    """
    start = start_from(config.init, config.encoder, config.image_size, prepared)
    config = resolved(config, prepared, start, device)
    encoder = create_encoder(config.encoder, prepared.channels, config.image_size)
    if config.freeze_stages:
        freeze_stages(encoder, config.freeze_stages)
    load_encoder_weights(encoder, config.encoder, config.init)
    check_memory(config, encoder, prepared.channels, device)
    features = feature_size(encoder)
    return Task(config=config, prepared=prepared, spec=start.spec, features=features, device=device)


def check_memory(config: TrainConfig, encoder: nn.Module, channels: int, device: torch.device) -> None:
    """FovealError if a step does not fit into the free memory; it names a batch and an image size that would."""
    if config.freeze:
        return
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    images = min(config.batch_size, config.micro_batch or config.batch_size)
    pixels = torch.zeros(2, channels, config.image_size, config.image_size)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16")
    each = PEAK * kept_bytes(encoder.train(), (pixels.to(memory_format=torch.channels_last),), autocast)
    room = free - bytes_of_learning(encoder)
    if images * each <= room:
        return
    fitting, size = int(room / each), int(config.image_size * (room / each / images) ** 0.5) // 32 * 32
    fixes = [f"choose --micro-batch {fitting}, or --batch-size {fitting}"] if fitting >= MIN_BATCH else []
    fixes += [f"prepare images of {size} px"] if size >= MIN_SIZE else []
    raise FovealError(
        "memory.exhausted",
        f"{images} images of {config.image_size} px need about {(free - room + images * each) / 2**30:.1f} GiB with "
        f"{config.encoder}, and {free / 2**30:.1f} GiB are free",
        fix=", or ".join(fixes) or "choose a smaller --encoder",
    )


def resolved(config: TrainConfig, prepared: PreparedSet, start: Start, device: torch.device) -> TrainConfig:
    """Replace every `auto` that applies to this task by its value; FovealError for a conflict with the set."""
    size = start.spec.image_size
    config = _with_loss(replace(config, encoder=start.encoder, image_size=size), prepared)
    if config.grow_from > size or (config.grow_from and not takes_any_size(config.encoder)):
        what = f"--grow-from {config.grow_from} cannot be combined with {config.encoder} and --image-size {size}"
        expected = "a smaller size than --image-size, and an encoder that takes any size"
        raise FovealError("option.conflict", what, expected=expected)
    if config.precision == "auto":
        config = replace(config, precision="bf16" if bf16_support(device) == "matrix" else "fp32")
    if config.learning_rate is None:
        config = replace(config, learning_rate=NEW_RATE if config.freeze or config.init == "random" else TUNE_RATE)
    if config.views == "auto" and not config.freeze:
        other = "digits" if prepared.channels == 1 else "plain"
        config = replace(config, views="mild" if prepared.card["fundus"] else other)
    if config.batch_norm == "auto" and not config.freeze:
        small = (config.micro_batch or config.batch_size) < SMALL_BATCH
        # Running statistics lag behind the weights, which makes a grader much worse in short runs.
        config = replace(config, batch_norm="freeze" if small and config.init != "random" else "re-estimate")
    return config


def _with_loss(config: TrainConfig, prepared: PreparedSet) -> TrainConfig:
    """Resolve the loss, and the class weights and cutoffs that depend on it."""
    graded = prepared.card["task"] == "grading"
    name = ("ordinal" if graded else "cross_entropy") if config.loss == "auto" else config.loss
    loss = LOSSES[name]
    if loss.ordered and not graded:
        what = f"--loss {name} needs ordered grades, but the classes of {prepared.path} have no order"
        raise FovealError("option.conflict", what, fix="leave out --loss")
    weights, cutoffs = config.class_weights, config.cutoffs
    if weights == "auto":
        weights = "none" if loss.ordered or config.sampling != "natural" else "balanced"
    if cutoffs == "auto":
        cutoffs = "fitted" if loss.form == "regression" else "half-way"
    if cutoffs == "fitted" and loss.decision == "most_probable":
        what = f"--cutoffs fitted has no effect with --loss {name}, which chooses the most probable class"
        raise FovealError("option.conflict", what, fix="leave out --cutoffs")
    if config.sampling != "natural" and weights != "none":
        warn(f"--sampling {config.sampling} and --class-weights {weights} both favour rare classes; use one of them")
    return replace(config, loss=name, class_weights=weights, cutoffs=cutoffs)
