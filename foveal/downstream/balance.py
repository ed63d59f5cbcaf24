"""Class weights: per class index, computed once from the labels that are trained on."""

from __future__ import annotations

import numpy as np


def class_weights(labels: np.ndarray, classes: int, how: str) -> np.ndarray:
    """float [K]: `none` all 1; `balanced` n / (K count); `root` the square root of that, scaled to weigh 1 on average.

    The mean weight over the labels is 1, so that the learning rate keeps its meaning. Raises ValueError when a class
    has no image: it could never be learned.
    """
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any() and how != "none":
        missing = ", ".join(map(str, np.flatnonzero(counts == 0)))
        raise ValueError(
            f"class {missing} has no training image, so no class weight can be given; "
            "merge classes when preparing (--classes), or use --class-weights none"
        )
    if how == "none":
        return np.ones(classes)
    weights = counts.sum() / (classes * counts)
    weights = np.sqrt(weights) if how == "root" else weights
    return weights * counts.sum() / (weights * counts).sum()
