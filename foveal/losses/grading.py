"""Losses for grades; each determines the form of the head and how a grade follows from the probabilities.

Legend: B images, K classes. outputs [B, O] of the head; logits [B, K], whose softmax gives the probabilities, which
every grader has. targets: float [B, K], rows sum to 1 (`one_hot` makes them from labels). weights: [K], one per class.
A cost is the mean over images; FovealError for other shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.errors import FovealError
from foveal.losses.precision import at_least_float32

GAMMA = 2.0  # of the focal loss, the paper's
LEAST_GAP = 1e-6  # between cuts, so that the probability of a class between equal cuts is not 0
SLOPE = 3.0  # log-odds per grade: a standard deviation of 0.6 grades, typical of a good grader


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """The targets of whole grades: int64 [B], from 0 -> float32 [B, K], 1 for the grade and 0 elsewhere."""
    return F.one_hot(labels, classes).float()


def expected_grade(probabilities: Tensor) -> Tensor:
    """sum_k k p_k: [B, K] -> [B], between 0 and K - 1."""
    return probabilities @ torch.arange(probabilities.shape[1], device=probabilities.device, dtype=probabilities.dtype)


def exceeds(targets: Tensor) -> Tensor:
    """[B, K] -> [B, K - 1]: the probability that the grade is above 0, 1, … K - 2."""
    return targets.flip(1).cumsum(1).flip(1)[:, 1:]


def smoothed(targets: Tensor, share: float) -> Tensor:
    """Targets with `share` (0-1) of them spread evenly over all classes (Szegedy et al. 2016, section 7)."""
    if not 0 <= share <= 1:
        raise FovealError("option.value", f"label_smoothing is {share}", expected="0 to 1")
    return targets * (1 - share) + share / targets.shape[1] if share else targets


def _mean(costs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean of costs [B]; an image weighs as its class, or as the weighted mean for a mixture."""
    importances = targets @ weights
    return (importances * costs).sum() / importances.sum()


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits [B, K], targets [B, K] and weights [K]. The order of classes does not matter."""
    logs = at_least_float32(logits, targets.shape).log_softmax(1)
    return _mean(-(smoothed(targets, label_smoothing) * logs).sum(1), targets, weights)


def focal(logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The focal loss of logits [B, K], targets [B, K] and weights [K]: what is already right costs almost nothing.

    ``- sum_k t_k (1 - p_k)^gamma log p_k``, with gamma 2 (Lin et al. 2017, eq. 4).
    """
    logs = at_least_float32(logits, targets.shape).log_softmax(1)
    return _mean(-(smoothed(targets, label_smoothing) * (1 - logs.exp()).pow(GAMMA) * logs).sum(1), targets, weights)


def ordinal(logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """`cross_entropy` plus the squared error of the expected grade (DEX, Rothe et al. 2018): large errors cost more."""
    squared = (expected_grade(at_least_float32(logits, targets.shape).softmax(1)) - expected_grade(targets)).square()
    return cross_entropy(logits, targets, weights, label_smoothing) + _mean(squared, targets, weights)


def corn(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """CORN (Shi, Cao and Raschka 2023, https://arxiv.org/abs/2111.08851) of conditional log-odds [B, K - 1].

    targets: [B, K]. weights: [K]. Output k is the log-odds that the grade is above k, given that it is above k - 1:
    ``- sum_k [ P(y > k) log s(o_k) + (P(y > k - 1) - P(y > k)) log(1 - s(o_k)) ],   P(y > -1) = 1``

    The paper divides by the number of questions in the batch; here it is a mean over images, so that a batch processed
    in parts gives the same gradient.
    """
    outputs, above = at_least_float32(outputs, (len(targets), targets.shape[-1] - 1)), exceeds(targets)
    asked = torch.cat([torch.ones_like(above[:, :1]), above[:, :-1]], dim=1)
    return _mean(-(above * F.logsigmoid(outputs) + (asked - above) * F.logsigmoid(-outputs)).sum(1), targets, weights)


def corn_logits(outputs: Tensor) -> Tensor:
    """Log-probabilities [B, K] of the classes: P(y = k) = (1 - s(o_k)) prod_{j < k} s(o_j)."""
    outputs = at_least_float32(outputs)
    return F.pad(F.logsigmoid(outputs).cumsum(1), (1, 0)) + F.pad(F.logsigmoid(-outputs), (0, 1))


def coral(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """CORAL (Cao, Mirjalili and Raschka 2020, https://arxiv.org/abs/1901.07884) of cumulative log-odds [B, K - 1].

    targets: [B, K]. weights: [K]. Output k is the log-odds that the grade is above k, with one weight vector for all k
    and a bias for each:
    ``- sum_k [ P(y > k) log s(o_k) + (1 - P(y > k)) log(1 - s(o_k)) ]``
    """
    outputs, above = at_least_float32(outputs, (len(targets), targets.shape[-1] - 1)), exceeds(targets)
    return _mean(F.binary_cross_entropy_with_logits(outputs, above, reduction="none").sum(1), targets, weights)


def cumulative_logits(outputs: Tensor) -> Tensor:
    """Log-probabilities [B, K] of the classes from log-odds [B, K - 1] of being above 0, 1, …, in any order.

    P(y = k) = s(o_{k-1}) - s(o_k), computed as s(a) s(-b) (1 - e^(b - a)) to keep precision if both are near 1.
    """
    outputs = at_least_float32(outputs).sort(dim=1, descending=True).values
    gap = (outputs[:, :-1] - outputs[:, 1:]).clamp_min(LEAST_GAP)
    between = F.logsigmoid(outputs[:, :-1]) + F.logsigmoid(-outputs[:, 1:]) + torch.log(-torch.expm1(-gap))
    return torch.cat([F.logsigmoid(-outputs[:, :1]), between, F.logsigmoid(outputs[:, -1:])], dim=1)


def mse(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Squared error of outputs [B, 1], which are grades, given targets [B, K] and weights [K]."""
    grades = at_least_float32(outputs, (len(targets), 1))[:, 0]
    return _mean((grades - expected_grade(targets)).square(), targets, weights)


def smooth_l1(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Huber's error, with arguments as in `mse`: half the square up to one grade, linear beyond."""
    grades = at_least_float32(outputs, (len(targets), 1))[:, 0]
    return _mean(F.smooth_l1_loss(grades, expected_grade(targets), reduction="none"), targets, weights)


def regression_logits(outputs: Tensor, classes: int) -> Tensor:
    """Log-probabilities [B, K] from grades [B, 1]: the truth is logistic around the number, with half-way cuts."""
    cuts = torch.arange(classes - 1, device=outputs.device) + 0.5
    return cumulative_logits(SLOPE * (at_least_float32(outputs) - cuts))


@dataclass(frozen=True, kw_only=True)
class GradingLoss:
    """A loss and its properties."""

    cost: Callable[..., Tensor]  # (outputs, targets, weights) -> scalar; if `smooths`, with a share of label smoothing
    form: str = "softmax"  # of the head (nets/heads.py)
    ordered: bool = True  # whether classes must be ordered
    decision: str = "sharpened"  # how a grade follows from probabilities (readout/decisions.py)
    smooths: bool = False


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
    return cumulative_logits(outputs) if form == "cumulative" else regression_logits(outputs, classes)
