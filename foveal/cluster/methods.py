"""Clusters and maps of the same points, features of length one on their first principal components, and nearest images.

The search for the nearest, by cosine of all features, is exact. It leaves out images of the same patient and copies:
they are similar for trivial reasons.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from foveal.cluster.features import SEED, Images

MIXTURE_COMPONENTS, IMAGES_PER_PARAMETER = 20, 3  # with fewer images, mixtures use diagonal covariances
STARTS = 10  # of k-means, of which the best counts
MOST_PROPOSED, SUBSTANTIAL = 12, 0.25  # clusters; mean silhouette above which there are clusters at all
PERPLEXITY = 30
FEW = 1000  # points; with fewer, several threads are slower than one
CHECKED = 10  # neighbours of each point to compare between map and features
MOST = 5_000  # points of t-SNE: more take minutes and overlap
NAMES = {"pca": "PCA", "tsne": "t-SNE"}


def propose(points: np.ndarray) -> dict[int, float]:
    """Number of clusters -> mean silhouette of k-means on points [n, d] (Rousseeuw 1987): the highest is the clearest.

    At 0.25 or less there is no substantial structure (Kaufman & Rousseeuw 1990, p. 88).
    """
    from sklearn.metrics import silhouette_score

    found = {}
    for k in range(2, min(MOST_PROPOSED, len(points) // 2) + 1):
        clusters = k_means(points, k)
        if len(np.unique(clusters)) > 1:
            found[k] = float(silhouette_score(points, clusters, sample_size=min(FEW, len(points)), random_state=SEED))
    return found


def k_means(points: np.ndarray, k: int) -> np.ndarray:
    """The cluster 0..k-1 of each point, int [n], by k-means from k-means++ (Arthur & Vassilvitskii 2007)."""
    from sklearn.cluster import KMeans

    return np.asarray(KMeans(k, n_init=STARTS, random_state=SEED).fit_predict(points))


def gaussian_mixture(points: np.ndarray, k: int) -> np.ndarray:
    """The cluster of each point, int [n], by a mixture of k Gaussians on at most 20 components."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    points = points[:, :MIXTURE_COMPONENTS].astype(float)
    points /= points.std() or 1.0  # so that reg_covar has the same effect for all features
    size = points.shape[1]
    full = len(points) >= IMAGES_PER_PARAMETER * k * size * (size + 3) / 2
    mixture = GaussianMixture(k, covariance_type="full" if full else "diag", n_init=3, tol=3e-3, reg_covar=1e-3,
                              random_state=SEED)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(mixture.fit_predict(points))


class Map(NamedTuple):
    """Places float [m, 2] of the images at `rows` int [m]; kept: the share of the 10 nearest on the map that are among
    the 10 nearest in the features; by_chance: the same for random positions."""

    name: str
    rows: np.ndarray
    places: np.ndarray
    kept: float
    by_chance: float


def draw_maps(points: np.ndarray) -> list[Map]:
    """All maps of float [n, d], principal components first, of at most `MOST` points drawn at random."""
    rows = np.sort(np.random.default_rng(SEED).permutation(len(points))[:MOST])
    made = {"pca": points[rows][:, :2], "tsne": _tsne(points[rows])}
    near = neighbour_graph(points[rows])
    return [Map(name=name, rows=rows, places=places, kept=near.multiply(neighbour_graph(places)).sum() / near.nnz,
                by_chance=near.nnz / len(rows) / (len(rows) - 1)) for name, places in made.items()]  # fmt: skip


def map_listing(
    maps: Sequence[Map], points: np.ndarray, images: Images, clusters: np.ndarray, learned: np.ndarray
) -> pd.DataFrame:
    """The table for maps.csv: a row per image; coordinates are empty if the image is not on a map."""
    table = images.table[["id", "label", "split", "source", "flags"]].copy()
    table.insert(2, "cluster", clusters)
    for one in maps:
        places = np.full((len(table), 2), np.nan)
        places[one.rows] = one.places
        if one.name == "pca":
            places = points[:, :2].astype(float)
        table[[f"{one.name}_x", f"{one.name}_y"]] = places.round(4)
    return table.assign(learned=learned.astype(int))


def _tsne(points: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) started from principal components, to preserve large distances."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    with threadpool_limits(1 if len(points) < FEW else None):
        return np.asarray(TSNE(2, perplexity=perplexity, init="pca", random_state=SEED).fit_transform(points), float)


def neighbour_graph(points: np.ndarray) -> Any:
    """Sparse [n, n], 1 at the 10 nearest of each of the points [n, d]."""
    from sklearn.neighbors import kneighbors_graph

    return kneighbors_graph(points, min(CHECKED, len(points) - 1))


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
    votes, there = np.zeros((len(near.index), classes + 1)), near.index >= 0
    weights = there * (1 + 1e-3 * np.arange(near.index.shape[1], 0, -1))
    np.add.at(votes, (np.arange(len(votes))[:, None], np.where(there, labels[near.index], classes)), weights)
    return np.where(there.any(1), votes.argmax(1), -1)


def doubt(near: Nearest, labels: np.ndarray, *, ordered: bool) -> np.ndarray:
    """The mean distance of the neighbours' grades from that of the image, or without an order the share of neighbours
    with a different class, float [n]; nan without a label."""
    gap, there = np.abs(labels[near.index] - labels[:, None]), near.index >= 0
    gap = gap if ordered else (gap > 0).astype(float)
    return np.where((labels >= 0) & there.any(1), (gap * there).sum(1) / np.maximum(there.sum(1), 1), np.nan)


def listing(near: Nearest, images: Images) -> pd.DataFrame:
    """The table for neighbours.csv."""
    row, rank = np.nonzero(near.index >= 0)
    other, names, labels = near.index[row, rank], images.table["id"].to_numpy(), images.table["label"].array
    similarity = near.similarity[row, rank].astype(float).round(5)
    return pd.DataFrame({"id": names[row], "rank": rank + 1, "other": names[other], "similarity": similarity,
                         "label": labels[row], "other_label": labels[other]})  # fmt: skip


def doubtful(voted: np.ndarray, doubts: np.ndarray, images: Images) -> pd.DataFrame:
    """The table for doubtful.csv: labels that neighbours contradict, worst first; `position` is the row."""
    against = np.flatnonzero((voted != images.labels) & ~np.isnan(doubts))
    order = against[np.argsort(-doubts[against], kind="stable")]
    part = images.table.iloc[order]
    return pd.DataFrame({"id": part["id"].to_numpy(), "label": part["label"].array, "told": voted[order],
                         "doubt": doubts[order].round(3), "split": part["split"].to_numpy(),
                         "position": order})  # fmt: skip
