"""DINO's cross-entropy between a teacher's and a student's prototypes (Caron et al. 2021, section 3.1).

    loss = mean over images of  - sum over k of softmax((teacher - centre) / tt)[k] * log softmax(student / ts)[k]

Centring prevents a single prototype from dominating; sharpening (a low tt) prevents a uniform distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.distributed import mean_over_processes
from foveal.losses.precision import at_least_float32


def dino(student: Tensor, teacher: Tensor, centre: Tensor, temperature: float, teacher_temperature: float) -> Tensor:
    """The loss of logits [n, K] given the centre [K], a scalar; the teacher gets no gradient.

    The value is log K if both are uniform. With several processes, the mean of their losses is that of the whole batch.
    """
    with torch.autocast(student.device.type, enabled=False):
        wanted = ((at_least_float32(teacher.detach()) - centre) / teacher_temperature).softmax(1)
        found = (at_least_float32(student) / temperature).log_softmax(1)
        return -(wanted * found).sum(1).mean()


@torch.no_grad()
def move_centre(centre: Tensor, teacher: Tensor, momentum: float) -> None:
    """Move the centre [K], in place, towards the mean of the teacher's logits [n, K] of all processes (equation 4)."""
    mean = mean_over_processes(at_least_float32(teacher).mean(0))
    centre.lerp_(mean.to(centre.dtype), 1 - momentum)
