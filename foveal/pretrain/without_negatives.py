"""Methods that compare views of one image and need no negatives; each prevents collapse in its own way.

view -> encoder -> features h [B, D] -> projection z [B, d] -> in some methods a prediction -> the loss of both views
"""

import torch
from torch import Tensor, nn

from foveal.losses.without_negatives import barlow_twins, cosine, vicreg
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, SlowTarget, TwoViews
from foveal.pretrain.options import BYOLOptions


class BYOL(SlowTarget):
    """BYOL (Grill et al. 2020, https://arxiv.org/abs/2006.07733): predict a slow average's embedding.

    The loss is a squared distance of unit vectors. Its lowest value, 0, is also that of collapse: no bounds.
    """

    HIDDEN, SIZE = 1024, 256  # section 3.3 has 4096 and 256, for ResNet-50 on ImageNet

    def __init__(self, encoder: nn.Module, features: int, options: BYOLOptions) -> None:
        projection = ProjectionHead(features, self.HIDDEN, self.SIZE, batchnorm=True)
        prediction = ProjectionHead(self.SIZE, self.HIDDEN, self.SIZE, batchnorm=True)
        super().__init__(encoder, projection, prediction, options.momentum)

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """0-8, the sum over both directions."""
        q1, q2, t1, t2 = parts
        return cosine(q1, t2) + cosine(q2, t1), facts_of(q1, q2)


class SimSiam(TwoViews):
    """SimSiam (Chen & He 2021, https://arxiv.org/abs/2011.10566): predict the other view's embedding, gradient stopped.

    A narrow prediction in place of negatives. The lowest loss, 0, is also that of collapse: no bounds.
    """

    HIDDEN, SIZE, PREDICTION_HIDDEN = 2048, 2048, 512  # section 3

    def __init__(self, encoder: nn.Module, features: int) -> None:
        projection = ProjectionHead(features, self.HIDDEN, self.SIZE, layers=3, batchnorm=True, last_batchnorm=True)
        super().__init__(encoder, projection)
        self.prediction = ProjectionHead(self.SIZE, self.PREDICTION_HIDDEN, self.SIZE, batchnorm=True)

    def forward(self, view1: Tensor, view2: Tensor) -> Parts:
        """Two views [B, C, s, s] of the same images -> predictions p1, p2 and stopped embeddings z1, z2 [B, d]."""
        z = self.projection(self.encoder(torch.cat([view1, view2])))
        return *self.prediction(z).chunk(2), *z.detach().chunk(2)

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """0-2, the paper's loss plus 1."""
        p1, p2, z1, z2 = parts
        return (cosine(p1, z2) + cosine(p2, z1)) / 4, facts_of(p1, p2)


class BarlowTwins(TwoViews):
    """Barlow Twins (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230): dimensions agree and are not redundant.

    The loss compares dimensions over the batch, not images. It depends on their number and the batch: no bounds.
    """

    HIDDEN, SIZE = 2048, 2048  # section 2.2 has 8192 for both, for ResNet-50 on ImageNet
    REDUNDANCY = 0.005  # section 2.2: weight of the off-diagonal part of the loss

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__(encoder, ProjectionHead(features, self.HIDDEN, self.SIZE, layers=3, batchnorm=True))

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The loss of z1, z2."""
        z1, z2 = parts
        return barlow_twins(z1, z2, self.REDUNDANCY), facts_of(z1, z2)


class VICReg(TwoViews):
    """VICReg (Bardes, Ponce & LeCun 2022, https://arxiv.org/abs/2105.04906): views agree, dimensions vary and differ.

    Each view alone is kept from collapsing. The loss depends on the lengths of the vectors: no bounds.
    """

    HIDDEN, SIZE = 2048, 2048  # section 4.2 has 8192 for both, for ResNet-50 on ImageNet
    WEIGHTS = 25.0, 25.0, 1.0  # of invariance, variance and covariance, section 4.2

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__(encoder, ProjectionHead(features, self.HIDDEN, self.SIZE, layers=3, batchnorm=True))

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The loss of z1, z2."""
        z1, z2 = parts
        return vicreg(z1, z2, *self.WEIGHTS), facts_of(z1, z2)
