"""Regression of the grade: the network predicts one number per image; the cost grows with its error.

To get probabilities of the classes, the truth is taken as logistic around the number, with cuts half-way between
grades. The best cutoffs and slopes are fitted after training, on held-out images (readout/readout.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.losses.coral import cumulative_logits
from foveal.losses.precision import at_least_float32
from foveal.losses.targets import mean_grade, weighted_mean

SLOPE = 3.0  # log-odds per grade: a standard deviation of 0.6 grades, typical of a good grader


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
