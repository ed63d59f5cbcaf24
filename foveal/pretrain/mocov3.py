"""MoCo v3 (Chen, Xie & He 2021, https://arxiv.org/abs/2104.02057): find the slow average's key of the other view.

view -> encoder -> features h [B, D] -> projection -> prediction q [B, d] -> InfoNCE with the keys of the batch
keys: a slow average of encoder and projection, without gradient and without prediction; no queue
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.infonce import infonce, infonce_chance, infonce_floor
from foveal.nets.average import rising_momentum, target_of, update_average
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of


@dataclass(frozen=True, kw_only=True)
class MoCoV3Config:
    """What MoCo v3 adds to pre-training; its authors have hidden 4096 (both), size 256, momentum 0.99 rising to 1."""

    temperature: float = 0.2
    projection_hidden: int = 2048
    projection_size: int = 256
    prediction_hidden: int = 2048
    momentum: float = 0.99


class MoCoV3(nn.Module):
    """Encoder, projection, prediction, and the network of the keys; the loss is InfoNCE times 2 t."""

    uses_labels = False
    contrast = None

    def __init__(self, encoder: nn.Module, features: int, config: MoCoV3Config) -> None:
        super().__init__()
        size = config.projection_size
        self.encoder = encoder
        self.projection = ProjectionHead(features, config.projection_hidden, size, batchnorm=True, last_batchnorm=True)
        self.prediction = ProjectionHead(size, config.prediction_hidden, size, batchnorm=True)
        self.target_encoder = target_of(encoder)
        self.target_projection = target_of(self.projection)
        self.config = config

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, ...]:
        """Two views [B, C, s, s] of the same images -> queries q1, q2 and keys k1, k2 [B, d]."""
        both = torch.cat([view1, view2])
        q1, q2 = self.prediction(self.projection(self.encoder(both))).chunk(2)
        with torch.no_grad():
            k1, k2 = self.target_projection(self.target_encoder(both)).chunk(2)
        return q1, q2, k1, k2

    def loss(self, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over both directions, times 2 t, and what is worth watching; nothing waits for the device."""
        q1, q2, k1, k2 = parts
        temperature = self.config.temperature
        return 2 * temperature * (infonce(q1, k2, temperature) + infonce(q2, k1, temperature)), facts_of(q1, q2)

    def after_step(self, progress: float) -> None:
        """Move the network of the keys a little; ever less as progress goes from 0 to 1."""
        momentum = rising_momentum(self.config.momentum, progress)
        update_average(self.target_encoder, self.encoder, momentum)
        update_average(self.target_projection, self.projection, momentum)

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """The lowest loss possible for N pairs, and that of equal keys."""
        scale = 4 * self.config.temperature
        return scale * infonce_floor(pairs, self.config.temperature), scale * infonce_chance(pairs)
