"""Classifiers on frozen features: nearest neighbours, ridge regression in closed form, and logistic regression.

They take features [n, D] and labels of `known` images, and features [m, D] of images to classify (`asked`).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.1  # votes have weights exp(cosine / 0.1), as in Wu et al. 2018 (https://arxiv.org/abs/1805.01978)
PENALTIES = tuple(10.0**power for power in torch.linspace(-5, 1, 13).tolist())  # shares of the mean eigenvalue
ROWS = 2048  # images to classify at a time, to limit memory


def mean_and_spread(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [D] of features [n, D]; the latter is at least a tenth of the mean deviation."""
    spread = features.std(0)
    return features.mean(0), spread.clamp_min(max(0.1 * float(spread.mean()), 1e-6))


def nearest_neighbours(known: Tensor, labels: Tensor, asked: Tensor, classes: int, count: int = 20) -> Tensor:
    """Scores [m, K]: votes of the `count` nearest known images by cosine, weighted by exp(cosine / 0.1)."""
    unit = F.normalize(known, dim=1)
    parts = []
    for part in asked.split(ROWS):
        weight, index = (F.normalize(part, dim=1) @ unit.T).topk(min(count, len(known)), dim=1)
        votes = torch.zeros(len(part), classes, device=known.device)
        parts.append(votes.scatter_add_(1, labels[index], (weight / TEMPERATURE).exp()))
    return torch.cat(parts)


def ridge(known: Tensor, labels: Tensor, asked: Tensor, classes: int) -> Tensor:
    """Scores [m, K] of ridge regression on one-hot labels, in closed form on standardised features, in float64.

    Uses the penalty with the smallest leave-one-out error (Golub, Heath and Wahba 1979, eq. 1.4).
    """
    mean, spread = known.double().mean(0), known.double().std(0).clamp_min(1e-8)
    inputs, others = (known.double() - mean) / spread, (asked.double() - mean) / spread
    targets = F.one_hot(labels, classes).double()
    centre = targets.mean(0)
    targets = targets - centre
    # Eigenvectors of the smaller Gram matrix take at most half the time of a singular value decomposition.
    few = len(inputs) < inputs.shape[1]
    squares, vectors = torch.linalg.eigh(inputs @ inputs.T if few else inputs.T @ inputs)
    squares = squares.clamp_min(0)
    left = vectors * squares.sqrt() if few else inputs @ vectors  # left singular vectors times their values [n, r]
    projected, lengths = left.T @ targets, left.square()
    best, chosen, mean_square = math.inf, squares, squares.mean().clamp_min(1e-12)  # 0 where nothing varies
    for share in PENALTIES:
        shrinking = 1 / (squares + share * mean_square)[:, None]
        leverage = 1 / len(inputs) + lengths @ shrinking
        residual = (targets - left @ (shrinking * projected)) / (1 - leverage).clamp_min(1e-6)
        error = float(residual.square().mean())
        if error < best:
            best, chosen = error, shrinking
    weights = inputs.T @ (vectors @ (chosen * (vectors.T @ targets))) if few else vectors @ (chosen * projected)
    return (others @ weights + centre).float()


class LogisticRegression:
    """Multinomial logistic regression on standardised features, fitted to all images with L-BFGS.

    penalty: factor on half the squared weights, per image (scikit-learn's C is 1 / (n penalty)). Each fit starts from
    the weights of the previous one. In float64 where there is any: with few labels, float32 depends on the threads.
    """

    def __init__(self, known: Tensor, labels: Tensor, classes: int) -> None:
        known = known if known.device.type == "mps" else known.double()
        self.mean, self.spread = mean_and_spread(known)
        self.known, self.labels = (known - self.mean) / self.spread, labels
        self.weight = known.new_zeros(classes, known.shape[1])
        self.bias = known.new_zeros(classes)

    def fit(self, penalty: float, steps: int = 100) -> "LogisticRegression":
        """Minimise; returns itself."""
        parameters = [self.weight.requires_grad_(), self.bias.requires_grad_()]
        optimiser = torch.optim.LBFGS(
            parameters, max_iter=steps, tolerance_change=1e-7, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            logits = F.linear(self.known, self.weight, self.bias)
            loss = F.cross_entropy(logits, self.labels) + 0.5 * penalty * self.weight.square().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        self.weight, self.bias = self.weight.detach(), self.bias.detach()
        return self

    def logits(self, asked: Tensor) -> Tensor:
        """float32 [m, K]."""
        return F.linear((asked - self.mean) / self.spread, self.weight, self.bias).float()
