"""DINO (Caron et al. 2021, https://arxiv.org/abs/2104.14294), with two global views and no small ones.

view -> encoder -> features h [B, D] -> head -> cosines with prototypes [B, K] -> the teacher's, of the other view
teacher: a slow average of encoder and head, without gradient, centred and sharpened
"""

import torch
from torch import Tensor, nn

from foveal.losses.without_negatives import dino, move_centre
from foveal.nets.heads import PrototypeHead
from foveal.nets.weights import rising_momentum, target_of, update_average
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts
from foveal.pretrain.options import DINOOptions

HIDDEN, SIZE = 2048, 256  # appendix C
PROTOTYPES = 1024  # the paper has 65,536, for 1.3 million images
TEMPERATURE = 0.1  # of the student, section 3.2
MOMENTUM = 0.996  # of the teacher, section 3.1; rises to 1
CENTRE_MOMENTUM = 0.9  # section 3.1 and figure 7


class DINO(nn.Module):
    """The loss is a cross-entropy. That of uniform distributions, log K, is also that of a collapse: no bounds."""

    uses_labels, contrast = False, None

    def __init__(self, encoder: nn.Module, features: int, options: DINOOptions) -> None:
        super().__init__()
        self.encoder, self.head = encoder, PrototypeHead(features, HIDDEN, SIZE, PROTOTYPES)
        self.target_encoder, self.target_head = target_of(encoder), target_of(self.head)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(PROTOTYPES))
        self.sharpness = TEMPERATURE, options.teacher_temperature

    def forward(self, view1: Tensor, view2: Tensor) -> Parts:
        """Two views [B, C, s, s] of the same images -> student s1, s2 and teacher t1, t2 [B, K]."""
        both = torch.cat([view1, view2])
        s1, s2 = self.head(self.encoder(both)).chunk(2)
        with torch.no_grad():
            t1, t2 = self.target_head(self.target_encoder(both)).chunk(2)
        return s1, s2, t1, t2

    def loss(self, parts: Parts, identity: Tensor | None) -> Loss:
        """The mean over both directions; in training the centre moves afterwards."""
        s1, s2, t1, t2 = parts
        loss = (dino(s1, t2, self.centre, *self.sharpness) + dino(s2, t1, self.centre, *self.sharpness)) / 2
        if self.training:
            move_centre(self.centre, torch.cat([t1, t2]), CENTRE_MOMENTUM)
        return loss, facts_of(s1, s2)

    def after_step(self, progress: float) -> None:
        """Move the teacher a little towards the student, less and less as progress goes from 0 to 1."""
        momentum = rising_momentum(MOMENTUM, progress)
        update_average(self.target_encoder, self.encoder, momentum)
        update_average(self.target_head, self.head, momentum)

    def bounds(self, pairs: int) -> tuple[float, float] | None:
        """None: see the class."""
        return None
