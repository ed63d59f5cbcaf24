"""CORAL (Cao, Mirjalili and Raschka 2020, https://arxiv.org/abs/1901.07884): K - 1 cuts on one line.

output k: the log-odds that the grade is above k, with one weight vector for all k and a bias for each
cost = - sum_k [ P(y > k) log s(o_k) + (1 - P(y > k)) log(1 - s(o_k)) ]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.losses.precision import at_least_float32
from foveal.losses.targets import exceeds, weighted_mean

LEAST_GAP = 1e-6  # between cuts, so that the probability of a class between equal cuts is not 0


def coral(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The loss of cumulative log-odds [B, K - 1], a scalar."""
    costs = F.binary_cross_entropy_with_logits(at_least_float32(outputs), exceeds(targets), reduction="none").sum(1)
    return weighted_mean(costs, targets, weights)


def cumulative_logits(outputs: Tensor) -> Tensor:
    """Log-probabilities [B, K] of the classes from log-odds [B, K - 1] of being above 0, 1, …

    P(y = k) = s(o_{k-1}) - s(o_k), computed as s(a) s(-b) (1 - e^(b - a)) to keep precision if both are near 1. Cuts
    may be in the wrong order early in training, so they are sorted.
    """
    outputs = at_least_float32(outputs).sort(dim=1, descending=True).values
    gap = (outputs[:, :-1] - outputs[:, 1:]).clamp_min(LEAST_GAP)
    between = F.logsigmoid(outputs[:, :-1]) + F.logsigmoid(-outputs[:, 1:]) + torch.log(-torch.expm1(-gap))
    return torch.cat([F.logsigmoid(-outputs[:, :1]), between, F.logsigmoid(outputs[:, -1:])], dim=1)
