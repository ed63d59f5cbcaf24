"""DINO (Caron et al. 2021, https://arxiv.org/abs/2104.14294), with two global views and no small ones.

view -> encoder -> features h [B, D] -> head -> cosines with prototypes [B, K] -> the teacher's, of the other view
teacher: a slow average of encoder and head, without gradient, centred and sharpened
"""

import torch
from torch import Tensor, nn

from foveal.losses.without_negatives import dino, move_centre
from foveal.nets.heads import PrototypeHead
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, SlowTarget

HIDDEN, SIZE = 2048, 256  # appendix C
PROTOTYPES = 1024  # the paper has 65,536, for 1.3 million images
TEMPERATURES = 0.1, 0.04  # of the student and the teacher, section 3.2 and appendix D
MOMENTUM = 0.996  # of the teacher, section 3.1; rises to 1
CENTRE_MOMENTUM = 0.9  # section 3.1 and figure 7


class DINO(SlowTarget):
    """The loss is a cross-entropy. That of uniform distributions, log K, is also that of a collapse: no bounds."""

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__(encoder, PrototypeHead(features, HIDDEN, SIZE, PROTOTYPES), nn.Identity(), MOMENTUM)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(PROTOTYPES))

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The mean over both directions; in training the centre moves afterwards."""
        s1, s2, t1, t2 = parts
        loss = (dino(s1, t2, self.centre, *TEMPERATURES) + dino(s2, t1, self.centre, *TEMPERATURES)) / 2
        if self.training:
            move_centre(self.centre, torch.cat([t1, t2]), CENTRE_MOMENTUM)
        return loss, facts_of(s1, s2)
