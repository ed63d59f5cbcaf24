"""Three ways to divide points into k clusters without labels: k-means, Gaussian mixtures, spectral.

All use the same points: features of length one, projected onto their first principal components. There, k-means is
nearly as good as in all dimensions (Ding & He 2004), and a mixture has enough images per parameter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

COMPONENTS = 50
MIXTURE_COMPONENTS = 20
IMAGES_PER_PARAMETER = 3  # with fewer, mixtures use diagonal covariances
STARTS = {"k-means": 10, "Gaussian mixture": 3, "spectral": 10}
GRAPH_NEIGHBOURS = 10


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """A cluster 0..k-1 for each point, int [n]; `note` describes how they were found, for the reader."""

    clusters: np.ndarray
    note: str


def reduce(directions: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, D] -> (float32 [n, d], share of the variance in each of the d components), d at most 50."""
    from sklearn.decomposition import PCA

    found = PCA(min(COMPONENTS, len(directions) - 1, directions.shape[1]), random_state=seed)
    return found.fit_transform(directions), found.explained_variance_ratio_


def k_means(points: np.ndarray, k: int, seed: int) -> Clustering:
    """The best of ten k-means runs that start with k-means++ (Arthur & Vassilvitskii 2007)."""
    from sklearn.cluster import KMeans

    clusters = KMeans(k, n_init=STARTS["k-means"], random_state=seed).fit_predict(points)
    return Clustering(clusters=clusters.astype(np.int64), note=f"best of {STARTS['k-means']} starts")


def gaussian_mixture(points: np.ndarray, k: int, seed: int) -> Clustering:
    """A mixture of k Gaussians by expectation maximisation on at most 20 components.

    Covariances are full if there are enough images to estimate them, otherwise diagonal.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    points = points[:, :MIXTURE_COMPONENTS].astype(float)
    points /= points.std() or 1.0  # so that reg_covar has the same effect for all features
    size = points.shape[1]
    full = len(points) >= IMAGES_PER_PARAMETER * k * size * (size + 3) / 2
    kind = "full" if full else "diag"
    starts = STARTS["Gaussian mixture"]
    mixture = GaussianMixture(k, covariance_type=kind, n_init=starts, max_iter=100, tol=3e-3, reg_covar=1e-3,
                              random_state=seed)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported in the note
        clusters = mixture.fit_predict(points)
    note = f"{'full' if full else 'diagonal'} covariances on {size} components, best of {starts} starts"
    return Clustering(clusters=clusters, note=note + ("" if mixture.converged_ else "; not converged"))


def spectral(points: np.ndarray, k: int, seed: int) -> Clustering:
    """Normalised cuts of the graph of 10 nearest neighbours (Shi & Malik 2000, von Luxburg 2007).

    The eigenvectors of 10,000 images take half a minute on two cores.
    """
    from sklearn.cluster import SpectralClustering

    near = min(GRAPH_NEIGHBOURS, len(points) - 1)
    method = SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=near, n_init=STARTS["spectral"],
                                random_state=seed)  # fmt: skip
    with warnings.catch_warnings():
        # A graph with several components is fine: they become clusters.
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        clusters = method.fit_predict(points)
    return Clustering(clusters=clusters.astype(np.int64), note=f"graph of {near} nearest neighbours")


METHODS: dict[str, Callable[[np.ndarray, int, int], Clustering]] = {
    "k-means": k_means,
    "Gaussian mixture": gaussian_mixture,
    "spectral": spectral,
}
