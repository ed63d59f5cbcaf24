"""Methods with negatives: two views of an image attract, and other images repel.

SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709), SupCon (Khosla et al. 2020,
https://arxiv.org/abs/2004.11362), in which views of all images of one label attract, and MoCo v3 (Chen, Xie & He 2021,
https://arxiv.org/abs/2104.02057), which compares a view with a slow average's key of the other view, without a queue.

view -> encoder -> features h [B, D] -> projection z [B, d] -> NT-Xent over both views of the batch
view -> encoder -> features h [B, D] -> projection -> prediction q [B, d] -> InfoNCE with the target's keys of the batch
"""

from torch import Tensor, nn

from foveal.losses.ntxent import contrast_bounds, group_bounds, infonce, ntxent
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Contrast, Loss, Parts, SlowTarget, TwoViews
from foveal.pretrain.options import SimCLROptions, SupConOptions


class SimCLR(TwoViews):
    """The loss is NT-Xent."""

    def __init__(self, encoder: nn.Module, features: int, options: SimCLROptions) -> None:
        super().__init__(encoder, ProjectionHead(features, options.projection_hidden, options.projection_size))
        self.options, self.contrast = options, Contrast(options.temperature, options.same_group)

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """NT-Xent of z1, z2; identity: of patients, where groups are masked or attract each other."""
        z1, z2 = parts
        facts, options = facts_of(z1, z2), self.options
        if options.same_group != "ignore" and identity is not None:  # the bounds depend on who is in the batch
            facts["loss_floor"], facts["loss_chance"] = group_bounds(identity, options.temperature, options.same_group)
        return ntxent(z1, z2, options.temperature, identity, options.same_group), facts

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """The lowest loss possible for N pairs, and that of equal vectors; None if a batch has its own (groups)."""
        return contrast_bounds(pairs, self.options.temperature) if self.options.same_group == "ignore" else None


class SupCon(SimCLR):
    """The loss is L_out of both views. An image without a label has an identity of its own."""

    uses_labels = True
    SIZE = 128  # section 3.2; the hidden layer is as wide as the features

    def __init__(self, encoder: nn.Module, features: int, options: SupConOptions) -> None:
        own = SimCLROptions(temperature=options.temperature, projection_hidden=features, projection_size=self.SIZE,
                            same_group="positive")  # fmt: skip
        super().__init__(encoder, features, own)


class MoCoV3(SlowTarget):
    """The loss is InfoNCE times 2 t."""

    HIDDEN, SIZE = 2048, 256  # its authors' code has 4096 and 256
    MOMENTUM = 0.99  # section 4.1; rises to 1
    TEMPERATURE = 0.2  # of its authors' code

    def __init__(self, encoder: nn.Module, features: int) -> None:
        projection = ProjectionHead(features, self.HIDDEN, self.SIZE, batchnorm=True, last_batchnorm=True)
        prediction = ProjectionHead(self.SIZE, self.HIDDEN, self.SIZE, batchnorm=True)
        super().__init__(encoder, projection, prediction, self.MOMENTUM)

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The sum over both directions, times 2 t."""
        q1, q2, k1, k2 = parts
        both = infonce(q1, k2, self.TEMPERATURE) + infonce(q2, k1, self.TEMPERATURE)
        return 2 * self.TEMPERATURE * both, facts_of(q1, q2, (k2, k1))

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """The lowest loss possible for N pairs, and that of equal keys."""
        floor, chance = contrast_bounds(pairs, self.TEMPERATURE, views=1)
        return 4 * self.TEMPERATURE * floor, 4 * self.TEMPERATURE * chance
