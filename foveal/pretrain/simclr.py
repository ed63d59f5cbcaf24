"""SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709): two views of an image attract, all others repel.

SupCon (Khosla et al. 2020, https://arxiv.org/abs/2004.11362): views of all images of one label attract.

view -> encoder -> features h [B, D] -> projection z [B, d] -> NT-Xent over both views of the batch
"""

from torch import Tensor, nn

from foveal.losses.ntxent import contrast_bounds, group_bounds, ntxent
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Contrast, Loss, Parts, TwoViews
from foveal.pretrain.options import SimCLROptions, SupConOptions


class SimCLR(TwoViews):
    """The loss is NT-Xent."""

    def __init__(self, encoder: nn.Module, features: int, options: SimCLROptions) -> None:
        super().__init__(encoder, ProjectionHead(features, options.projection_hidden, options.projection_size))
        self.options = options
        self.contrast = Contrast(options.temperature, options.same_group)

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """NT-Xent of z1, z2; identity: of patients, where groups are masked or attract each other."""
        z1, z2 = parts
        facts, options = facts_of(z1, z2), self.options
        loss = ntxent(z1, z2, options.temperature, identity, options.same_group)
        if options.same_group != "ignore" and identity is not None:  # the bounds depend on who is in the batch
            facts["loss_floor"], facts["loss_chance"] = group_bounds(identity, options.temperature, options.same_group)
        return loss, facts

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """The lowest loss possible for N pairs, and that of equal vectors; None where a batch has its own (groups)."""
        alone = self.options.same_group == "ignore"
        return contrast_bounds(pairs, self.options.temperature) if alone else None


class SupCon(SimCLR):
    """The loss is L_out of both views. An image without a label has an identity of its own."""

    uses_labels = True
    SIZE = 128  # section 3.2; the hidden layer is as wide as the features

    def __init__(self, encoder: nn.Module, features: int, options: SupConOptions) -> None:
        own = SimCLROptions(
            temperature=options.temperature, projection_hidden=features, projection_size=self.SIZE,
            same_group="positive",
        )  # fmt: skip
        super().__init__(encoder, features, own)
