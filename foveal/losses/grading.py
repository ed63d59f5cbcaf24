"""Losses for grades, and the decision that belongs to each.

Legend: B images, K classes. logits [B, K]; labels int64 [B]; weights [K], one per class index.
Both losses train a softmax, so every grader gives probabilities; they differ in what an error costs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DECISIONS = {"cross_entropy": "most_probable", "ordinal": "expected"}


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Weighted cross-entropy, a scalar: classes without an order, every error costs the same."""
    return F.cross_entropy(logits.float(), labels, weights, label_smoothing=label_smoothing)


def ordinal(logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy plus the squared error of the expected grade, a scalar: an error costs by its distance.

    The expected grade is sum_k k p_k, as in Rothe et al. 2018 (DEX); quadratic kappa punishes its squared error.
    """
    expected = expected_grade(logits.float().softmax(1))
    squared = (expected - labels).square()
    weight = weights[labels]
    return cross_entropy(logits, labels, weights, label_smoothing) + (weight * squared).sum() / weight.sum()


def expected_grade(probabilities: Tensor) -> Tensor:
    """sum_k k p_k: [B, K] -> [B], between 0 and K - 1."""
    return probabilities @ torch.arange(probabilities.shape[1], device=probabilities.device, dtype=probabilities.dtype)


def decide(probabilities: Tensor, decision: str) -> Tensor:
    """Grades int64 [B] from probabilities [B, K]: the `most_probable` class, or the `expected` grade, rounded."""
    if decision == "most_probable":
        return probabilities.argmax(1)
    if decision == "expected":
        return (expected_grade(probabilities) + 0.5).floor().long().clamp_max(probabilities.shape[1] - 1)
    raise ValueError(f"there is no decision '{decision}'; choose {' or '.join(sorted(set(DECISIONS.values())))}")


LOSSES = {"cross_entropy": cross_entropy, "ordinal": ordinal}
