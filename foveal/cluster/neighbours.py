"""The nearest images of each, by the cosine of their features, and what their labels tell.

The search is exact, a block of images at a time. Images of the same patient, and copies, would be nearest without
telling anything of the retina; they are left out unless asked for, and always where labels are told from neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.cluster.images import Images
from foveal.cluster.scores import Score, make_score, resampled

BLOCK = 1024  # images compared with all others at a time
VOTERS = 10


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """int [n, m] positions of the nearest, -1 where there are fewer, and their cosines float32 [n, m]."""

    index: np.ndarray
    similarity: np.ndarray


def nearest(directions: np.ndarray, units: np.ndarray, count: int, among: np.ndarray | None = None) -> Nearest:
    """The `count` nearest of every row of float32 [n, D] (rows of length one) with another unit, nearest first.

    units: int [n]; among: bool [n], rows that may be found. A row never finds itself as long as units tell it so.
    """
    found = np.arange(len(directions)) if among is None else np.flatnonzero(among)
    count = min(count, len(found))
    index = np.full((len(directions), count), -1)
    similarity = np.full((len(directions), count), -np.inf, np.float32)
    if not count:
        return Nearest(index=index, similarity=similarity)
    others = directions[found].T
    for start in range(0, len(directions), BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = directions[rows] @ others
        cosines[units[rows, None] == units[found]] = -np.inf
        first = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        first.sort(axis=1)  # equal cosines in the order of the images, whatever the partition did
        own = np.take_along_axis(cosines, first, 1)
        order = np.argsort(-own, axis=1, kind="stable")
        similarity[rows] = np.take_along_axis(own, order, 1)
        index[rows] = found[np.take_along_axis(first, order, 1)]
    index[np.isinf(similarity)] = -1
    return Nearest(index=index, similarity=similarity)


def nearest_to(asked: np.ndarray, directions: np.ndarray, count: int, among: np.ndarray | None = None) -> Nearest:
    """The `count` nearest rows of float32 [n, D] to each of float32 [m, D], all of length one, nearest first.

    among: bool [n], rows that may be found. Equally near ones come in the order of the rows.
    """
    found = np.arange(len(directions)) if among is None else np.flatnonzero(among)
    cosines = asked @ directions[found].T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return Nearest(index=found[order], similarity=np.take_along_axis(cosines, order, 1))


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the nearest labelled images of other groups say of each image.

    label: int [n], their commonest label, -1 where there is none; doubt: float [n], the mean distance of their grades
    from the image's own (classes without order: the share with another one), nan where it has no label.
    """

    label: np.ndarray
    doubt: np.ndarray


def tell(
    near: Nearest, labels: np.ndarray, classes: int, *, ordered: bool, own: np.ndarray | None = None
) -> Told:  # fmt: skip
    """Let labelled neighbours vote; of equal votes the nearer neighbours' counts. labels: int [n], -1 unknown.

    own: int [m], the labels of the images asked about, where they are not those of the set.
    """
    own = labels if own is None else own
    given, there = labels[near.index], near.index >= 0
    votes = np.zeros((len(own), classes))
    weights = there * (1 + 1e-3 * np.arange(near.index.shape[1], 0, -1))
    np.add.at(votes, (np.arange(len(own))[:, None], np.where(there, given, 0)), weights)
    label = np.where(there.any(1), votes.argmax(1), -1)
    gap = np.abs(given - own[:, None]) if ordered else (given != own[:, None]).astype(float)
    known = (own >= 0) & there.any(1)
    doubt = np.full(len(own), np.nan)
    doubt[known] = ((gap * there).sum(1) / np.maximum(there.sum(1), 1))[known]
    return Told(label=label, doubt=doubt)


def judge(told: Told, images: Images, judged: np.ndarray, seed: int) -> dict[str, Score]:
    """Accuracy, and quadratic kappa of ordered grades, of the told labels over the `judged` images (bool [n])."""
    rows = judged & (told.label >= 0)
    labels, given, classes = images.labels[rows], told.label[rows], len(images.classes)
    units = np.unique(images.units[rows], return_inverse=True)[1]
    cells, shape = labels * classes + given, (-1, classes, classes)
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(list(resampled(cells, units, classes**2, generator))).reshape(shape)
    total = np.bincount(cells, minlength=classes**2).reshape(shape)[0].astype(float)
    constant, chance = np.zeros_like(total), total.sum(1)[:, None] * total.sum(0) / total.sum()
    constant[:, total.sum(1).argmax()] = total.sum(1)
    kinds = {"quadratic kappa": metrics.quadratic_kappa} if images.ordered else {}
    return {
        name: make_score(float(metric(total)), metric(drawn), chance=float(metric(chance)),
                         constant=float(metric(constant)), n=len(labels), groups=int(units.max()) + 1)
        for name, metric in {**kinds, "accuracy": metrics.accuracy}.items()
    }  # fmt: skip


def listing(near: Nearest, images: Images) -> pd.DataFrame:
    """The table that neighbours.csv holds: id, rank from 1, other, similarity, label, other_label."""
    row, rank = np.nonzero(near.index >= 0)
    other = near.index[row, rank]
    ids, labels = images.table["id"].to_numpy(), images.table["label"].array
    return pd.DataFrame({
        "id": ids[row], "rank": rank + 1, "other": ids[other],
        "similarity": near.similarity[row, rank].astype(float).round(5), "label": labels[row],
        "other_label": labels[other],
    })  # fmt: skip


def doubtful(told: Told, images: Images) -> pd.DataFrame:
    """The table that doubtful.csv holds: labels against which their neighbours speak, the most doubtful first.

    id, label, told (the neighbours' label), doubt, split.
    """
    against = np.flatnonzero((told.label != images.labels) & ~np.isnan(told.doubt))
    order = against[np.argsort(-told.doubt[against], kind="stable")]
    part = images.table.iloc[order]
    return pd.DataFrame({
        "id": part["id"].to_numpy(), "label": part["label"].array, "told": told.label[order],
        "doubt": told.doubt[order].round(3), "split": part["split"].to_numpy(), "position": order,
    })  # fmt: skip
