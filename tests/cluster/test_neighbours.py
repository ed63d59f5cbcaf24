"""Nearest images against a slow search, and what their labels tell."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from foveal.cluster import methods
from foveal.cluster.features import Images
from foveal.cluster.look import judge
from foveal.cluster.methods import Nearest, doubt, doubtful, listing, nearest, vote
from foveal.evaluate.intervals import Resampling


def drawn(count: int = 60, size: int = 5, groups: int = 20) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(count, size)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True), generator.integers(0, groups, count)


def images_of(labels: np.ndarray, units: np.ndarray, classes: int = 3) -> Images:
    table = pd.DataFrame({
        "id": [f"i{n}" for n in range(len(labels))], "unit": units, "split": "test",
        "label": pd.array([None if k < 0 else k for k in labels], dtype="Int64"),
    })  # fmt: skip
    return Images(sets=(), table=table, classes=[f"c{k}" for k in range(classes)], ordered=True, of=len(labels))


def nearest_of(directions, units, count, among=None) -> Nearest:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "NEAREST", count)
        return nearest(directions, units, among)


def slow(directions, units, row, count, among):
    others = [n for n in range(len(units)) if units[n] != units[row] and among[n]]
    return sorted(others, key=lambda n: -float(directions[row] @ directions[n]))[:count]


@pytest.mark.parametrize("block", [7, 1024])
@pytest.mark.parametrize("some", [False, True])
def test_the_search_is_exact_and_leaves_the_own_group_out(monkeypatch, block, some):
    monkeypatch.setattr(methods, "BLOCK", block)
    directions, units = drawn()
    among = np.arange(60) % 3 > 0 if some else np.ones(60, bool)
    found = nearest_of(directions, units, 4, among if some else None)
    for row in range(60):
        assert found.index[row].tolist() == slow(directions, units, row, 4, among)
    row, column = 11, 2
    cosine = directions[row] @ directions[found.index[row, column]]
    assert found.similarity[row, column] == pytest.approx(cosine, abs=1e-6)


def test_missing_neighbours_are_minus_one():
    directions, _ = drawn(count=4)
    found = nearest_of(directions, np.array([0, 0, 0, 1]), 3)
    assert found.index[0].tolist() == [3, -1, -1] and sorted(found.index[3]) == [0, 1, 2]
    assert nearest_of(directions, np.zeros(4, int), 2, np.zeros(4, bool)).index.shape == (4, 0)


def test_ties_are_in_image_order():
    directions = np.repeat(np.eye(2, dtype=np.float32)[:1], 6, axis=0)
    assert nearest_of(directions, np.arange(6), 3).index[5].tolist() == [0, 1, 2]


def test_nearer_neighbours_break_ties_of_the_vote():
    labels = np.array([2, 0, 1, 1, 0, -1])
    index = np.array([[1, 2, 3, -1], [2, 4, 3, 1], [4, 3, 1, 2], [0, 0, 0, 0], [-1, -1, -1, -1], [1, 4, 3, -1]])
    near = Nearest(index=index, similarity=np.zeros(index.shape))
    assert vote(near, labels, 3).tolist() == [1, 1, 0, 2, -1, 0]
    doubts = doubt(near, labels, ordered=True)
    assert doubts[0] == pytest.approx((2 + 1 + 1) / 3) and np.isnan(doubts[[4, 5]]).all()
    assert doubt(near, labels, ordered=False)[:2] == pytest.approx([1, 0.5])


def judged_of(voted, images, judged=None):
    rows = np.arange(len(images)) if judged is None else judged
    return judge(voted, images, rows, Resampling(np.unique(images.units[rows], return_inverse=True)[1]))


def test_scores_of_votes_equal_those_of_scikit_learn():
    generator = np.random.default_rng(1)
    labels, given = generator.integers(0, 3, 90), generator.integers(0, 3, 90)
    given = np.where(generator.random(90) < 0.5, labels, given)
    found = judged_of(given, images_of(labels, np.arange(90) // 2), np.arange(80))
    kappa, accuracy = found["quadratic kappa"], found["accuracy"]
    assert kappa.value == pytest.approx(cohen_kappa_score(labels[:80], given[:80], weights="quadratic"))
    assert kappa.entry["constant"] == 0 and accuracy.value == pytest.approx((labels == given)[:80].mean())
    assert accuracy.entry["constant"] == pytest.approx(np.bincount(labels[:80]).max() / 80)
    assert (accuracy.entry["n"], accuracy.entry["groups"]) == (80, 40)
    assert accuracy.entry["low"] < accuracy.value < accuracy.entry["high"] and accuracy.value > accuracy.entry["chance"]
    given[:4] = -1  # nobody voted: not judged
    assert judged_of(given, images_of(labels, np.arange(90) // 2))["accuracy"].entry["n"] == 86


def test_classes_without_order_have_no_kappa():
    images = replace(images_of(np.arange(30) % 3, np.arange(30)), ordered=False)
    assert list(judged_of(np.arange(30) % 3, images)) == ["accuracy"]


def test_images_of_the_same_patient_do_not_vote():
    """Every patient has a look and a random label: their own images would predict it, those of others cannot."""
    generator = np.random.default_rng(0)
    units = np.arange(120) // 4
    values = (generator.normal(size=(30, 8))[units] + 0.01 * generator.normal(size=(120, 8))).astype(np.float32)
    directions = values / np.linalg.norm(values, axis=1, keepdims=True)
    labels = generator.integers(0, 3, 30)[units]
    images = images_of(labels, units)

    def accuracy(groups: np.ndarray) -> float:
        return judged_of(vote(nearest_of(directions, groups, 3), labels, 3), images)["accuracy"].value

    assert accuracy(units) < 0.6 and accuracy(np.arange(120)) == 1


def test_listings():
    images = images_of(np.array([0, 2, -1]), np.arange(3))
    near = Nearest(index=np.array([[1, 2], [0, -1], [1, 0]]), similarity=np.array([[0.9, 0.1], [0.9, 0], [0.5, 0.1]]))
    table = listing(near, images)
    assert list(table.columns) == ["id", "rank", "other", "similarity", "label", "other_label"]
    assert table[["id", "rank", "other"]].to_numpy().tolist() == [
        ["i0", 1, "i1"], ["i0", 2, "i2"], ["i1", 1, "i0"], ["i2", 1, "i1"], ["i2", 2, "i0"],
    ]  # fmt: skip
    assert table["other_label"].isna().tolist() == [False, True, False, False, False]
    table = doubtful(np.array([1, 0, 1]), np.array([0.5, 2.0, np.nan]), images)
    assert table["id"].tolist() == ["i1", "i0"]
