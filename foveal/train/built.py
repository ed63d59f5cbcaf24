"""The grader in training: its optimiser, an optional running average of its weights, and its frozen layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.nets.encoder import create_encoder, freeze, freeze_stages, learning_rate_scales
from foveal.nets.heads import Grader
from foveal.nets.layers import statistics_layers
from foveal.nets.weights import load_encoder_weights, target_of
from foveal.schedule import build_optimiser, parameter_groups
from foveal.train.learned import Learned
from foveal.train.task import Task


@dataclass(kw_only=True)
class Built:
    """loaded: source of the starting weights, in words. frozen: names of layers kept in evaluation mode."""

    grader: Grader
    optimiser: torch.optim.Optimizer
    average: Grader | None
    loaded: str
    frozen: list[str]

    @property
    def judged(self) -> Grader:
        """The grader to evaluate: the running average if there is one."""
        return self.grader if self.average is None else self.average

    def training_mode(self, grader: Grader) -> None:
        """Put a grader into training mode, except for its frozen layers."""
        grader.train()
        if not any(parameter.requires_grad for parameter in self.grader.encoder.parameters()):
            grader.encoder.eval()
        for name in self.frozen:
            grader.get_submodule(name).eval()


def build(task: Task, learned: Learned) -> Built:
    """Build the grader with its starting weights on the device, and its optimiser."""
    config, prepared = task.config, task.prepared
    torch.manual_seed(config.seed)
    encoder = create_encoder(config.encoder, prepared.channels, config.image_size)
    loaded = load_encoder_weights(encoder, config.encoder, config.init)
    second = len(learned.second_classes)
    grader = Grader(encoder, task.features, len(prepared.classes), task.loss.form, second)
    grader.to(task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    still: list[nn.Module] = freeze_stages(encoder, config.freeze_stages) if config.freeze_stages else []
    if config.freeze:
        freeze(encoder)
    if config.batch_norm == "freeze":
        still = [*still, *statistics_layers(encoder)]
    scales = learning_rate_scales(encoder, config.layer_decay, "encoder.") if config.layer_decay < 1 else None
    groups = parameter_groups(grader, config.weight_decay, scales)
    assert config.learning_rate is not None
    return Built(
        grader=grader, optimiser=build_optimiser(config.optimiser, groups, config.learning_rate),
        average=target_of(grader) if config.ema else None, loaded=loaded,
        frozen=[name for name, module in grader.named_modules() if any(module is layer for layer in still)],
    )  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """Mean and spread [D] of the features of a frozen encoder."""

    centre: Tensor
    spread: Tensor

    def of(self, features: Tensor) -> Tensor:
        """Features [n, D] with mean 0 and spread 1."""
        return (features - self.centre) / self.spread


def weights_to_keep(grader: Grader, scale: Scale | None) -> dict[str, Tensor]:
    """The weights of a grader of images; the scale of its features is folded into the linear layers."""
    weights = {key: value.clone() for key, value in grader.state_dict().items()}
    for head in ("head", "second_head"):
        if scale is not None and f"{head}.weight" in weights:
            weights[f"{head}.weight"] = weights[f"{head}.weight"] / scale.spread
            weights[f"{head}.bias"] = weights[f"{head}.bias"] - weights[f"{head}.weight"] @ scale.centre
    return weights
