"""Clusterings and maps of points whose clusters are known."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from foveal.cluster import methods
from foveal.cluster.features import COMPONENTS, Features
from foveal.cluster.methods import SUBSTANTIAL, k_means, propose


def blobs(seed: int = 0, each: int = 50, size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Three balls far from one another."""
    generator = np.random.default_rng(seed)
    labels = np.arange(3 * each) % 3
    centres = 4 * np.eye(3, size)
    return (centres[labels] + 0.5 * generator.normal(size=(3 * each, size))).astype(np.float32), labels


def test_k_means_finds_three_balls_and_is_the_same_each_time():
    points, labels = blobs()
    found = k_means(points, 3)
    assert adjusted_rand_score(labels, found) == 1 and found.dtype.kind == "i"
    assert (k_means(points, 3) == found).all()


def test_as_many_clusters_are_proposed_as_there_are_balls_and_one_cloud_has_none():
    tried = propose(blobs()[0])
    assert max(tried, key=tried.get) == 3 and tried[3] > 2 * SUBSTANTIAL and list(tried) == list(range(2, 13))
    cloud = np.random.default_rng(0).normal(size=(150, 20)).astype(np.float32)
    assert max(propose(cloud).values()) < SUBSTANTIAL
    assert list(propose(cloud[:5])) == [2]


def test_components_keep_the_variance():
    points, _ = blobs()
    reduced, variance = Features(name="a", source="a", values=points).components
    assert reduced.shape == (150, 6) and variance.sum() == pytest.approx(1)
    assert (np.diff(variance) <= 1e-7).all()
    wide = np.random.default_rng(0).normal(size=(80, 200)).astype(np.float32)
    assert Features(name="a", source="a", values=wide).components[0].shape == (80, COMPONENTS)


@pytest.fixture(scope="module")
def noise_maps() -> dict[str, methods.Map]:
    """Maps of 40 of 60 points of noise in 20 dimensions."""
    points = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "MOST", 40)
        return {one.name: one for one in methods.draw_maps(points)}


def test_maps_have_a_limit_of_points(noise_maps):
    for one in noise_maps.values():
        assert len(one.rows) == len(one.places) == 40 and (np.diff(one.rows) > 0).all()
        assert one.by_chance == pytest.approx(10 / 39)
    assert (noise_maps["pca"].rows == noise_maps["tsne"].rows).all()


def test_no_map_keeps_all_neighbours_of_noise(noise_maps):
    assert all(one.by_chance < one.kept < 0.8 for one in noise_maps.values())


def test_a_graph_has_the_nearest_of_each_point(monkeypatch):
    monkeypatch.setattr(methods, "CHECKED", 2)
    graph = methods.neighbour_graph(np.array([[0.0], [1], [5], [4]])).toarray()
    assert graph.tolist() == [[0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 0]]


@pytest.mark.slow
def test_tsne_keeps_balls_apart_and_is_the_same_each_time():
    points, labels = blobs(each=30)
    first, second = (methods.draw_maps(points)[1].places for _ in range(2))
    assert (first == second).all()
    middles = np.array([first[labels == k].mean(0) for k in range(3)])
    nearest = np.linalg.norm(first[:, None] - middles, axis=2).argmin(1)
    assert (nearest == labels).all()
