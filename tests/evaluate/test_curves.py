import numpy as np
import pytest
from sklearn import metrics as reference

from foveal.evaluate.curves import average_precision, curves, resampled_areas
from foveal.evaluate.intervals import Resampling


def example(n=300, digits=6, seed=0):
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.3
    return (random.normal(size=n) + positive).round(digits), positive


@pytest.mark.parametrize("digits", [6, 1, 0])
def test_average_precision_equals_scikit_learn(digits):
    scores, positive = example(digits=digits)
    assert average_precision(scores, positive) == pytest.approx(
        reference.average_precision_score(positive, scores), abs=1e-12
    )


@pytest.mark.parametrize("digits", [6, 1, 0])
def test_curves_equal_scikit_learn(digits):
    scores, positive = example(90, digits)
    false, true, _ = reference.roc_curve(positive, scores, drop_intermediate=False)
    assert np.array(curves(scores, positive)["roc"]) == pytest.approx(np.stack([false, true], 1), abs=1e-6)
    precision, recall, _ = reference.precision_recall_curve(positive, scores)
    points = np.stack([recall, precision], 1)[::-1][1:]  # scikit-learn begins with a point of its own
    assert np.array(curves(scores, positive)["precision_recall"]) == pytest.approx(points, abs=1e-6)


def test_long_curves_are_thinned_and_keep_ends_and_area():
    scores, positive = example(20_000)
    points = np.array(curves(scores, positive)["roc"])
    assert len(points) <= 200 and points[0].tolist() == [0, 0] and points[-1].tolist() == [1, 1]
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(
        reference.roc_auc_score(positive, scores), abs=0.002
    )
    points = curves(scores, positive)["precision_recall"]
    assert len(points) <= 200 and points[-1][0] == 1


def test_one_kind_has_no_curve():
    scores, _ = example(10)
    for positive in (np.ones(10, bool), np.zeros(10, bool)):
        assert curves(scores, positive) == {"roc": [], "precision_recall": []}
        for areas in resampled_areas(scores, positive, Resampling(np.arange(10), 100)):
            assert np.isnan(areas).all()


# More images than a block of the walk, so that ties and running sums cross its borders.
@pytest.mark.parametrize("digits", [6, 1, 0, -1])
def test_areas_of_resamples_equal_scikit_learn_on_the_images_drawn(digits):
    scores, positive = example(1200, digits)
    units = np.random.default_rng(1).permutation(1200) // 3
    resampling = Resampling(units, 100)
    areas, means = resampled_areas(scores, positive, resampling)
    for draw in range(0, 100, 20):
        weight = resampling.weights[units, draw]
        assert areas[draw] == pytest.approx(reference.roc_auc_score(positive, scores, sample_weight=weight), abs=1e-9)
        expected = reference.average_precision_score(positive, scores, sample_weight=weight)
        assert means[draw] == pytest.approx(expected, abs=1e-9)
