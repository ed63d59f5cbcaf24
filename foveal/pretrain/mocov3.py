"""MoCo v3 (Chen, Xie & He 2021, https://arxiv.org/abs/2104.02057): find the slow average's key of the other view.

view -> encoder -> features h [B, D] -> projection -> prediction q [B, d] -> InfoNCE with the keys of the batch
keys: the target's projections; there is no queue
"""

from torch import Tensor, nn

from foveal.losses.ntxent import contrast_bounds, infonce
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, SlowTarget
from foveal.pretrain.options import MoCoV3Options

HIDDEN, SIZE = 2048, 256  # its authors' code has 4096 and 256
MOMENTUM = 0.99  # section 4.1; rises to 1


class MoCoV3(SlowTarget):
    """The loss is InfoNCE times 2 t."""

    def __init__(self, encoder: nn.Module, features: int, options: MoCoV3Options) -> None:
        projection = ProjectionHead(features, HIDDEN, SIZE, batchnorm=True, last_batchnorm=True)
        prediction = ProjectionHead(SIZE, HIDDEN, SIZE, batchnorm=True)
        super().__init__(encoder, projection, prediction, MOMENTUM)
        self.temperature = options.temperature

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The sum over both directions, times 2 t."""
        q1, q2, k1, k2 = parts
        t = self.temperature
        return 2 * t * (infonce(q1, k2, t) + infonce(q2, k1, t)), facts_of(q1, q2, (k2, k1))

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """The lowest loss possible for N pairs, and that of equal keys."""
        floor, chance = contrast_bounds(pairs, self.temperature, views=1)
        return 4 * self.temperature * floor, 4 * self.temperature * chance
