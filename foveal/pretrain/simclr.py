"""SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709): two views of an image attract, all others repel.

view -> encoder -> features h [B, D] -> projection z [B, d] -> NT-Xent over both views of the batch
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.ntxent import ntxent
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import alignment, uniformity


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig:
    """What SimCLR adds to pre-training."""

    temperature: float
    projection_hidden: int
    projection_size: int


class SimCLR(nn.Module):
    """Encoder and projection; `forward` gives the loss of two views and what is worth watching."""

    def __init__(self, encoder: nn.Module, features: int, config: SimCLRConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = ProjectionHead(features, config.projection_hidden, config.projection_size)
        self.temperature = config.temperature

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Two views [B, C, s, s] of the same images -> loss, {name: scalar tensor}; nothing waits for the device."""
        # One pass over both views: the encoder's batch statistics are those of all 2B pictures.
        z1, z2 = self.projection(self.encoder(torch.cat([view1, view2]))).chunk(2)
        loss = ntxent(z1, z2, self.temperature)
        with torch.no_grad():
            facts = {"alignment": alignment(z1, z2), "uniformity": uniformity(z1)}
        return loss, facts
