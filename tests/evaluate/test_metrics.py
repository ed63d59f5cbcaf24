from functools import partial

import numpy as np
import pytest
from sklearn import metrics as reference

from foveal import metrics
from foveal.errors import FovealError
from foveal.evaluate.intervals import Resampling

exactly = partial(pytest.approx, rel=1e-12, abs=1e-12)


def example(seed, n=200, classes=5):
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, classes + 1.0)
    labels = random.choice(classes, n, p=shares / shares.sum())
    grades = np.where(random.random(n) < 0.6, labels, random.integers(0, classes, n))
    return labels, grades


def confusion(labels, grades, classes=5):
    return metrics.confusion_matrix(labels, grades, classes)


REFERENCES = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "quadratic_kappa": lambda y, g: reference.cohen_kappa_score(y, g, weights="quadratic"),
    "linear_kappa": lambda y, g: reference.cohen_kappa_score(y, g, weights="linear"),
    "unweighted_kappa": reference.cohen_kappa_score,
    "macro_f1": lambda y, g: reference.f1_score(y, g, average="macro"),
    "weighted_f1": lambda y, g: reference.f1_score(y, g, average="weighted"),
    "mean_absolute_error": reference.mean_absolute_error,
    "precision": lambda y, g: reference.precision_score(y, g, average=None),
    "recall": lambda y, g: reference.recall_score(y, g, average=None),
    "f1": lambda y, g: reference.f1_score(y, g, average=None),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_equal_scikit_learn(name):
    for seed in range(5):
        labels, grades = example(seed)
        value = getattr(metrics, name)(confusion(labels, grades))
        assert value == pytest.approx(REFERENCES[name](labels, grades), rel=1e-12, abs=1e-12)


def test_the_matrix_has_true_rows():
    labels, grades = example(0)
    assert np.array_equal(confusion(labels, grades), reference.confusion_matrix(labels, grades))


def test_a_constant_answer():
    labels, grades = example(0)[0], np.zeros(200, int)
    table = confusion(labels, grades)
    assert metrics.accuracy(table) == (labels == 0).mean() and metrics.balanced_accuracy(table) == 0.2
    for kappa in (metrics.quadratic_kappa, metrics.linear_kappa, metrics.unweighted_kappa):
        assert kappa(table) == 0
    assert np.isnan(metrics.precision(table)[1:]).all() and metrics.recall(table).tolist() == [1, 0, 0, 0, 0]


def test_kappa_by_hand():
    # Two raters, three grades: observed disagreement 2/4 (one step twice), expected 21/16.
    table = confusion(np.array([0, 1, 2, 2]), np.array([0, 0, 2, 1]), 3)
    expected = sum(a * b * (i - j) ** 2 for i, a in enumerate((1, 1, 2)) for j, b in enumerate((2, 1, 1))) / 16
    assert metrics.quadratic_kappa(table) == pytest.approx(1 - 0.5 / expected, abs=1e-12)


def test_classes_that_do_not_occur_are_left_out():
    labels, grades = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    table = confusion(labels, grades)
    assert metrics.macro_f1(table) == exactly(reference.f1_score(labels, grades, average="macro"))
    assert metrics.balanced_accuracy(table) == 0.75 and metrics.weighted_f1(table) == exactly(
        reference.f1_score(labels, grades, average="weighted")
    )


def test_one_class_has_no_agreement_beyond_chance():
    table = confusion(np.zeros(4, int), np.zeros(4, int))
    assert np.isnan(metrics.quadratic_kappa(table)) and metrics.mean_absolute_error(table) == 0


@pytest.mark.parametrize("ties", [False, True])
def test_area_under_curve_equals_scikit_learn(ties):
    random = np.random.default_rng(0)
    positive = random.random(300) < 0.3
    scores = random.normal(size=300) + positive
    scores = scores.round(0) if ties else scores
    expected = reference.roc_auc_score(positive, scores)
    assert metrics.area_under_curve(scores, positive) == pytest.approx(expected, abs=1e-12)
    assert metrics.area_under_curve(list(scores), list(positive.astype(int))) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(metrics.area_under_curve(scores, np.ones(300, bool)))


@pytest.mark.parametrize("given", [[0, 1, 3], [0, 1, -1], [0, 1, 0.5], [0, 1, np.nan]])
def test_a_grade_outside_the_classes_is_an_error(given):
    assert metrics.confusion_matrix([0, 1, 2], [0, 1, 1.0], 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    for labels, grades in ((given, [0, 0, 0]), ([0, 0, 0], given)):
        with pytest.raises(FovealError) as caught:
            metrics.confusion_matrix(labels, grades, 3)
        assert caught.value.code == "label.value"


def test_lists_give_the_same_intervals_as_arrays():
    labels, grades = example(0)
    units = np.arange(200) // 2
    entry = Resampling(units).of_grades(metrics.quadratic_kappa, labels, grades, 5)
    assert Resampling(list(units)).of_grades(metrics.quadratic_kappa, list(labels), list(grades), 5) == entry
    assert Resampling(list(units)).mean(list(labels)) == Resampling(units).mean(labels)


def test_resampled_tables_equal_resampled_images():
    labels, grades = example(3)
    groups = np.arange(200) // 4
    resampling = Resampling(groups, 3)
    tables = resampling.confusions(labels, grades, 5)
    for count, table in zip(resampling.weights.T.astype(int), tables, strict=True):
        chosen = np.repeat(np.arange(200), count[groups])
        assert np.array_equal(table, confusion(labels[chosen], grades[chosen]))
        kappa = reference.cohen_kappa_score(labels[chosen], grades[chosen], weights="quadratic")
        assert metrics.quadratic_kappa(table) == pytest.approx(kappa, abs=1e-12)


@pytest.mark.parametrize(("scores", "positive"), [
    ([[0.1, 0.9], [0.2, 0.8]], [0, 1]), ([0.1, np.nan], [0, 1]), ([0.1, 0.2], [0, 4]), ([0.1, 0.2], [-1, 1]),
    ([0.1, 0.2], [0, np.nan]), ([0.1, 0.2, 0.3], [0, 1]), ([0.1, 0.2], [[0, 1]]),
])  # fmt: skip
def test_an_area_of_other_values_is_refused(scores, positive, refuses):
    with refuses("label.value"):
        metrics.area_under_curve(scores, positive)


def test_scores_may_be_infinite():
    assert metrics.area_under_curve([-np.inf, 0, np.inf], [0, 0, 1]) == 1


@pytest.mark.parametrize("name", REFERENCES)
def test_a_confusion_matrix_may_be_a_list(name):
    matrix = confusion(*example(1))
    assert getattr(metrics, name)(matrix.tolist()) == exactly(getattr(metrics, name)(matrix))
