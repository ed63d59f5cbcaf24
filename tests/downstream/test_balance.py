import numpy as np
import pytest

from foveal.downstream.balance import class_weights


def test_weights_belong_to_class_indices_not_to_frequencies():
    labels = np.repeat(
        [0, 1, 2, 3, 4], [346, 71, 186, 38, 58]
    )  # the fifth class is rarer than the third, commoner than the fourth
    weights = class_weights(labels, 5, "balanced")
    expected = 699 / (5 * np.array([346, 71, 186, 38, 58]))
    assert weights == pytest.approx(expected / expected[labels].mean())
    assert np.argsort(weights).tolist() == [0, 2, 1, 4, 3]


@pytest.mark.parametrize("how", ["balanced", "root", "none"])
def test_the_mean_weight_of_an_image_is_one(how):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 30, 5]))
    assert class_weights(labels, 3, how)[labels].mean() == pytest.approx(1)


def test_order_of_the_labels_does_not_matter():
    labels = np.repeat([2, 0, 1], [5, 50, 30])
    assert class_weights(labels, 3, "root").tolist() == class_weights(np.sort(labels), 3, "root").tolist()


def test_a_class_without_images_is_named():
    with pytest.raises(ValueError, match="class 1 has no training image"):
        class_weights(np.array([0, 2]), 3, "balanced")
    assert class_weights(np.array([0, 2]), 3, "none").tolist() == [1, 1, 1]
