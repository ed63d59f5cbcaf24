"""BYOL (Grill et al. 2020, https://arxiv.org/abs/2006.07733): predict the slow average's embedding of the other view.

view -> encoder -> features h [B, D] -> projection -> prediction q [B, d] -> the target's projection of the other view
"""

from torch import Tensor, nn

from foveal.losses.without_negatives import cosine
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, SlowTarget
from foveal.pretrain.options import BYOLOptions

HIDDEN, SIZE = 1024, 256  # section 3.3 has 4096 and 256, for ResNet-50 on ImageNet


class BYOL(SlowTarget):
    """The loss is a squared distance of unit vectors. Its lowest value, 0, is also that of collapse: no bounds."""

    def __init__(self, encoder: nn.Module, features: int, options: BYOLOptions) -> None:
        projection = ProjectionHead(features, HIDDEN, SIZE, batchnorm=True)
        prediction = ProjectionHead(SIZE, HIDDEN, SIZE, batchnorm=True)
        super().__init__(encoder, projection, prediction, options.momentum)

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """0-8, the sum over both directions."""
        q1, q2, t1, t2 = parts
        return cosine(q1, t2) + cosine(q2, t1), facts_of(q1, q2)
