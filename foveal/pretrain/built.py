"""A method as it is trained: on its device, with its optimiser, alone or beside other processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from foveal.config import field_names
from foveal.nets.batchnorm import synchronise
from foveal.nets.depthwise import quicken_depthwise
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.stages import freeze_stages, learning_rate_scales
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.resolve import METHODS
from foveal.schedule import build_optimiser, parameter_groups


@dataclass(frozen=True)
class Built:
    """A method, the module whose forward pass is called (itself, or under DistributedDataParallel), its optimiser."""

    method: Any
    trained: nn.Module
    optimiser: torch.optim.Optimizer
    still: list[nn.Module]  # normalisation layers of frozen stages

    def training_mode(self) -> None:
        """Training mode for all but the frozen stages, whose running statistics stand still."""
        self.trained.train()
        for module in self.still:
            module.eval()


def build(config: PretrainConfig, channels: int, encoder: nn.Module, device: torch.device, world: int) -> Built:
    """The method around `encoder`, ready to be trained."""
    assert config.learning_rate is not None and config.weight_decay is not None
    method = build_method(config, channels, encoder).to(device)
    if world > 1:
        synchronise(method)
    encoders = [child for name, child in method.named_children() if name in ("encoder", "target_encoder")]
    still = [norm for each in encoders for norm in freeze_stages(each, config.freeze_stages)]
    scales = learning_rate_scales(encoder, config.layer_decay, "encoder.") if config.layer_decay < 1 else None
    groups = parameter_groups(method, config.weight_decay, scales)
    optimiser = build_optimiser(config.optimiser, groups, config.learning_rate)
    trained = DistributedDataParallel(method) if world > 1 else method
    if config.compile == "yes":
        method.encoder.compile()
    return Built(method, trained, optimiser, still)


def build_method(config: PretrainConfig, channels: int, encoder: torch.nn.Module | None = None) -> Any:
    """The method with its encoder (a new one when none is given), in the memory format of the config."""
    method_class, method_config = METHODS[config.method]
    if encoder is None:
        encoder = create_encoder(config.encoder, channels, config.image_size)
    options = method_config(**{name: getattr(config, name) for name in field_names(method_config)})
    quicken_depthwise(encoder)
    method: torch.nn.Module = method_class(encoder, feature_size(encoder), options)
    last = config.memory_format != "contiguous"
    memory_format = torch.channels_last if last else torch.contiguous_format
    return method.to(memory_format=memory_format)
