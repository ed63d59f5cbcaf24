"""SupCon (Khosla et al. 2020, https://arxiv.org/abs/2004.11362): views of all images of one label attract.

view -> encoder -> features h [B, D] -> projection z [B, d] -> SimCLR's loss with every image of the label a positive
An image without a label has an identity of its own.
"""

from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.pretrain.interface import Loss, Parts
from foveal.pretrain.options import SimCLROptions, SupConOptions
from foveal.pretrain.simclr import SimCLR

SIZE = 128  # section 3.2; the hidden layer is as wide as the features


class SupCon(SimCLR):
    """The loss is L_out of both views."""

    uses_labels = True

    def __init__(self, encoder: nn.Module, features: int, options: SupConOptions) -> None:
        own = SimCLROptions(
            temperature=options.temperature, projection_hidden=features, projection_size=SIZE, same_group="positive"
        )
        super().__init__(encoder, features, own)

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The loss of z1, z2 with labels int64 [B]; its bounds depend on the labels of a batch and are facts of it."""
        if identity is None:
            raise FovealError("label.none", "--method supcon learns from labels, and none were given")
        return super().loss(parts, identity)
