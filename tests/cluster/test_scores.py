"""Clusters against labels: measures against scikit-learn and by hand, intervals that draw whole groups, chance."""

from functools import partial
from itertools import permutations

import numpy as np
import pytest
from sklearn import metrics as reference

from foveal.cluster.look import MEASURES, matched_accuracy, score
from foveal.evaluate.intervals import Resampling

exactly = partial(pytest.approx, rel=1e-12, abs=1e-12)


def drawn(seed: int = 0, count: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clusters that go with the labels in two of three images, and groups of two."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    clusters = np.where(generator.random(count) < 0.66, (labels + 1) % 3, generator.integers(0, 3, count))
    return clusters, labels, np.arange(count) // 2


def scored(clusters: np.ndarray, labels: np.ndarray, units: np.ndarray) -> dict:
    return score(clusters, labels, Resampling(units))


def table_of(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    table = np.zeros((clusters.max() + 1, labels.max() + 1))
    np.add.at(table, (clusters, labels), 1)
    return table


@pytest.mark.parametrize("seed", range(3))
def test_the_rand_index_is_that_of_scikit_learn(seed):
    clusters, labels, _ = drawn(seed)
    assert MEASURES["ari"](table_of(clusters, labels)) == exactly(reference.adjusted_rand_score(labels, clusters))


@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (2, 3)])
def test_matching_is_optimal(shape):
    table = np.random.default_rng(1).integers(0, 9, shape).astype(float)
    wide = table if shape[0] <= shape[1] else table.T
    ways = permutations(range(wide.shape[1]), wide.shape[0])
    best = max(sum(wide[row, column] for row, column in enumerate(way)) for way in ways)
    assert matched_accuracy(table) == exactly(best / table.sum())


def test_measures_are_vectorised_over_resamples():
    tables = np.random.default_rng(2).integers(1, 9, (4, 3, 3)).astype(float)
    for measure in MEASURES.values():
        assert measure(tables) == exactly([float(measure(table)) for table in tables])


def test_a_perfect_clustering_has_ones_and_a_single_cluster_the_constant():
    _, labels, units = drawn()
    found = scored((labels + 1) % 3, labels, units)
    assert all(one.value == exactly(1) for one in found.values())
    assert found["accuracy"].entry["low"] == pytest.approx(0.964, abs=1e-3)  # exact
    assert found["ari"].entry["low"] is None  # no resample moves it
    commonest = np.bincount(labels).max() / len(labels)
    assert found["accuracy"].entry["constant"] == exactly(commonest)
    alone = scored(np.zeros_like(labels), labels, units)
    assert alone["ari"].value == pytest.approx(0, abs=1e-12)
    assert alone["accuracy"].value == exactly(commonest)


def test_random_clusters_score_chance():
    _, labels, units = drawn(count=600)
    found = scored(np.random.default_rng(5).integers(0, 3, 600), labels, units)
    assert abs(found["ari"].value) < 0.02 and abs(found["ari"].entry["chance"]) < 0.01
    for one in found.values():
        assert one.value == pytest.approx(one.entry["chance"], abs=0.04)


def test_intervals_are_wider_where_groups_are_larger():
    """Ten copies of each image are no more evidence than one."""
    clusters, labels, _ = drawn(count=60)
    many = [np.repeat(part, 10) for part in (clusters, labels)]
    once = scored(clusters, labels, np.arange(60))["ari"]
    copies, naive = (scored(*many, units)["ari"] for units in (np.repeat(np.arange(60), 10), np.arange(600)))
    widths = [one.entry["high"] - one.entry["low"] for one in (once, copies, naive)]
    assert copies.entry["groups"] == 60 and copies.entry["n"] == 600
    assert widths[1] == pytest.approx(widths[0], rel=0.2) and widths[2] < 0.6 * widths[1]
    assert once.entry["low"] < once.value < once.entry["high"]


def test_figures_of_few_images_lie_within_their_intervals():
    generator = np.random.default_rng(6)
    for _ in range(5):
        labels, clusters = generator.integers(0, 5, (2, 40))
        for one in scored(clusters, labels, np.arange(40)).values():
            assert one.entry["low"] < one.value < one.entry["high"]


def test_scores_of_the_same_images_share_their_resamples():
    clusters, labels, units = drawn()
    first, again, renamed = (scored(part, labels, units)["ari"] for part in (clusters, clusters, (clusters + 1) % 3))
    assert (first.drawn == again.drawn).all() and renamed.drawn == exactly(first.drawn)
