"""Barlow Twins (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230): two views agree, dimensions are not redundant.

view -> encoder -> features h [B, D] -> projection z [B, d] -> the correlation of both views' dimensions is the identity
"""

from torch import Tensor, nn

from foveal.losses.without_negatives import barlow_twins
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, TwoViews

HIDDEN, SIZE = 2048, 2048  # section 2.2 has 8192 for both, for ResNet-50 on ImageNet
REDUNDANCY = 0.005  # section 2.2: weight of the off-diagonal part of the loss


class BarlowTwins(TwoViews):
    """The loss compares dimensions over the batch, not images. It depends on their number and the batch: no bounds."""

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__(encoder, ProjectionHead(features, HIDDEN, SIZE, layers=3, batchnorm=True))

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The loss of z1, z2."""
        z1, z2 = parts
        return barlow_twins(z1, z2, REDUNDANCY), facts_of(z1, z2)
