"""SupCon (Khosla et al. 2020, https://arxiv.org/abs/2004.11362): views of all images of one label attract.

view -> encoder -> features h [B, D] -> projection z [B, d] -> SimCLR's loss with every image of the label a positive
An image without a label has an identity of its own.
"""

from torch import nn

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
