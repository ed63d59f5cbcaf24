"""CORN (Shi, Cao and Raschka 2023, https://arxiv.org/abs/2111.08851): K - 1 conditional questions.

    output k: the log-odds that the grade is above k, given that it is above k - 1
    cost = - sum_k [ P(y > k) log s(o_k) + (P(y > k - 1) - P(y > k)) log(1 - s(o_k)) ],   P(y > -1) = 1

For a known grade this is the paper's cost: question k applies only to images with a grade of at least k. The paper
divides by the number of questions in the batch; here it is a mean over images, so that a batch processed in parts gives
the same gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.losses.precision import at_least_float32
from foveal.losses.targets import exceeds, weighted_mean


def corn(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The loss of conditional log-odds [B, K - 1], a scalar."""
    outputs, above = at_least_float32(outputs), exceeds(targets)
    asked = torch.cat([torch.ones_like(above[:, :1]), above[:, :-1]], dim=1)
    costs = -(above * F.logsigmoid(outputs) + (asked - above) * F.logsigmoid(-outputs)).sum(1)
    return weighted_mean(costs, targets, weights)


def corn_logits(outputs: Tensor) -> Tensor:
    """Log-probabilities [B, K] of the classes: P(y = k) = (1 - s(o_k)) prod_{j < k} s(o_j)."""
    outputs = at_least_float32(outputs)
    reached = F.pad(F.logsigmoid(outputs).cumsum(1), (1, 0))
    return reached + F.pad(F.logsigmoid(-outputs), (0, 1))
