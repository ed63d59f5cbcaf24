"""What a fit is made of: the grader, its optimiser, maybe a running average, and which of its layers stand still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveal.augment.views import NetworkInput
from foveal.losses.grading import LOSSES
from foveal.nets.average import target_of
from foveal.nets.batchnorm import statistics_layers
from foveal.nets.encoder import create_encoder, feature_size, freeze
from foveal.nets.heads import Grader
from foveal.nets.probes import mean_and_spread
from foveal.nets.stages import freeze_stages, learning_rate_scales
from foveal.nets.weights import load_encoder_weights
from foveal.predict.features import encode
from foveal.schedule import build_optimiser, parameter_groups
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet
from foveal.train.epoch import Judged, Scale
from foveal.train.learned import Learned
from foveal.train.options import TrainConfig


@dataclass(kw_only=True)
class Built:
    """`loaded`: what became of the starting weights, in words. `still`: layers kept in evaluation mode."""

    grader: Grader
    optimiser: torch.optim.Optimizer
    average: Grader | None
    loaded: str
    still: list[nn.Module]

    def __post_init__(self) -> None:
        self._learning = [parameter for parameter in self.grader.encoder.parameters() if parameter.requires_grad]

        modules = {module: name for name, module in self.grader.named_modules()}
        self._still = [modules[layer] for layer in self.still]

    def hold(self, grader: Grader) -> None:
        """Put the layers that stand still into evaluation mode, in this grader or in the average of it."""
        for name in self._still:
            grader.get_submodule(name).eval()

    def wake(self, whole: bool) -> None:
        """Training mode; where not `whole`, for the head alone."""
        self.grader.train()
        if not whole or not self._learning:
            self.grader.encoder.eval()
        for parameter in self._learning:
            parameter.requires_grad_(whole)
        self.hold(self.grader)


def build(
    config: TrainConfig, prepared: PreparedSet, learned: Learned, spec: NetworkInput, device: torch.device
) -> Built:
    """The grader with its starting weights, and all that trains it; ValueError where weights do not fit."""
    torch.manual_seed(config.seed)
    encoder = create_encoder(config.encoder, prepared.channels, config.image_size)
    loaded = load_encoder_weights(encoder, config.encoder, config.init)
    grader = Grader(
        encoder, feature_size(encoder), len(prepared.classes), LOSSES[config.loss].form, len(learned.second_classes)
    )
    grader.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    still = freeze_stages(encoder, config.freeze_stages) if config.freeze_stages else []
    if config.freeze:
        freeze(encoder)
    if config.batch_norm == "freeze":
        still = [*still, *statistics_layers(encoder)]
    scales = learning_rate_scales(encoder, config.layer_decay, "encoder.") if config.layer_decay < 1 else None
    groups = parameter_groups(grader, config.weight_decay, scales)
    assert config.learning_rate is not None
    optimiser = build_optimiser(config.optimiser, groups, config.learning_rate)
    average = target_of(grader) if config.ema else None
    return Built(grader=grader, optimiser=optimiser, average=average, loaded=loaded, still=still)


def standardise(
    built: Built, store: ImageStore, judged: Judged | None, spec: NetworkInput, device: torch.device
) -> Scale:
    """Features of a frozen encoder with mean 0 and spread 1; those of the validation part are laid into `judged`."""
    features = encode(built.grader.encoder, store, spec, device)
    centre, spread = mean_and_spread(features)
    if judged is not None:
        judged.features = (encode(built.grader.encoder, judged.store, spec, device) - centre) / spread
    return Scale(features=(features - centre) / spread, centre=centre, spread=spread)


def folded(grader: Grader, scale: Scale | None) -> dict[str, Tensor]:
    """The weights to keep: where features were standardised, that stands in the linear layers."""
    weights: dict[str, Any] = {key: value.clone() for key, value in grader.state_dict().items()}
    for head in ("head", "second_head"):
        if scale is not None and f"{head}.weight" in weights:
            weights[f"{head}.weight"] = weights[f"{head}.weight"] / scale.spread
            weights[f"{head}.bias"] = weights[f"{head}.bias"] - weights[f"{head}.weight"] @ scale.centre
    return weights
