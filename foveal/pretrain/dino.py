"""DINO (Caron et al. 2021, https://arxiv.org/abs/2104.14294), with two global views and no small ones.

view -> encoder -> features h [B, D] -> head -> cosines with prototypes [B, K] -> the teacher's, of the other view
teacher: a slow average of encoder and head, without gradient, centred and sharpened
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveal.losses.dino import dino, move_centre
from foveal.nets.average import rising_momentum, target_of, update_average
from foveal.nets.heads import PrototypeHead
from foveal.pretrain.health import facts_of

CENTRE_MOMENTUM = 0.9  # section 3.1 and figure 7


@dataclass(frozen=True, kw_only=True)
class DINOConfig:
    """What DINO adds to pre-training; in the paper 0.1 and 0.04, hidden 2048, size 256, momentum 0.996."""

    temperature: float = 0.1
    teacher_temperature: float = 0.04
    projection_hidden: int = 2048
    projection_size: int = 256
    prototypes: int = 1024
    momentum: float = 0.996


class DINO(nn.Module):
    """Encoder and head, and the teacher; the loss is the cross-entropy of two distributions over prototypes."""

    uses_labels = False
    contrast = None

    def __init__(self, encoder: nn.Module, features: int, config: DINOConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = PrototypeHead(features, config.projection_hidden, config.projection_size, config.prototypes)
        self.target_encoder = target_of(encoder)
        self.target_head = target_of(self.head)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(config.prototypes))
        self.config = config

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, ...]:
        """Two views [B, C, s, s] of the same images -> student s1, s2 and teacher t1, t2 [B, K]."""
        both = torch.cat([view1, view2])
        s1, s2 = self.head(self.encoder(both)).chunk(2)
        with torch.no_grad():
            t1, t2 = self.target_head(self.target_encoder(both)).chunk(2)
        return s1, s2, t1, t2

    def loss(self, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean over both directions, and what is worth watching; in training the centre moves afterwards."""
        s1, s2, t1, t2 = parts
        sharpness = self.config.temperature, self.config.teacher_temperature
        loss = (dino(s1, t2, self.centre, *sharpness) + dino(s2, t1, self.centre, *sharpness)) / 2
        if self.training:
            move_centre(self.centre, torch.cat([t1, t2]), CENTRE_MOMENTUM)
        return loss, facts_of(s1, s2)

    def after_step(self, progress: float) -> None:
        """Move the teacher a little towards the student; ever less as progress goes from 0 to 1."""
        momentum = rising_momentum(self.config.momentum, progress)
        update_average(self.target_encoder, self.encoder, momentum)
        update_average(self.target_head, self.head, momentum)

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """None: log K, the value of uniform distributions, is that of a collapse as well."""
        return None
