"""BYOL (Grill et al. 2020, https://arxiv.org/abs/2006.07733): predict the slow average's embedding of the other view.

view -> encoder -> features h [B, D] -> projection -> prediction q [B, d] -> the target's projection of the other view
target: a slow average of encoder and projection, without gradient and without prediction
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.cosine import cosine
from foveal.nets.average import rising_momentum, target_of, update_average
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of


@dataclass(frozen=True, kw_only=True)
class BYOLConfig:
    """What BYOL adds to pre-training; the paper has hidden 4096, size 256, momentum 0.996 rising to 1."""

    projection_hidden: int = 1024
    projection_size: int = 256
    prediction_hidden: int = 1024
    momentum: float = 0.99


class BYOL(nn.Module):
    """Encoder, projection, prediction, and the target network; the loss is a squared distance of unit vectors."""

    uses_labels = False
    contrast = None

    def __init__(self, encoder: nn.Module, features: int, config: BYOLConfig) -> None:
        super().__init__()
        size = config.projection_size
        self.encoder = encoder
        self.projection = ProjectionHead(features, config.projection_hidden, size, batchnorm=True)
        self.prediction = ProjectionHead(size, config.prediction_hidden, size, batchnorm=True)
        self.target_encoder = target_of(encoder)
        self.target_projection = target_of(self.projection)
        self.config = config

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, ...]:
        """Two views [B, C, s, s] of the same images -> predictions q1, q2 and targets t1, t2 [B, d]."""
        both = torch.cat([view1, view2])
        q1, q2 = self.prediction(self.projection(self.encoder(both))).chunk(2)
        with torch.no_grad():
            t1, t2 = self.target_projection(self.target_encoder(both)).chunk(2)
        return q1, q2, t1, t2

    def loss(self, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """0-8, the sum over both directions, and what is worth watching; nothing waits for the device."""
        q1, q2, t1, t2 = parts
        return cosine(q1, t2) + cosine(q2, t1), facts_of(q1, q2)

    def after_step(self, progress: float) -> None:
        """Move the target a little towards the network; ever less as progress goes from 0 to 1."""
        momentum = rising_momentum(self.config.momentum, progress)
        update_average(self.target_encoder, self.encoder, momentum)
        update_average(self.target_projection, self.projection, momentum)

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """None: without negatives the lowest loss, 0, is that of collapse as well."""
        return None
