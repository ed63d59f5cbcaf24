"""SupCon (Khosla et al. 2020, https://arxiv.org/abs/2004.11362): views of all images of one label attract.

view -> encoder -> features h [B, D] -> projection z [B, d] -> SimCLR's loss with every image of the label a positive

An image without a label comes with an identity of its own: it is its other view's positive and nobody else's.
"""

from __future__ import annotations

from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.losses.ntxent import group_bounds, ntxent
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Contrast, Loss, Parts, TwoViews
from foveal.pretrain.options import SupConOptions

SIZE = 128  # section 3.2; the hidden layer is as wide as the features
TILE = 4096  # columns of the similarity matrix to hold at once


class SupCon(TwoViews):
    """The loss is L_out of both views."""

    uses_labels = True

    def __init__(self, encoder: nn.Module, features: int, options: SupConOptions) -> None:
        super().__init__(encoder, ProjectionHead(features, features, SIZE))
        self.temperature = options.temperature
        self.contrast = Contrast(options.temperature, "positive")

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The loss of z1, z2 with labels int64 [B]; its bounds depend on the labels of a batch and are facts of it."""
        z1, z2 = parts
        if identity is None:
            raise FovealError("label.none", "--method supcon learns from labels, and none were given")
        facts = facts_of(z1, z2)
        facts["loss_floor"], facts["loss_chance"] = group_bounds(identity, self.temperature, "positive")
        return ntxent(z1, z2, self.temperature, identity, "positive", TILE), facts
