"""Class balance from the labels: a loss weight for each class, or how often an epoch draws each image."""

from __future__ import annotations

import numpy as np

from foveal.errors import FovealError

BETA = 0.999  # of the effective number of images: Cui et al. 2019 try 0.9 to 0.9999; ours have hundreds of images


def class_weights(labels: np.ndarray, classes: int, how: str) -> np.ndarray:
    """float [K]: `none` all 1; `balanced` n / (K count); `root` the square root of that; `effective` by Cui et al.

    Cui et al. 2019, eq. 2: a class of n images counts as (1 - b^n) / (1 - b). Weights are scaled to a mean of 1 over
    the labels, so they do not change the effective learning rate. FovealError if a class has no image.
    """
    if how == "none":
        return np.ones(classes)
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any():
        missing = ", ".join(map(str, np.flatnonzero(counts == 0)))
        raise FovealError(
            "label.missing_class", f"class {missing} has no training image, so it has no class weight",
            fix="merge classes with `foveal prepare --classes`, or use --class-weights none",
        )  # fmt: skip
    if how == "effective":
        weights = (1 - BETA) / (1 - BETA**counts)
    else:
        weights = counts.sum() / (classes * counts)
        weights = np.sqrt(weights) if how == "root" else weights
    return weights * counts.sum() / (weights * counts).sum()


def drawn_images(labels: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """int [n]: the images of an epoch in order. share 0: each image once; share 1: every class equally often.

    In between, the probability of a class is interpolated: (1 - share) times its natural frequency plus share times
    1 / K (progressively balanced sampling, Kang et al. 2020, section 4.1). Images of a class are equally likely.
    """
    if share == 0:
        return generator.permutation(len(labels))
    counts = np.bincount(labels)
    present = counts > 0
    chance = (1 - share) * counts / counts.sum() + share * present / present.sum()
    return generator.choice(len(labels), len(labels), p=(chance / np.maximum(counts, 1))[labels])
