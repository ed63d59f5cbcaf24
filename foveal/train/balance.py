"""Balance of classes: weights per class index, or draws per image; computed once from the labels that are learned."""

from __future__ import annotations

import numpy as np

BETA = 0.999  # of the effective number of images: Cui et al. 2019 try 0.9 to 0.9999; ours have hundreds of images


def class_weights(labels: np.ndarray, classes: int, how: str) -> np.ndarray:
    """float [K]: `none` all 1; `balanced` n / (K count); `root` the square root of that; `effective` by Cui et al.

    Cui et al. 2019, eq. 2: a class of n images counts as (1 - b^n) / (1 - b). The mean weight over the labels is 1, so
    that the learning rate keeps its meaning. Raises ValueError when a class has no image: it could never be learned.
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
    if how == "effective":
        weights = (1 - BETA) / (1 - BETA**counts)
    else:
        weights = counts.sum() / (classes * counts)
        weights = np.sqrt(weights) if how == "root" else weights
    return weights * counts.sum() / (weights * counts).sum()


def drawn_images(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """int [n]: the images of an epoch in their order. share 0: each once; share 1: every class equally often.

    Between them the chance of a class is (1 - share) of its own plus share of an equal one, as in the progressively
    balanced sampling of Kang et al. 2020 (section 4.1). A class is drawn by its index, and then one of its images.
    """
    if share == 0:
        return generator.permutation(len(labels))
    counts = np.bincount(labels)
    present = counts > 0
    chance = (1 - share) * counts / counts.sum() + share * present / present.sum()
    return generator.choice(len(labels), len(labels), p=(chance / np.maximum(counts, 1))[labels])
