"""Classifiers on frozen features: nearest neighbours, ridge regression in closed form, and logistic regression.

They take tensors or NumPy arrays: features [n, D] and labels (0 to K - 1) of `known` images, and [m, D] of `asked`.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.errors import FovealError
from foveal.losses.precision import unit

Features = Tensor | np.ndarray
TEMPERATURE = 0.1  # votes have weights exp(cosine / 0.1), as in Wu et al. 2018 (https://arxiv.org/abs/1805.01978)
PENALTIES = tuple(10.0**power for power in torch.linspace(-5, 1, 13).tolist())  # shares of the mean eigenvalue
ROWS = 2048  # images to classify at a time, to limit memory


def _checked(known: Features, labels: Features, asked: Features, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    known, labels, asked = (each if isinstance(each, Tensor) else torch.tensor(each) for each in (known, labels, asked))
    whole = labels.long().clamp(0, classes - 1)
    if labels.shape != known.shape[:1] or (labels != whole).any() or not known.isfinite().all():
        what = f"labels {[*labels.shape]} are {labels.unique().tolist()[:9]}, or features are not finite numbers"
        raise FovealError("probe.input", what, expected=f"[{len(known)}] from 0 to {classes - 1}, finite features")
    return known, whole, asked


def mean_and_spread(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [D] of features [n, D]; the latter is at least a tenth of the mean deviation."""
    spread = features.std(0)
    return features.mean(0), spread.clamp_min(max(0.1 * float(spread.mean()), 1e-6))


def nearest_neighbours(known: Features, labels: Features, asked: Features, classes: int, count: int = 20) -> Tensor:
    """Scores [m, K]: votes of the `count` nearest known images by cosine, weighted by exp(cosine / 0.1)."""
    known, labels, asked = _checked(known, labels, asked, classes)
    directions, parts = unit(known), []
    for part in asked.split(ROWS):
        weight, index = (unit(part).to(directions.dtype) @ directions.T).topk(min(count, len(known)), dim=1)
        parts.append(weight.new_zeros(len(part), classes).scatter_add_(1, labels[index], (weight / TEMPERATURE).exp()))
    return torch.cat(parts)


def ridge(known: Features, labels: Features, asked: Features, classes: int) -> Tensor:
    """Scores [m, K] of ridge regression on one-hot labels, in closed form on standardised features, in float64.

    Uses the penalty with the smallest leave-one-out error (Golub, Heath and Wahba 1979, eq. 1.4).
    """
    known, labels, asked = _checked(known, labels, asked, classes)
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


def logistic_regression(
    known: Features, labels: Features, asked: Features, classes: int, penalties: Sequence[float]
) -> Iterator[Tensor]:
    """Probabilities [m, K] by scikit-learn's logistic regression on standardised features, for one penalty at a time.

    penalties: factors on half the squared weights, per image. Each fit starts from the weights of the previous one.
    """
    from sklearn.linear_model import LogisticRegression

    known, labels, asked = _checked(known, labels, asked, classes)
    mean, spread = mean_and_spread(known.cpu().double())
    inputs, others = ((part.cpu().double() - mean) / spread for part in (known, asked))
    if len(only := labels.unique()) == 1:  # scikit-learn fits two classes or more
        yield from ([torch.eye(classes)[only.cpu()].expand(len(others), -1)] * len(penalties))
        return
    model = LogisticRegression(max_iter=10_000, tol=1e-5, warm_start=True)  # collapsed ones need over 1,000
    for penalty in penalties:
        model.set_params(C=1 / (penalty * len(inputs))).fit(inputs.numpy(), labels.cpu().numpy())
        answer = torch.zeros(len(others), classes)  # a class without an image has probability 0
        answer[:, model.classes_] = torch.from_numpy(model.predict_proba(others.numpy())).float()
        yield answer
