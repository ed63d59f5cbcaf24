"""SimSiam (Chen & He 2021, https://arxiv.org/abs/2011.10566): predict the other view's embedding, gradient stopped.

view -> encoder -> features h [B, D] -> projection z [B, d] -> prediction p [B, d] -> z of the other view, stopped
"""

import torch
from torch import Tensor, nn

from foveal.losses.without_negatives import cosine
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, TwoViews

HIDDEN, SIZE, PREDICTION_HIDDEN = 2048, 2048, 512  # section 3


class SimSiam(TwoViews):
    """A narrow prediction in place of negatives. The lowest loss, 0, is also that of collapse: no bounds."""

    def __init__(self, encoder: nn.Module, features: int) -> None:
        projection = ProjectionHead(features, HIDDEN, SIZE, layers=3, batchnorm=True, last_batchnorm=True)
        super().__init__(encoder, projection)
        self.prediction = ProjectionHead(SIZE, PREDICTION_HIDDEN, SIZE, batchnorm=True)

    def forward(self, view1: Tensor, view2: Tensor) -> Parts:
        """Two views [B, C, s, s] of the same images -> predictions p1, p2 and stopped embeddings z1, z2 [B, d]."""
        z = self.projection(self.encoder(torch.cat([view1, view2])))
        p1, p2 = self.prediction(z).chunk(2)
        z1, z2 = z.detach().chunk(2)
        return p1, p2, z1, z2

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """0-2, the paper's loss plus 1."""
        p1, p2, z1, z2 = parts
        return (cosine(p1, z2) + cosine(p2, z1)) / 4, facts_of(p1, p2)
