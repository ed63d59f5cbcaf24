"""The methods by name, and a method as it is trained: on its device, with its optimiser, alone or beside others."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from foveal.errors import FovealError
from foveal.given import Given
from foveal.nets.encoder import create_encoder, feature_size, freeze_stages, learning_rate_scales
from foveal.nets.layers import quicken_depthwise, synchronise
from foveal.pretrain.interface import TwoViews
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.simclr import MoCoV3, SimCLR, SupCon
from foveal.pretrain.without_negatives import BYOL, DINO, BarlowTwins, SimSiam, VICReg
from foveal.schedule import build_optimiser, parameter_groups

METHODS: dict[str, Any] = {
    "simclr": SimCLR, "supcon": SupCon, "byol": BYOL, "simsiam": SimSiam, "mocov3": MoCoV3,
    "barlow_twins": BarlowTwins, "vicreg": VICReg, "dino": DINO,
}  # fmt: skip


def method_of(name: str) -> Any:
    """The class of a method, or what a program gave in its place."""
    return name.given if isinstance(name, Given) else METHODS[name]


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
    groups = parameter_groups(method, config.weight_decay, learning_rate_scales(encoder, config.layer_decay))
    optimiser = build_optimiser(config.optimiser, groups, config.learning_rate)
    trained = DistributedDataParallel(method) if world > 1 else method
    if config.compile == "yes":
        method.encoder.compile()
    return Built(method, trained, optimiser, still)


def build_method(config: PretrainConfig, channels: int, encoder: nn.Module | None = None) -> Any:
    """The method with its encoder (a new one when none is given), channels last."""
    if encoder is None:
        encoder = create_encoder(config.encoder, channels, config.image_size)
    quicken_depthwise(encoder)
    options = [getattr(config, config.method)] if hasattr(config, config.method) else []
    method = method_of(config.method)(encoder, feature_size(encoder), *options)
    if not isinstance(method, TwoViews):
        what = f"method={config.method} gives a {type(method).__name__}"
        expected = "a function of (encoder, number of features) that gives a foveal.pretrain.interface.TwoViews"
        raise FovealError("method.object", what, expected=expected)
    return method.to(memory_format=torch.channels_last)
