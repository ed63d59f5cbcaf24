"""Regression of the grade: one number an image, which costs more the further it is from the grade.

The number is read as a logistic variable around the truth, with cuts half-way between the grades: in this way a
regression gives probabilities, as every grader does. The best cuts and the width of the scatter are fitted afterwards,
on images that were not used for learning (readout/readout.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.losses.coral import cumulative_logits
from foveal.losses.precision import at_least_float32
from foveal.losses.targets import mean_grade, weighted_mean

SLOPE = 3.0  # log-odds per grade: a scatter of 0.6 grades, about that of a good grader in this field


def mse(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Squared error of grades [B, 1], a scalar."""
    return weighted_mean((at_least_float32(outputs)[:, 0] - mean_grade(targets)).square(), targets, weights)


def smooth_l1(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Huber's error of grades [B, 1], a scalar: half the square up to one grade, linear beyond."""
    costs = F.smooth_l1_loss(at_least_float32(outputs)[:, 0], mean_grade(targets), reduction="none")
    return weighted_mean(costs, targets, weights)


def regression_logits(outputs: Tensor, classes: int) -> Tensor:
    """Log-probabilities [B, K] of the classes from grades [B, 1]."""
    cuts = torch.arange(classes - 1, device=outputs.device) + 0.5
    return cumulative_logits(SLOPE * (at_least_float32(outputs) - cuts))
