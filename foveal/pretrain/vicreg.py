"""VICReg (Bardes, Ponce & LeCun 2022, https://arxiv.org/abs/2105.04906): two views agree, dimensions vary and differ.

view -> encoder -> features h [B, D] -> projection z [B, d] -> invariance, variance and covariance; not normalised
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.vicreg import vicreg
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of


@dataclass(frozen=True, kw_only=True)
class VICRegConfig:
    """What VICReg adds to pre-training; the paper has hidden 8192, size 8192, weights 25, 25 and 1."""

    projection_hidden: int = 2048
    projection_size: int = 2048
    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0


class VICReg(nn.Module):
    """Encoder and a wide projection; each view alone is kept from collapsing."""

    uses_labels = False
    contrast = None

    def __init__(self, encoder: nn.Module, features: int, config: VICRegConfig) -> None:
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
        config = self.config
        weights = (config.invariance_weight, config.variance_weight, config.covariance_weight)
        return vicreg(z1, z2, *weights), facts_of(z1, z2)

    def after_step(self, progress: float) -> None:
        """Nothing follows a step."""

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """None: the value where nothing is learned depends on the lengths of the vectors."""
        return None
