"""Metrics of graded images, from confusion matrices and ranks; numpy only.

A confusion matrix [..., K, K] counts true (row) by given (column) class. Every metric takes any number of leading
dimensions, so that all bootstrap resamples are one call. A metric without a value (no image of a class, say) is nan.
"""

import numpy as np
from numpy.typing import ArrayLike

from foveal.errors import FovealError


def confusion_matrix(labels: ArrayLike, grades: ArrayLike, classes: int) -> np.ndarray:
    """float [K, K]: how many images of each true class (row) were given each class (column).

    labels, grades: [n], whole numbers from 0 to K - 1. FovealError for others.
    """
    both = np.stack([np.asarray(labels), np.asarray(grades)])
    if strange := set(both[~np.isin(both, np.arange(classes))].tolist()):
        what = f"labels or grades are {', '.join(map(str, strange))}"
        raise FovealError("label.value", what, expected=f"whole numbers from 0 to {classes - 1}")
    counts = np.bincount(both[0].astype(int) * classes + both[1].astype(int), minlength=classes**2)
    return counts.reshape(classes, classes).astype(float)


def accuracy(confusion: ArrayLike) -> np.ndarray:
    """Share of images that got their true class."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), np.sum(confusion, (-2, -1)))


def balanced_accuracy(confusion: ArrayLike) -> np.ndarray:
    """Mean recall over the classes that occur: every class counts the same, however rare."""
    return _mean_of_present(recall(confusion))


def quadratic_kappa(confusion: ArrayLike) -> np.ndarray:
    """Cohen's kappa with quadratic weights (Cohen 1968): agreement beyond chance, errors count by squared distance."""
    return _kappa(confusion, _distances(confusion) ** 2)


def linear_kappa(confusion: ArrayLike) -> np.ndarray:
    """Cohen's kappa with linear weights (Cohen 1968): an error counts by its distance in grades."""
    return _kappa(confusion, _distances(confusion))


def unweighted_kappa(confusion: ArrayLike) -> np.ndarray:
    """Cohen's kappa (Cohen 1960): agreement beyond chance, every error counts the same."""
    return _kappa(confusion, (_distances(confusion) > 0).astype(float))


def mean_absolute_error(confusion: ArrayLike) -> np.ndarray:
    """Mean distance, in grades, between the grade given and the true one."""
    return _ratio((_distances(confusion) * confusion).sum((-2, -1)), np.sum(confusion, (-2, -1)))


def precision(confusion: ArrayLike) -> np.ndarray:
    """[..., K]: of the images given a class, the share that has it; nan for a class that was never given."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), np.sum(confusion, -2))


def recall(confusion: ArrayLike) -> np.ndarray:
    """[..., K]: of the images of a class, the share that was given it; nan for a class without images."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), np.sum(confusion, -1))


def f1(confusion: ArrayLike) -> np.ndarray:
    """[..., K]: the harmonic mean of precision and recall; nan for a class that is neither true nor given."""
    return _ratio(2 * np.diagonal(confusion, axis1=-2, axis2=-1), np.sum(confusion, -1) + np.sum(confusion, -2))


def macro_f1(confusion: ArrayLike) -> np.ndarray:
    """Mean F1 over the classes that occur among the true or given ones (as scikit-learn), each counting the same."""
    return _mean_of_present(f1(confusion))


def weighted_f1(confusion: ArrayLike) -> np.ndarray:
    """Mean F1 of the classes, each counting by the number of images that have it."""
    true = np.sum(confusion, -1)
    return _ratio((np.nan_to_num(f1(confusion)) * true).sum(-1), true.sum(-1))


def area_under_curve(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve of scores [n] for positive bool or 0/1 [n], from ranks (Mann-Whitney); ties count half.

    nan if all images are of one kind. FovealError for other shapes, for scores that are nan, and other values.
    """
    scores, given = np.asarray(scores, float), np.asarray(positive)
    if scores.ndim != 1 or scores.shape != given.shape or np.isnan(scores).any() or not np.isin(given, (0, 1)).all():
        raise FovealError("label.value", "scores or positive do not fit", expected="scores without nan [n] and 0/1 [n]")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    hits, others = int((given == 1).sum()), int((given == 0).sum())
    above = ranks[given == 1].sum() - hits * (hits + 1) / 2  # pairs in which the positive has the higher score
    return float(above / (hits * others)) if hits and others else float("nan")


def _distances(confusion: ArrayLike) -> np.ndarray:
    classes = np.arange(np.shape(confusion)[-1], dtype=float)
    return abs(classes[:, None] - classes)


def _kappa(confusion: ArrayLike, weights: np.ndarray) -> np.ndarray:
    """1 - observed disagreement / disagreement expected by chance, given how often each class is true and given."""
    total = np.sum(confusion, (-2, -1))
    expected = np.sum(confusion, -1)[..., :, None] * np.sum(confusion, -2)[..., None, :]
    return 1 - _ratio((weights * confusion).sum((-2, -1)) * total, (weights * expected).sum((-2, -1)))


def _mean_of_present(values: np.ndarray) -> np.ndarray:
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0).sum(-1), present.sum(-1))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above, below = np.asarray(above, float), np.asarray(below, float)
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)
