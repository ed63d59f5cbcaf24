"""SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709): two views of an image attract, all others repel.

view -> encoder -> features h [B, D] -> projection z [B, d] -> NT-Xent over both views of the batch
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.dcl import decoupled, decoupled_chance, decoupled_floor
from foveal.losses.ntxent import SameGroup, drawn_bounds, masked_bounds, ntxent, ntxent_chance, ntxent_floor
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.faults import Contrast
from foveal.pretrain.health import facts_of


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig:
    """What SimCLR adds to pre-training."""

    temperature: float = 0.2
    projection_hidden: int = 0
    projection_size: int = 128
    same_group: SameGroup = "ignore"
    decoupled: bool = False
    chunk: int = 0

    def __post_init__(self) -> None:
        if self.decoupled and (self.same_group != "ignore" or self.chunk):
            raise ValueError("--decoupled knows neither --same-group nor --chunk; leave them out, or leave it out")


class SimCLR(nn.Module):
    """Encoder and projection; the loss is NT-Xent, or its decoupled form."""

    uses_labels = False

    def __init__(self, encoder: nn.Module, features: int, config: SimCLRConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = ProjectionHead(features, config.projection_hidden, config.projection_size)
        self.config = config
        self.contrast = Contrast(config.temperature, config.same_group, config.decoupled)

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, ...]:
        """Two views [B, C, s, s] of the same images -> embeddings z1, z2 [B, d]."""
        # One pass over both views: the encoder's batch statistics are those of all 2B pictures.
        z1, z2 = self.projection(self.encoder(torch.cat([view1, view2]))).chunk(2)
        return z1, z2

    def loss(self, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of z1, z2, and what is worth watching; nothing waits for the device."""
        z1, z2 = parts
        facts = facts_of(z1, z2)
        if self.config.decoupled:
            loss = decoupled(z1, z2, self.config.temperature)
        else:
            loss = ntxent(z1, z2, self.config.temperature, identity, self.config.same_group, self.config.chunk)
        if self.config.same_group != "ignore" and identity is not None:  # the bounds depend on who is in the batch
            bounds = masked_bounds if self.config.same_group == "mask" else drawn_bounds
            facts["loss_floor"], facts["loss_chance"] = bounds(identity, self.config.temperature)
        return loss, facts

    def after_step(self, progress: float) -> None:
        """Nothing follows a step."""

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """The lowest loss possible for N pairs, and that of equal vectors; None where a batch has its own (groups)."""
        if self.config.same_group != "ignore":
            return None
        if self.config.decoupled:
            return decoupled_floor(pairs, self.config.temperature), decoupled_chance(pairs)
        return ntxent_floor(pairs, self.config.temperature), ntxent_chance(pairs)
