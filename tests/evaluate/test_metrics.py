import numpy as np
import pytest
from sklearn import metrics as reference

from foveal.evaluate import metrics
from foveal.evaluate.intervals import draw_counts, percentile_interval


def example(seed, n=200, classes=5, skew=1.0):
    random = np.random.default_rng(seed)
    labels = random.choice(
        classes, n, p=np.power(np.arange(1, classes + 1.0), -skew) / np.power(np.arange(1, classes + 1.0), -skew).sum()
    )
    grades = np.where(random.random(n) < 0.6, labels, random.integers(0, classes, n))
    return labels, grades


def confusion(labels, grades, classes=5):
    return metrics.confusion_matrices(labels, grades, np.zeros(len(labels), int), classes)[0]


@pytest.mark.parametrize("seed", range(5))
def test_equal_scikit_learn(seed):
    labels, grades = example(seed)
    table = confusion(labels, grades)
    exact = {"rel": 1e-12, "abs": 1e-12}
    assert metrics.accuracy(table) == pytest.approx(reference.accuracy_score(labels, grades), **exact)
    kappa = reference.cohen_kappa_score(labels, grades, weights="quadratic")
    assert metrics.quadratic_kappa(table) == pytest.approx(kappa, **exact)
    assert metrics.macro_f1(table) == pytest.approx(reference.f1_score(labels, grades, average="macro"), **exact)
    assert metrics.precision(table) == pytest.approx(reference.precision_score(labels, grades, average=None), **exact)
    assert metrics.recall(table) == pytest.approx(reference.recall_score(labels, grades, average=None), **exact)
    assert np.array_equal(table, reference.confusion_matrix(labels, grades))


def test_a_constant_answer():
    labels, grades = example(0)[0], np.zeros(200, int)
    table = confusion(labels, grades)
    assert metrics.accuracy(table) == (labels == 0).mean() and metrics.quadratic_kappa(table) == 0
    assert np.isnan(metrics.precision(table)[1:]).all() and metrics.recall(table).tolist() == [1, 0, 0, 0, 0]


def test_kappa_by_hand():
    # Two raters, three grades: observed disagreement 2/4 (one step twice), expected 21/16.
    table = confusion(np.array([0, 1, 2, 2]), np.array([0, 0, 2, 1]), 3)
    expected = sum(a * b * (i - j) ** 2 for i, a in enumerate((1, 1, 2)) for j, b in enumerate((2, 1, 1))) / 16
    assert metrics.quadratic_kappa(table) == pytest.approx(1 - 0.5 / expected, abs=1e-12)


def test_classes_that_do_not_occur_are_left_out_of_f1():
    labels, grades = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    assert metrics.macro_f1(confusion(labels, grades)) == pytest.approx(
        reference.f1_score(labels, grades, average="macro")
    )


@pytest.mark.parametrize("ties", [False, True])
def test_area_under_curve_equals_scikit_learn_also_with_weights(ties):
    random = np.random.default_rng(0)
    positive = random.random(300) < 0.3
    scores = random.normal(size=300) + positive
    scores = scores.round(0) if ties else scores
    weights = [np.ones(300), random.integers(0, 4, 300).astype(float), random.random(300)]
    areas = metrics.area_under_curve(scores, positive, weights)
    for area, weight in zip(areas, weights, strict=True):
        assert area == pytest.approx(reference.roc_auc_score(positive, scores, sample_weight=weight), abs=1e-12)
    assert np.isnan(metrics.area_under_curve(scores, np.ones(300, bool), weights[:1])).all()


def test_resampled_tables_equal_resampled_images():
    labels, grades = example(3)
    groups = np.arange(200) // 4
    tables = metrics.confusion_matrices(labels, grades, groups, 5)
    counts = draw_counts(50, 3, np.random.default_rng(0))
    for count, table in zip(counts, np.tensordot(counts, tables, 1), strict=True):
        chosen = np.concatenate([np.flatnonzero(groups == g) for g in range(50) for _ in range(count[g])])
        assert np.array_equal(table, confusion(labels[chosen], grades[chosen]))
        kappa = reference.cohen_kappa_score(labels[chosen], grades[chosen], weights="quadratic")
        assert metrics.quadratic_kappa(table) == pytest.approx(kappa, abs=1e-12)


def simulated_coverage(group_size, by_group, trials=400, groups=60):
    """Share of 95 % intervals of the accuracy that hold the true value, images of a group being alike."""
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(trials):
        skill = random.beta(4, 2, size=groups)  # mean 2/3
        right = random.random((groups, group_size)) < skill[:, None]
        units = np.repeat(np.arange(groups), group_size) if by_group else np.arange(groups * group_size)
        labels = np.zeros(groups * group_size, int)
        tables = metrics.confusion_matrices(labels, 1 - right.reshape(-1).astype(int), units, 2)
        drawn = np.tensordot(draw_counts(len(tables), 300, random), tables, 1)
        low, high = percentile_interval(metrics.accuracy(drawn))
        hits += low <= 2 / 3 <= high
    return hits / trials


def test_intervals_by_group_cover_and_intervals_by_image_do_not():
    assert simulated_coverage(6, by_group=True) == pytest.approx(0.95, abs=0.03)
    assert simulated_coverage(6, by_group=False) < 0.9


def test_an_interval_needs_values():
    assert percentile_interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.array([1.0] * 80 + [np.nan] * 20))).all()
