"""Maps: every image as a point on a plane, by PCA, t-SNE and, if installed, UMAP.

A map loses information, so each comes with the share of its nearest neighbours that are also nearest in the features.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foveal.cluster.images import Images

PERPLEXITY = 30
FEW = 1000  # points; with fewer, several threads are slower than one
CHECKED = 10  # neighbours of each point to compare between map and features
MOST = 5_000  # points of t-SNE and UMAP: more take minutes and overlap
NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True, kw_only=True)
class Map:
    """One map: places float [m, 2] of the images at `rows` int [m].

    `kept` is the share of the 10 nearest on the map that are among the 10 nearest in the features; `by_chance` is the
    same share for random positions.
    """

    name: str
    rows: np.ndarray
    places: np.ndarray
    kept: float
    by_chance: float


def draw_maps(points: np.ndarray, seed: int, most: int = MOST) -> list[Map]:
    """All maps of float [n, d], principal components first, of at most `most` points drawn at random by `seed`."""
    rows = np.arange(len(points))
    if len(points) > most:
        rows = np.sort(np.random.default_rng(seed).choice(len(points), most, replace=False))
    made = [("pca", points[rows][:, :2]), ("tsne", _tsne(points[rows], seed))]
    if umap_is_installed():
        made.append(("umap", _umap(points[rows], seed)))
    true = _near(points[rows])
    chance = true.shape[1] / (len(rows) - 1)
    return [
        Map(name=name, rows=rows, places=places, kept=_overlap(true, _near(places)), by_chance=chance)
        for name, places in made
    ]


def umap_is_installed() -> bool:
    """True where the extra `umap` is installed."""
    return importlib.util.find_spec("umap") is not None


def listing(
    maps: Sequence[Map], points: np.ndarray, images: Images, clusters: np.ndarray, learned: np.ndarray
) -> pd.DataFrame:
    """The table for maps.csv: a row per image; coordinates are empty if the image is not on a map.

    `learned`: bool [n], see `images.learned_from`; 1 or 0 in the table.
    """
    table = images.table[["id", "label", "split", "source", "flags"]].copy()
    table.insert(2, "cluster", clusters)
    for one in maps:
        places = np.full((len(table), 2), np.nan)
        places[one.rows] = one.places
        if one.name == "pca":
            places = points[:, :2].astype(float)
        for axis, column in enumerate("xy"):
            table[f"{one.name}_{column}"] = places[:, axis].round(4)
    return table.assign(learned=learned.astype(int))


def _tsne(points: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) started from principal components, to preserve large distances."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    with threadpool_limits(1 if len(points) < FEW else None):
        found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
    return np.asarray(found, float)


def _umap(points: np.ndarray, seed: int) -> np.ndarray:
    """UMAP (McInnes et al. 2018) on one thread: with several, results differ despite the same seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that TensorFlow is missing, which is not needed
        from umap import UMAP

        near = min(15, len(points) - 1)
        return np.asarray(UMAP(n_neighbors=near, random_state=seed, n_jobs=1).fit_transform(points), float)


def _near(points: np.ndarray) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    count = min(CHECKED, len(points) - 1)
    return np.asarray(NearestNeighbors(n_neighbors=count).fit(points).kneighbors(return_distance=False))


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Mean share of the entries of a row that are also in the same row of the other array."""
    return float((first[:, :, None] == second[:, None, :]).any(2).mean())
