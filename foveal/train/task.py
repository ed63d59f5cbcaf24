"""A training task: the start, options with every `auto` resolved, and the grader with its optimiser."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from foveal.augment.views import NetworkInput
from foveal.console import say, warn
from foveal.distributed import together
from foveal.errors import FovealError
from foveal.hardware import bf16_support, free_on, in_precision
from foveal.losses.grading import LOSSES, GradingLoss
from foveal.nets.encoder import create_encoder, feature_size, freeze_stages, learning_rate_scales, takes_any_size
from foveal.nets.heads import Grader
from foveal.nets.layers import statistics_layers, synchronise
from foveal.nets.memory import PEAK, bytes_of_learning, kept_bytes
from foveal.nets.weights import Origin, fitting_name, load_encoder_weights, normalisation_for
from foveal.runs import read_model
from foveal.schedule import build_optimiser, parameter_groups
from foveal.sets.records import PreparedSet
from foveal.train.learned import Learned
from foveal.train.options import TrainConfig

MIN_BATCH, MIN_SIZE = 4, 64  # images, pixels: smaller ones are no good advice
SMALL_BATCH = 16  # images: the statistics of smaller batches vary by more than a quarter of their size
NEW_RATE, TUNE_RATE = 1e-3, 4e-4  # learning rates: for a linear probe or random weights, and for fine-tuning
Scale = tuple[Tensor, Tensor]  # mean and spread [D] of the features of a frozen encoder


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training task: resolved options, data and starting weights."""

    config: TrainConfig  # without `auto`
    prepared: PreparedSet  # without the sources held out
    spec: NetworkInput
    features: int  # of the encoder
    device: torch.device
    weights: Origin
    abroad: pd.DataFrame | None = None  # labelled records of the sources held out

    def with_abroad(self, records: pd.DataFrame) -> pd.DataFrame:
        """These records and, after them, those of the sources held out, which are graded once, at the end."""
        return records if self.abroad is None else pd.concat([records, self.abroad], ignore_index=True)

    @property
    def loss(self) -> GradingLoss:
        """The grading loss."""
        return LOSSES[self.config.loss]

    @property
    def decision(self) -> str:
        """The rule that gives grades (readout/decisions.py): that of the loss, or half-way rounding on request."""
        plain = self.config.cutoffs == "half-way" and self.loss.decision != "most_probable"
        return "expected" if plain else self.loss.decision

    @property
    def ordered(self) -> bool:
        """Whether the classes are grades, in order."""
        return bool(self.prepared.card["task"] == "grading")


def set_up(config: TrainConfig, prepared: PreparedSet, device: torch.device) -> Task:
    """Resolve the options and load the starting weights once; FovealError if anything does not fit."""
    name, spec = start_from(config.init, config.encoder, config.image_size, prepared)
    config = resolved(replace(config, encoder=name, image_size=spec.image_size), prepared, device)
    encoder = create_encoder(config.encoder, prepared.channels, config.image_size)
    freeze_stages(encoder, config.freeze_stages)
    weights = load_encoder_weights(encoder, config.encoder, config.init, random_stem=config.random_stem)
    check_memory(config, encoder, prepared.channels, device)
    features = feature_size(encoder)
    return Task(config=config, prepared=prepared, spec=spec, features=features, device=device, weights=weights)


def check_memory(config: TrainConfig, encoder: nn.Module, channels: int, device: torch.device) -> None:
    """FovealError if a step does not fit into the free memory; it names a batch and an image size that would."""
    if config.freeze or (config.out / "checkpoint.pt").is_file():  # it did fit
        return
    free = free_on(device)
    images = min(config.batch_size, config.micro_batch or config.batch_size)
    pixels = torch.zeros(2, channels, config.image_size, config.image_size)
    autocast = in_precision(config.precision, torch.device("cpu"))
    each = PEAK * kept_bytes(encoder.train(), (pixels.to(memory_format=torch.channels_last),), autocast)
    if images * each <= (room := max(0, free - bytes_of_learning(encoder))):
        return
    fitting, size = int(room / each), int(config.image_size * (room / each / images) ** 0.5) // 32 * 32
    fixes = [f"choose --micro-batch {fitting}, or --batch-size {fitting}"] if fitting >= MIN_BATCH else []
    fixes += [f"prepare images of {size} px"] if size >= MIN_SIZE else []
    needed = f"{(bytes_of_learning(encoder) + images * each) / 2**30:.1f} GiB with {config.encoder}"
    what = f"{images} images of {config.image_size} px need about {needed}, and {free / 2**30:.1f} GiB are free"
    raise FovealError("memory.exhausted", what, fix=", or ".join(fixes) or "choose a smaller --encoder")


def resolved(config: TrainConfig, prepared: PreparedSet, device: torch.device) -> TrainConfig:
    """Replace every further `auto` that applies to this task by its value; FovealError for a conflict with the set."""
    config = _with_loss(config, prepared)
    start, size = config.grow_from, config.image_size
    if start > size or (start and not takes_any_size(config.encoder)):
        what = f"--grow-from {start} cannot be combined with {config.encoder} and --image-size {size}"
        expected = "a smaller size than --image-size, and an encoder that takes any size"
        raise FovealError("option.conflict", what, expected=expected)
    fundus, random = prepared.card["fundus"], config.init == "random"
    if config.learning_rate is None:
        config = replace(config, learning_rate=NEW_RATE if config.freeze or random else TUNE_RATE)
    # The mirror image of a retina is a retina; that of a digit is not a digit.
    values: dict[str, Any] = {"tta": "flips" if fundus else "none"}
    values["precision"] = "bf16" if bf16_support(device) == "matrix" else "fp32"
    if not config.freeze:
        values["views"] = "mild" if fundus else "digits" if prepared.channels == 1 else "plain"
        small = (config.micro_batch or config.batch_size) < SMALL_BATCH
        # Running statistics lag behind the weights, which makes a grader much worse in short runs.
        values["batch_norm"] = "freeze" if small and not random else "re-estimate"
    return replace(config, **{name: value for name, value in values.items() if getattr(config, name) == "auto"})


def _with_loss(config: TrainConfig, prepared: PreparedSet) -> TrainConfig:
    graded = prepared.card["task"] == "grading"
    name = ("ordinal" if graded else "cross_entropy") if config.loss == "auto" else config.loss
    if (loss := LOSSES[name]).ordered and not graded:
        what = f"--loss {name} needs ordered grades, but the classes of {prepared.path} have no order"
        raise FovealError("option.conflict", what, fix="leave out --loss")
    weights, cutoffs, most_probable = config.class_weights, config.cutoffs, loss.decision == "most_probable"
    if weights == "auto":
        weights = "none" if loss.ordered or config.sampling != "natural" else "balanced"
    if cutoffs == "auto":
        cutoffs = "fixed" if most_probable else "fitted"
    if cutoffs == "fitted" and most_probable:
        what = f"--cutoffs fitted has no effect with --loss {name}, which chooses the most probable class"
        raise FovealError("option.conflict", what, fix="leave out --cutoffs")
    if config.sampling != "natural" and weights != "none":
        warn(f"--sampling {config.sampling} and --class-weights {weights} both favour rare classes; use one of them")
    return replace(config, loss=name, class_weights=weights, cutoffs=cutoffs)


def start_from(init: str, encoder: str, image_size: int, prepared: PreparedSet) -> tuple[str, NetworkInput]:
    """The name of the encoder and the input it expects; FovealError if `--init` contradicts `--encoder` or the set."""
    before = read_model(Path(init)) if (Path(init) / "model.json").is_file() else {}
    name = before.get("encoder", "tf_efficientnet_lite0") if encoder == "auto" else encoder
    size = image_size or before.get("image_size") or prepared.size
    if not before:
        name = fitting_name(name, init)
        return name, NetworkInput(size, *normalisation_for(init, name, prepared.channels))
    if name != before["encoder"]:
        what = f"--encoder {name} does not match --init {init}, which contains {before['encoder']}"
        raise FovealError("option.conflict", what, fix="leave out --encoder")
    if before["channels"] != prepared.channels:
        expected = f"{prepared.channels}, as in {prepared.path}"
        what = f"--init {init} was trained on images with {before['channels']} channel(s)"
        raise FovealError("weights.mismatch", what, expected=expected, fix="prepare the set with or without --green")
    if (crop := before["preparation"]["crop"]) != prepared.card["options"]["crop"]:
        warn(f"{init} was trained on images with --crop {crop}, unlike {prepared.path}")
    return name, NetworkInput(size, tuple(before["mean"]), tuple(before["std"]))


def frozen_encoder(
    init: str, encoder: str, image_size: int, prepared: PreparedSet, seed: int, device: torch.device
) -> tuple[nn.Module, NetworkInput]:
    """An encoder with its starting weights on the device, for evaluation, and its input. seed: of random weights."""
    name, spec = start_from(init, encoder, image_size, prepared)
    torch.manual_seed(seed)
    network = create_encoder(name, prepared.channels, spec.image_size)
    loaded = load_encoder_weights(network, name, init)
    say(f"features of {init}: {name} ({loaded}) at {spec.image_size} px")
    return network.to(device).to(memory_format=torch.channels_last).eval(), spec


@dataclass(kw_only=True)
class Built:
    """A grader during training, with its optimiser."""

    grader: Grader
    optimiser: torch.optim.Optimizer
    loaded: Origin
    frozen: list[nn.Module]  # layers kept in evaluation mode

    def training_mode(self) -> None:
        """Put the grader into training mode, except for its frozen layers."""
        self.grader.train()
        if not any(parameter.requires_grad for parameter in self.grader.encoder.parameters()):
            self.grader.encoder.eval()
        for layer in self.frozen:
            layer.eval()


def build(task: Task, learned: Learned) -> Built:
    """Build the grader with its starting weights on the device, and its optimiser."""
    config, prepared = task.config, task.prepared
    torch.manual_seed(config.seed)
    encoder = create_encoder(config.encoder, prepared.channels, config.image_size)
    loaded = load_encoder_weights(encoder, config.encoder, config.init, random_stem=config.random_stem)
    grader = Grader(encoder, task.features, len(prepared.classes), task.loss.form, len(learned.second_classes))
    grader.to(task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if together():
        synchronise(grader)
    still = freeze_stages(encoder, config.freeze_stages)
    if config.freeze:
        encoder.requires_grad_(False).eval()
    if config.batch_norm == "freeze":
        still = [*still, *statistics_layers(encoder)]
    groups = parameter_groups(grader, config.weight_decay, learning_rate_scales(encoder, config.layer_decay))
    assert config.learning_rate is not None
    optimiser = build_optimiser(config.optimiser, groups, config.learning_rate)
    return Built(grader=grader, optimiser=optimiser, loaded=loaded, frozen=still)


def weights_to_keep(grader: Grader, scale: Scale | None) -> dict[str, Tensor]:
    """The weights of a grader of images; the scale of its features is folded into the linear layers."""
    weights = {key: value.clone() for key, value in grader.state_dict().items()}
    if scale is not None:
        centre, spread = scale
        for head in {"head", "second_head"} & {key.partition(".")[0] for key in weights}:
            weights[f"{head}.weight"] = weights[f"{head}.weight"] / spread
            weights[f"{head}.bias"] = weights[f"{head}.bias"] - weights[f"{head}.weight"] @ centre
    return weights
