"""Barlow Twins (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230): two views agree, dimensions are not redundant.

view -> encoder -> features h [B, D] -> projection z [B, d] -> the correlation of both views' dimensions is the identity
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.barlow_twins import barlow_twins
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsConfig:
    """What Barlow Twins adds to pre-training; the paper has hidden 8192, size 8192, redundancy 0.005."""

    projection_hidden: int = 2048
    projection_size: int = 2048
    redundancy: float = 0.005


class BarlowTwins(nn.Module):
    """Encoder and a wide projection; the loss compares dimensions over the batch, not images."""

    uses_labels = False
    contrast = None

    def __init__(self, encoder: nn.Module, features: int, config: BarlowTwinsConfig) -> None:
        super().__init__()
        hidden, size = config.projection_hidden, config.projection_size
        self.encoder = encoder
        self.projection = ProjectionHead(features, hidden, size, layers=3, batchnorm=True)
        self.config = config

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, ...]:
        """Two views [B, C, s, s] of the same images -> embeddings z1, z2 [B, d]."""
        z1, z2 = self.projection(self.encoder(torch.cat([view1, view2]))).chunk(2)
        return z1, z2

    def loss(self, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of z1, z2, and what is worth watching; nothing waits for the device."""
        z1, z2 = parts
        return barlow_twins(z1, z2, self.config.redundancy), facts_of(z1, z2)

    def after_step(self, progress: float) -> None:
        """Nothing follows a step."""

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """None: the value where nothing is learned depends on the dimensions and the batch."""
        return None
