"""SimSiam (Chen & He 2021, https://arxiv.org/abs/2011.10566): predict the other view's embedding, gradient stopped.

view -> encoder -> features h [B, D] -> projection z [B, d] -> prediction p [B, d] -> z of the other view, stopped
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.cosine import cosine
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of


@dataclass(frozen=True, kw_only=True)
class SimSiamConfig:
    """What SimSiam adds to pre-training; the paper has hidden 2048, size 2048, prediction hidden 512."""

    projection_hidden: int = 2048
    projection_size: int = 2048
    prediction_hidden: int = 512


class SimSiam(nn.Module):
    """Encoder, projection and a narrow prediction; no negatives and no second network."""

    uses_labels = False
    contrast = None

    def __init__(self, encoder: nn.Module, features: int, config: SimSiamConfig) -> None:
        super().__init__()
        size = config.projection_size
        self.encoder = encoder
        self.projection = ProjectionHead(
            features, config.projection_hidden, size, layers=3, batchnorm=True, last_batchnorm=True
        )
        self.prediction = ProjectionHead(size, config.prediction_hidden, size, batchnorm=True)
        self.config = config

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, ...]:
        """Two views [B, C, s, s] of the same images -> predictions p1, p2 and stopped embeddings z1, z2 [B, d]."""
        z = self.projection(self.encoder(torch.cat([view1, view2])))
        p1, p2 = self.prediction(z).chunk(2)
        z1, z2 = z.detach().chunk(2)
        return p1, p2, z1, z2

    def loss(self, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """0-2, the paper's loss plus 1, and what is worth watching; nothing waits for the device."""
        p1, p2, z1, z2 = parts
        return (cosine(p1, z2) + cosine(p2, z1)) / 4, facts_of(p1, p2)

    def after_step(self, progress: float) -> None:
        """Nothing follows a step."""

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """None: without negatives the lowest loss, 0, is that of collapse as well."""
        return None
