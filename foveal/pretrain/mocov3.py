"""MoCo v3 (Chen, Xie & He 2021, https://arxiv.org/abs/2104.02057): find the slow average's key of the other view.

view -> encoder -> features h [B, D] -> projection -> prediction q [B, d] -> InfoNCE with the keys of the batch
keys: the target's projections; there is no queue
"""

from torch import Tensor, nn

from foveal.losses.ntxent import contrast_bounds, infonce
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, SlowTarget


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
