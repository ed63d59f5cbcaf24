"""The nearest images of each image, by cosine of features, and the votes of their labels.

The search is exact. It leaves out images of the same patient and copies: they are similar for trivial reasons.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foveal.cluster.features import Images

BLOCK = 1024  # images compared with all others at once
NEAREST = 10  # neighbours to list, and labelled neighbours that vote: enough for a stable vote, few enough to look at


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Positions of the nearest images, int [n, m] (-1 if there are fewer), and their cosines float32 [n, m]."""

    index: np.ndarray
    similarity: np.ndarray


def nearest(directions: np.ndarray, units: np.ndarray, among: np.ndarray | None = None) -> Nearest:
    """The `NEAREST` rows to each row of `directions` float32 [n, D], which have length 1, nearest first.

    units: int [n]; rows of the same unit are never neighbours. among: bool [n], the rows to search.
    """
    found = np.arange(len(directions)) if among is None else np.flatnonzero(among)
    count = min(NEAREST, len(found))
    index = np.full((len(directions), count), -1)
    similarity = np.full((len(directions), count), -np.inf, np.float32)
    for start in range(0, len(directions) if count else 0, BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = directions[rows] @ directions[found].T
        cosines[units[rows, None] == units[found]] = -np.inf
        first = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        first.sort(axis=1)  # ties in image order: argpartition gives an arbitrary order
        own = np.take_along_axis(cosines, first, 1)
        order = np.argsort(-own, axis=1, kind="stable")
        similarity[rows] = np.take_along_axis(own, order, 1)
        index[rows] = found[np.take_along_axis(first, order, 1)]
    index[np.isinf(similarity)] = -1
    return Nearest(index=index, similarity=similarity)


def vote(near: Nearest, labels: np.ndarray, classes: int) -> np.ndarray:
    """The most common label among the neighbours of each row, int [m], -1 without neighbours; in a tie the nearer."""
    votes = np.zeros((len(near.index), classes + 1))
    there = near.index >= 0
    weights = there * (1 + 1e-3 * np.arange(near.index.shape[1], 0, -1))
    np.add.at(votes, (np.arange(len(votes))[:, None], np.where(there, labels[near.index], classes)), weights)
    return np.where(there.any(1), votes.argmax(1), -1)


def doubt(near: Nearest, labels: np.ndarray, *, ordered: bool) -> np.ndarray:
    """The mean distance of the neighbours' grades from that of the image, or without an order the share of neighbours
    with a different class, float [n]; nan without a label.
    """
    gap, there = np.abs(labels[near.index] - labels[:, None]), near.index >= 0
    gap = gap if ordered else (gap > 0).astype(float)
    mean = (gap * there).sum(1) / np.maximum(there.sum(1), 1)
    return np.where((labels >= 0) & there.any(1), mean, np.nan)


def listing(near: Nearest, images: Images) -> pd.DataFrame:
    """The table for neighbours.csv."""
    row, rank = np.nonzero(near.index >= 0)
    other, names, labels = near.index[row, rank], images.table["id"].to_numpy(), images.table["label"].array
    return pd.DataFrame({
        "id": names[row], "rank": rank + 1, "other": names[other],
        "similarity": near.similarity[row, rank].astype(float).round(5),
        "label": labels[row], "other_label": labels[other],
    })  # fmt: skip


def doubtful(voted: np.ndarray, doubts: np.ndarray, images: Images) -> pd.DataFrame:
    """The table for doubtful.csv: labels that neighbours contradict, worst first; `position` is the row."""
    against = np.flatnonzero((voted != images.labels) & ~np.isnan(doubts))
    order = against[np.argsort(-doubts[against], kind="stable")]
    part = images.table.iloc[order]
    return pd.DataFrame({
        "id": part["id"].to_numpy(), "label": part["label"].array, "told": voted[order],
        "doubt": doubts[order].round(3), "split": part["split"].to_numpy(), "position": order,
    })  # fmt: skip
