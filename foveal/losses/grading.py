"""Losses for grades; each determines the form of the head and how a grade follows from the probabilities.

Legend: B images, K classes. outputs [B, O] of the head; logits [B, K], whose softmax gives the probabilities;
targets [B, K] and weights [K] as in targets.py. With every loss, a grader computes probabilities for all classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from foveal.errors import FovealError
from foveal.losses.coral import coral, cumulative_logits
from foveal.losses.corn import corn, corn_logits
from foveal.losses.focal import focal
from foveal.losses.precision import at_least_float32
from foveal.losses.regression import mse, regression_logits, smooth_l1
from foveal.losses.targets import mean_grade, smoothed, weighted_mean

DECISIONS = ("most_probable", "expected")


@dataclass(frozen=True, kw_only=True)
class GradingLoss:
    """A loss and its properties.

    cost: (outputs, targets, weights) -> scalar; if `smooths`, it also takes the share of label smoothing. form: of the
    head (nets/heads.py). ordered: whether classes must be ordered. decision: how a grade follows from probabilities.
    """

    cost: Callable[..., Tensor]
    form: str = "softmax"
    ordered: bool = True
    decision: str = "expected"
    smooths: bool = False


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Weighted cross-entropy, a scalar. It ignores the order of classes: every error costs the same."""
    logs = at_least_float32(logits).log_softmax(1)
    return weighted_mean(-(smoothed(targets, label_smoothing) * logs).sum(1), targets, weights)


def ordinal(logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy plus the squared error of the expected grade, a scalar: larger errors cost more.

    The expected grade is sum_k k p_k, as in Rothe et al. 2018 (DEX); quadratic kappa penalises squared errors too.
    """
    squared = (expected_grade(at_least_float32(logits).softmax(1)) - mean_grade(targets)).square()
    return cross_entropy(logits, targets, weights, label_smoothing) + weighted_mean(squared, targets, weights)


LOSSES = {
    "cross_entropy": GradingLoss(cost=cross_entropy, ordered=False, decision="most_probable", smooths=True),
    "focal": GradingLoss(cost=focal, ordered=False, decision="most_probable", smooths=True),
    "ordinal": GradingLoss(cost=ordinal, smooths=True),
    "corn": GradingLoss(cost=corn, form="conditional"),
    "coral": GradingLoss(cost=coral, form="cumulative"),
    "mse": GradingLoss(cost=mse, form="regression"),
    "smooth_l1": GradingLoss(cost=smooth_l1, form="regression"),
}


def to_logits(outputs: Tensor, form: str, classes: int) -> Tensor:
    """Convert outputs [B, O] of a head of that form to logits [B, K]."""
    if form == "softmax":
        return outputs
    if form == "conditional":
        return corn_logits(outputs)
    if form == "cumulative":
        return cumulative_logits(outputs)
    return regression_logits(outputs, classes)


def expected_grade(probabilities: Tensor) -> Tensor:
    """sum_k k p_k: [B, K] -> [B], between 0 and K - 1."""
    return mean_grade(probabilities)


def decide(probabilities: Tensor, decision: str) -> Tensor:
    """Grades int64 [B] from probabilities [B, K]: the `most_probable` class, or the `expected` grade, rounded."""
    if decision == "most_probable":
        return probabilities.argmax(1)
    if decision == "expected":
        return (expected_grade(probabilities) + 0.5).floor().long().clamp_max(probabilities.shape[1] - 1)
    raise FovealError("option.value", f"decision '{decision}' is unknown", expected=" or ".join(DECISIONS))
