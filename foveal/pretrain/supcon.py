"""SupCon (Khosla et al. 2020, https://arxiv.org/abs/2004.11362): views of all images of one label attract.

view -> encoder -> features h [B, D] -> projection z [B, d] -> SimCLR's loss with every image of the label a positive

An image without a label comes with an identity of its own: it is its other view's positive and nobody else's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.ntxent import drawn_bounds
from foveal.losses.supcon import supcon
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.faults import Contrast
from foveal.pretrain.health import facts_of


@dataclass(frozen=True, kw_only=True)
class SupConConfig:
    """What SupCon adds to pre-training; the paper has temperature 0.1, hidden as wide as the features, size 128."""

    temperature: float = 0.1
    projection_hidden: int = 0
    projection_size: int = 128
    chunk: int = 0


class SupCon(nn.Module):
    """Encoder and projection; the loss is L_out of both views."""

    uses_labels = True

    def __init__(self, encoder: nn.Module, features: int, config: SupConConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = ProjectionHead(features, config.projection_hidden, config.projection_size)
        self.config = config
        self.contrast = Contrast(config.temperature, "positive")

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, ...]:
        """Two views [B, C, s, s] of the same images -> embeddings z1, z2 [B, d]."""
        z1, z2 = self.projection(self.encoder(torch.cat([view1, view2]))).chunk(2)
        return z1, z2

    def loss(self, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of z1, z2 with labels int64 [B], and what is worth watching; nothing waits for the device."""
        z1, z2 = parts
        if identity is None:
            raise ValueError("--method supcon learns from labels, and none were given")
        facts = facts_of(z1, z2)
        facts["loss_floor"], facts["loss_chance"] = drawn_bounds(identity, self.config.temperature)
        return supcon(z1, z2, identity, self.config.temperature, self.config.chunk), facts

    def after_step(self, progress: float) -> None:
        """Nothing follows a step."""

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """None: the bounds depend on the labels of a batch, and come with its facts."""
        return None
