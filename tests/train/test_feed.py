import numpy as np
import pytest

from foveal.train.batches import BETA, balanced, class_weights


def test_weights_belong_to_class_indices_not_to_frequencies():
    labels = np.repeat([0, 1, 2, 3, 4], [346, 71, 186, 38, 58])  # the fifth class is commoner than the fourth
    weights = class_weights(labels, 5, "balanced")
    expected = 699 / (5 * np.array([346, 71, 186, 38, 58]))
    assert weights == pytest.approx(expected / expected[labels].mean())
    assert np.argsort(weights).tolist() == [0, 2, 1, 4, 3]


@pytest.mark.parametrize("how", ["balanced", "root", "effective", "none"])
def test_the_mean_weight_of_an_image_is_one(how):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 30, 5]))
    assert class_weights(labels, 3, how)[labels].mean() == pytest.approx(1)


def test_order_of_the_labels_does_not_matter():
    labels = np.repeat([2, 0, 1], [5, 50, 30])
    assert class_weights(labels, 3, "root").tolist() == class_weights(np.sort(labels), 3, "root").tolist()


def test_a_class_without_images_is_named(refuses):
    with refuses("label.missing_class", 1):
        class_weights(np.array([0, 2]), 3, "balanced")
    assert class_weights(np.array([0, 2]), 3, "none").tolist() == [1, 1, 1]


def test_effective_weights_are_those_of_the_paper():
    labels = np.repeat([0, 1, 2], [5000, 100, 10])
    weights = class_weights(labels, 3, "effective")
    paper = [(1 - BETA) / (1 - BETA**n) for n in (5000, 100, 10)]
    assert weights / weights[0] == pytest.approx(np.array(paper) / paper[0], abs=1e-12)
    assert weights[2] / weights[0] < 500  # gentler than by frequency


@pytest.mark.parametrize("seed", range(3))
def test_balanced_draws_follow_the_labels_in_whatever_order_they_stand(seed):
    # A known fault: weights computed for a shuffled copy of the labels. Here they are taken by label, in place.
    labels = np.random.default_rng(seed).permutation(np.repeat([0, 1, 2, 4], [700, 200, 80, 20]))
    order = balanced(labels, np.random.default_rng(seed))
    shares = np.bincount(labels[order], minlength=5) / len(order)
    assert shares == pytest.approx([0.25, 0.25, 0.25, 0, 0.25], abs=0.05)
