"""The interface of a method, and what methods have in common.

`forward` turns two views into embeddings, and `loss` those into a loss: a batch can be embedded in parts, in several
processes, and still has one loss.
"""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from foveal.pretrain.options import SameGroup

Parts = tuple[Tensor, ...]
Loss = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Contrast:
    """The contrastive loss of a method: NT-Xent, also with groups masked or positive (SupCon)."""

    temperature: float
    same_group: SameGroup = "ignore"

    def pairs(self, images: int, identity: Tensor | None) -> tuple[Tensor, Tensor]:
        """bool [2n, 2n] each: the vectors that attract an anchor, and those in its denominator."""
        place = torch.arange(2 * images)
        others = place[:, None] != place
        positives = ((place[:, None] - place) % images == 0) & others
        if self.same_group == "ignore":
            return positives, others
        assert identity is not None
        group = identity.cpu().repeat(2)
        same = group[:, None] == group
        return (positives, others & (~same | positives)) if self.same_group == "mask" else (same & others, others)


class TwoViews(nn.Module, ABC):
    """An encoder and a projection, and a loss of their embeddings of two views."""

    uses_labels: ClassVar[bool] = False
    contrast: Contrast | None = None  # of a contrastive loss: what is known of its right and wrong values

    def __init__(self, encoder: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projection = encoder, projection

    def forward(self, view1: Tensor, view2: Tensor) -> Parts:
        """Two views [B, C, s, s] of the same images -> embeddings z1, z2 [B, d]."""
        # One pass over both views: the encoder's batch statistics are those of all 2B pictures.
        z1, z2 = self.projection(self.encoder(torch.cat([view1, view2]))).chunk(2)
        return z1, z2

    @abstractmethod
    def loss(self, parts: Parts, identity: Tensor | None) -> Loss | Tensor:
        """The loss of the outputs of `forward`, alone or with facts to log. identity: int64 [B], equal in a group."""

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimiser; progress goes from 0 to 1."""

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """The lowest loss possible for so many pairs and that of equal vectors; None if they are not known."""
        return None


class SlowTarget(TwoViews):
    """A projection, and a prediction of the embeddings of a target: a slow average of encoder and projection."""

    def __init__(self, encoder: nn.Module, projection: nn.Module, prediction: nn.Module, momentum: float) -> None:
        super().__init__(encoder, projection)
        self.prediction, self.momentum = prediction, momentum
        self.target_encoder, self.target_projection = target_of(encoder), target_of(projection)

    def forward(self, view1: Tensor, view2: Tensor) -> Parts:
        """Two views [B, C, s, s] of the same images -> predictions q1, q2 and targets t1, t2 [B, d]."""
        both = torch.cat([view1, view2])
        q1, q2 = self.prediction(self.projection(self.encoder(both))).chunk(2)
        with torch.no_grad():
            t1, t2 = self.target_projection(self.target_encoder(both)).chunk(2)
        return q1, q2, t1, t2

    def after_step(self, progress: float) -> None:
        """Move the target a little towards the network, less and less as progress goes from 0 to 1."""
        momentum = rising_momentum(self.momentum, progress)
        update_average(self.target_encoder, self.encoder, momentum)
        update_average(self.target_projection, self.projection, momentum)


def target_of(source: nn.Module) -> nn.Module:
    """A copy of a network with the same weights, without gradients."""
    return copy.deepcopy(source).requires_grad_(False)


@torch.no_grad()
def update_average(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Update parameters in place to momentum * target + (1 - momentum) * source; copy buffers."""
    mine: list[Tensor] = list(target.parameters())
    if mine:
        torch._foreach_lerp_(mine, list(source.parameters()), 1 - momentum)
    for to, value in zip(target.buffers(), source.buffers(), strict=True):
        to.copy_(value)


def rising_momentum(start: float, progress: float) -> float:
    """Momentum along a cosine, from `start` at progress 0 to 1 at progress 1 (Grill et al. 2020, section 3.2)."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
