import numpy as np
import pytest
import torch

from foveal.losses.grading import regression_logits
from foveal.metrics import confusion_matrix, quadratic_kappa
from foveal.readout.calibration import fit_steps, stepped
from foveal.readout.decisions import (
    SHRINK,
    choose_cutoffs,
    cut,
    expected_grades,
    fit_cutoffs,
    gained,
    half_way,
    out_of_fold,
    shrunk_cutoffs,
)


def shrunk(n, seed, share=0.5):
    """Places of images that are drawn to the middle, and their grades."""
    random = np.random.default_rng(seed)
    labels = random.choice(5, n, p=(0.5, 0.1, 0.25, 0.08, 0.07))
    return 2 + share * (labels - 2 + random.normal(0, 0.5, n)), labels


def test_fitted_thresholds_reach_the_best_kappa_that_exists():
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    expected = labels * 0.5 + random.normal(0, 0.15, 60) + 0.4  # drawn to the middle, as a mean is
    fitted = fit_cutoffs(expected, np.eye(3)[labels])

    def kappa(thresholds):
        confusion = np.bincount(labels * 3 + cut(expected, thresholds), minlength=9).reshape(1, 3, 3)
        return float(quadratic_kappa(confusion)[0])

    places = np.sort(expected)
    best = max(kappa((a + 1e-9, b + 1e-9)) for i, a in enumerate(places) for b in places[i:])
    assert kappa(fitted) == pytest.approx(best, abs=0.01) and kappa(fitted) > kappa(half_way(3)) + 0.1
    assert list(fitted) == sorted(fitted)


def test_thresholds_that_are_right_already_stay_half_way():
    labels = np.repeat(np.arange(5), 10)
    assert fit_cutoffs(labels.astype(float), np.eye(5)[labels]) == half_way(5)


def test_cutoffs_are_kept_only_where_they_are_clearly_better():
    places, labels = shrunk(200, 0)
    found = choose_cutoffs(places, labels, np.eye(5)[labels], np.arange(200))
    assert found == shrunk_cutoffs(places, np.eye(5)[labels])
    kept = []
    for seed in range(5):  # nothing to gain: in most draws nothing is fitted
        places, labels = shrunk(200, seed, share=1.0)
        kept.append(choose_cutoffs(places, labels, np.eye(5)[labels], np.arange(200)))
    assert kept.count(None) >= 3
    random = np.random.default_rng(3)
    places, labels = random.uniform(0, 4, 100), random.integers(0, 5, 100)
    groups = np.zeros(100, int)  # a single group: nothing can be judged out of fold
    assert choose_cutoffs(places, labels, np.eye(5)[labels], groups) is None


def test_few_images_move_cutoffs_less_than_many():
    places, labels = shrunk(SHRINK, 1)
    truth, middle = np.eye(5)[labels], np.array(half_way(5))
    assert shrunk_cutoffs(places, truth) - middle == pytest.approx((fit_cutoffs(places, truth) - middle) / 2)
    places, labels = shrunk(99 * SHRINK, 1)
    truth = np.eye(5)[labels]
    assert shrunk_cutoffs(places, truth) - middle == pytest.approx(0.99 * (fit_cutoffs(places, truth) - middle))


def test_an_image_is_never_graded_by_cutoffs_that_saw_its_patient():
    places, labels = shrunk(120, 2)
    groups = np.arange(120) // 2
    before = out_of_fold(places, np.eye(5)[labels], groups)
    changed = np.where(groups == 7, (labels + 2) % 5, labels)
    assert (out_of_fold(places, np.eye(5)[changed], groups)[groups == 7] == before[groups == 7]).all()


def test_the_standard_error_of_a_gain_is_that_of_the_bootstrap():
    random = np.random.default_rng(4)
    places, labels = shrunk(400, 4)
    groups = np.arange(400) // 2
    first, second = cut(places, half_way(5)), cut(places, fit_cutoffs(places, np.eye(5)[labels]))

    def both(rows):
        kappas = [quadratic_kappa(confusion_matrix(labels[rows], grades[rows], 5)) for grades in (first, second)]
        right = [np.mean(grades[rows] == labels[rows]) for grades in (first, second)]
        return float(kappas[1] - kappas[0]), float(kappas[1] - kappas[0] + right[1] - right[0])

    found = gained(labels, first, second, groups)
    pairs = np.arange(400).reshape(200, 2)
    draws = np.array([both(pairs[random.integers(0, 200, 200)].ravel()) for _ in range(400)])
    assert [gain for gain, _ in found] == pytest.approx(both(np.arange(400)), abs=1e-12)
    assert [error for _, error in found] == pytest.approx(draws.std(0), rel=0.12)
    nothing = gained(np.zeros(9, int), np.zeros(9, int), np.zeros(9, int), np.arange(9))
    assert nothing == ((0.0, 0.0), (0.0, 0.0))


def test_a_little_kappa_does_not_cost_many_correct_grades():
    random = np.random.default_rng(5)
    labels = np.repeat([0, 2], (900, 300))  # a third of the moderate eyes look almost healthy
    places = np.where(labels == 0, random.normal(0.3, 0.1, 1200), random.normal(1.9, 0.2, 1200))
    places[-100:] = random.normal(0.42, 0.05, 100)
    truth, groups = np.eye(3)[labels], np.arange(1200)
    usual, fitted = cut(places, half_way(3)), out_of_fold(places, truth, groups)
    (kappa, error), (both, _) = gained(labels, usual, fitted, groups)
    assert kappa > error and both < 0
    assert choose_cutoffs(places, labels, truth, groups) is None


@pytest.mark.slow
def test_thresholds_by_the_curve_serve_new_images_better_than_by_the_luck_of_few():
    gained = []
    for seed in range(8):
        raw, labels = _regressed(150, seed, scatter=(0.35, 0.45, 0.55, 0.6, 0.9))
        new, truth = _regressed(10000, 100 + seed, scatter=(0.35, 0.45, 0.55, 0.6, 0.9))
        steps = fit_steps(raw, labels)
        read, expected = stepped(raw, steps), expected_grades(stepped(new, steps))
        kappas = []
        for known in (read, np.eye(5)[labels]):
            grades = cut(expected, fit_cutoffs(expected_grades(read), known))
            kappas.append(float(quadratic_kappa(np.bincount(truth * 5 + grades, minlength=25).reshape(1, 5, 5))[0]))
        gained.append(kappas[0] - kappas[1])
    assert np.mean(gained) > 0.002


def _regressed(n, seed, scatter):
    """Probabilities that a regression gives, whose scatter differs between grades, and the true grades."""
    random = np.random.default_rng(seed)
    labels = random.choice(5, n, p=(0.6, 0.15, 0.19, 0.04, 0.02))
    given = 0.8 * labels + 0.2 + np.asarray(scatter)[labels] * random.normal(size=n)
    return regression_logits(torch.tensor(given)[:, None], 5).softmax(1).numpy(), labels
