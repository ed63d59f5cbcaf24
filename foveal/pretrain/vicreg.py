"""VICReg (Bardes, Ponce & LeCun 2022, https://arxiv.org/abs/2105.04906): two views agree, dimensions vary and differ.

view -> encoder -> features h [B, D] -> projection z [B, d] -> invariance, variance and covariance; not normalised
"""

from torch import Tensor, nn

from foveal.losses.without_negatives import vicreg
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, TwoViews

HIDDEN, SIZE = 2048, 2048  # section 4.2 has 8192 for both, for ResNet-50 on ImageNet
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # section 4.2


class VICReg(TwoViews):
    """Each view alone is kept from collapsing. The loss depends on the lengths of the vectors: no bounds."""

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__(encoder, ProjectionHead(features, HIDDEN, SIZE, layers=3, batchnorm=True))

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The loss of z1, z2."""
        z1, z2 = parts
        return vicreg(z1, z2, INVARIANCE, VARIANCE, COVARIANCE), facts_of(z1, z2)
