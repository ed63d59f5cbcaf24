import numpy as np
import pytest

from foveal.evaluate.metrics import quadratic_kappa
from foveal.evaluate.readout import (
    Readout,
    ReadoutOptions,
    crossed,
    fit_readout,
    fit_temperature,
    heated,
    read_readout,
    write_readout,
)
from foveal.evaluate.thresholds import cut, expected_grades, fit_thresholds, half_way

OPTIONS = ReadoutOptions(decision="expected", ordered=True, temperature=True, thresholds=True, coverage=0.9)


def drawn(n, seed=0, classes=5, sharpness=1.0):
    """Probabilities [n, K], and labels drawn from them before they were sharpened."""
    random = np.random.default_rng(seed)
    true = random.dirichlet(np.full(classes, 0.5), n)
    labels = np.array([random.choice(classes, p=row) for row in true])
    return heated(true, 1 / sharpness), labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_was_sharpened(sharpness):
    probabilities, labels = drawn(6000, sharpness=sharpness)
    assert fit_temperature(probabilities, labels) == pytest.approx(sharpness, rel=0.08)


def test_a_temperature_is_the_softmax_of_divided_logits():
    logits = np.random.default_rng(0).normal(size=(7, 5))
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    half = np.exp(logits / 2) / np.exp(logits / 2).sum(1, keepdims=True)
    assert heated(soft, 2.0) == pytest.approx(half, abs=1e-12)
    assert heated(soft, 1.0) is soft


def test_fitted_thresholds_reach_the_best_kappa_that_exists():
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    expected = labels * 0.5 + random.normal(0, 0.15, 60) + 0.4  # drawn to the middle, as a mean is
    fitted = fit_thresholds(expected, labels, 3)

    def kappa(thresholds):
        confusion = np.bincount(labels * 3 + cut(expected, thresholds), minlength=9).reshape(1, 3, 3)
        return float(quadratic_kappa(confusion)[0])

    places = np.sort(expected)
    best = max(kappa((a + 1e-9, b + 1e-9)) for i, a in enumerate(places) for b in places[i:])
    assert kappa(fitted) == pytest.approx(best, abs=0.01) and kappa(fitted) > kappa(half_way(3)) + 0.1
    assert list(fitted) == sorted(fitted)


def test_thresholds_that_are_right_already_stay_half_way():
    labels = np.repeat(np.arange(5), 10)
    assert fit_thresholds(labels.astype(float), labels, 5) == half_way(5)


def test_images_that_a_readout_is_fitted_on_do_not_judge_themselves():
    # Labels without any relation to the probabilities: what is fitted can only flatter where it was fitted.
    random = np.random.default_rng(2)
    probabilities, labels = random.dirichlet(np.ones(5), 300), random.integers(0, 5, 300)
    parts = np.arange(300) % 5
    own = fit_readout(probabilities, labels, OPTIONS)
    inside = own.grades(own.probabilities(probabilities))
    outside = crossed(probabilities, labels, parts, OPTIONS)[1]

    def kappa(grades):
        return float(quadratic_kappa(np.bincount(labels * 5 + grades, minlength=25).reshape(1, 5, 5))[0])

    assert kappa(inside) > kappa(outside) + 0.03
    # Changing the labels of one part changes nothing of how that part is read.
    changed = np.where(parts == 3, (labels + 1) % 5, labels)
    again = crossed(probabilities, changed, parts, OPTIONS)
    before = crossed(probabilities, labels, parts, OPTIONS)
    assert (again[0][parts == 3] == before[0][parts == 3]).all()
    assert (again[1][parts == 3] == before[1][parts == 3]).all()


def test_validation_and_new_images_are_read_alike_also_where_there_are_few():
    # 55 images: enough for all, and each part is read with the 44 others, not left as it was.
    probabilities, labels = drawn(55, sharpness=3.0)
    read, _, words = crossed(probabilities, labels, np.arange(55) % 5, OPTIONS)
    assert abs(read - probabilities).max() > 0.05 and all(words)
    own = fit_readout(probabilities, labels, OPTIONS)
    one_part = crossed(probabilities, labels, np.zeros(55, int), OPTIONS)
    assert one_part[0] == pytest.approx(own.probabilities(probabilities), abs=1e-12)


def test_nothing_is_fitted_on_few_images_or_when_nothing_is_wanted():
    probabilities, labels = drawn(49)
    assert fit_readout(probabilities, labels, OPTIONS) == Readout(decision="expected", ordered=True)
    none = ReadoutOptions(decision="expected", ordered=True, temperature=False, thresholds=False, coverage=0.0)
    probabilities, labels = drawn(100)
    assert fit_readout(probabilities, labels, none).images == 0


def test_a_readout_comes_back_from_its_file(tmp_path):
    probabilities, labels = drawn(200)
    readout = fit_readout(probabilities, labels, OPTIONS)
    write_readout(tmp_path, readout)
    assert read_readout(tmp_path, "expected", True) == readout
    grades = readout.grades(readout.probabilities(probabilities))
    expected = expected_grades(readout.probabilities(probabilities))
    assert readout.thresholds is not None and (grades == cut(expected, readout.thresholds)).all()
