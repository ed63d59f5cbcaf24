import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from foveal.evaluate.curves import calibration_error
from foveal.evaluate.intervals import Resampling
from foveal.losses.grading import regression_logits
from foveal.metrics import quadratic_kappa
from foveal.readout.calibration import USUAL_SLOPE, fit_steps, fit_temperature, heated, stepped
from foveal.readout.decisions import expected_grades, half_way
from foveal.readout.readout import (
    Readout,
    ReadoutOptions,
    crossed,
    fit_readout,
    read_readout,
    readout_from,
    write_readout,
)

OPTIONS = ReadoutOptions(decision="sharpened", ordered=True, temperature=True, cutoffs=True, coverage=0.9)


def drawn(n, seed=0, classes=5, sharpness=1.0):
    """Probabilities [n, K], and labels drawn from them before they were sharpened."""
    random = np.random.default_rng(seed)
    true = random.dirichlet(np.full(classes, 0.5), n)
    labels = np.array([random.choice(classes, p=row) for row in true])
    return heated(true, 1 / sharpness), labels


def cross_fitted(raw, labels, parts):
    return crossed(lambda chosen: fit_readout(raw[chosen], labels[chosen], OPTIONS, least=1), raw, parts)


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


def test_images_that_a_readout_is_fitted_on_do_not_judge_themselves():
    # Labels without any relation to the probabilities: what is fitted can only flatter where it was fitted.
    random = np.random.default_rng(2)
    probabilities, labels = random.dirichlet(np.ones(5), 300), random.integers(0, 5, 300)
    parts = np.arange(300) % 5
    own = fit_readout(probabilities, labels, OPTIONS)
    inside = own.grades(own.probabilities(probabilities))
    outside = cross_fitted(probabilities, labels, parts)[1]

    def kappa(grades):
        return float(quadratic_kappa(np.bincount(labels * 5 + grades, minlength=25).reshape(1, 5, 5))[0])

    assert kappa(inside) > kappa(outside) + 0.03
    # Changing the labels of one part changes nothing of how that part is read.
    changed = np.where(parts == 3, (labels + 1) % 5, labels)
    again = cross_fitted(probabilities, changed, parts)
    before = cross_fitted(probabilities, labels, parts)
    assert (again[0][parts == 3] == before[0][parts == 3]).all()
    assert (again[1][parts == 3] == before[1][parts == 3]).all()


def test_validation_and_new_images_are_read_alike_also_where_there_are_few():
    # 55 images: enough for all, and each part is read with the 44 others, not left as it was.
    probabilities, labels = drawn(55, sharpness=3.0)
    read, _, words = cross_fitted(probabilities, labels, np.arange(55) % 5)
    assert abs(read - probabilities).max() > 0.05 and all(words)
    own = fit_readout(probabilities, labels, OPTIONS)
    one_part = cross_fitted(probabilities, labels, np.zeros(55, int))
    assert one_part[0] == pytest.approx(own.probabilities(probabilities), abs=1e-12)


def test_nothing_is_fitted_on_few_images_or_when_nothing_is_wanted():
    probabilities, labels = drawn(49)
    assert fit_readout(probabilities, labels, OPTIONS) == Readout(decision="sharpened", ordered=True)
    none = ReadoutOptions(decision="sharpened", ordered=True, temperature=False, cutoffs=False, coverage=0.0)
    probabilities, labels = drawn(100)
    assert fit_readout(probabilities, labels, none).images == 0


def test_a_readout_comes_back_from_its_file(tmp_path):
    probabilities, labels = drawn(200)
    readout = replace(fit_readout(probabilities, labels, OPTIONS), cutoffs=(0.3, 1.2, 2.5, 3.6))
    write_readout(tmp_path, readout)
    assert set(json.loads((tmp_path / "readout.json").read_text())) == {
        "decision", "ordered", "temperature", "steps", "thresholds", "limits", "coverage", "images",
    }  # fmt: skip
    assert read_readout(tmp_path, "expected", True) == readout  # the file decides, not what the caller expects


def test_a_run_that_lost_its_readout_is_refused(tmp_path, refuses):
    assert read_readout(tmp_path, "expected", True) == Readout(decision="expected", ordered=True)
    with refuses("run.damaged", tmp_path / "readout.json"):
        read_readout(tmp_path, "expected", True, expected=True)


def test_a_readout_from_before_steps_can_be_read():
    old = {"decision": "expected", "ordered": True, "temperature": 1.2, "thresholds": [0.4, 1.5], "limits": None,
           "coverage": 0.0, "images": 60}  # fmt: skip
    expected = Readout(decision="expected", ordered=True, temperature=1.2, cutoffs=(0.4, 1.5), images=60)
    assert readout_from(old) == expected == readout_from(expected.as_json())
    assert expected.grades(np.array([[0.0, 0.6, 0.4], [0.6, 0.4, 0.0]])).tolist() == [1, 1]  # as it was decided then


def regressed(n, seed, scatter=(0.2, 0.5, 0.9, 0.9, 0.5), shares=(0.6, 0.15, 0.19, 0.04, 0.02)):
    """Probabilities that a regression gives, whose scatter differs from grade to grade, and the true grades."""
    random = np.random.default_rng(seed)
    labels = random.choice(5, n, p=shares)
    given = 0.8 * labels + 0.2 + np.asarray(scatter)[labels] * random.normal(size=n)
    return regression_logits(torch.tensor(given)[:, None], 5).softmax(1).numpy(), labels


def test_steps_calibrate_a_regression_whose_scatter_differs_where_a_temperature_cannot():
    raw, labels = regressed(4000, 3)
    new, truth = regressed(20000, 4)
    plain, stepwise = (
        fit_readout(raw, labels, replace(OPTIONS, steps=steps)).probabilities(new) for steps in (False, True)
    )
    shares = np.bincount(truth, minlength=5) / len(truth)
    assert stepwise.mean(0) == pytest.approx(shares, abs=0.01) and abs(plain.mean(0) - shares).max() > 0.05
    everywhere = Resampling(np.arange(len(truth)), 20, 0)
    assert calibration_error(stepwise, truth, everywhere)[0] < 0.5 * calibration_error(plain, truth, everywhere)[0]
    # The order of images by expected grade is that of the regression: what a figure of ranks says does not change.
    order = np.argsort(expected_grades(new), kind="stable")
    assert (np.diff(expected_grades(stepwise)[order]) > -1e-9).all()


def test_steps_are_what_their_formula_says():
    raw = drawn(7)[0]
    steps = ((3.0, 0.4), (2.0, 1.6), (4.0, 2.2), (1.0, 3.9))
    found, expected = stepped(raw, steps), expected_grades(raw)
    for k, (slope, cut_) in enumerate(steps):
        assert np.log(found[:, k + 1] / found[:, k]) == pytest.approx(slope * (expected - cut_), abs=1e-9)
    assert found.sum(1) == pytest.approx(1, abs=1e-12)


def test_steps_have_the_least_loss_of_all_near_by():
    raw, labels = regressed(300, 5)
    found = np.array(fit_steps(raw, labels))

    def cost(steps):
        chosen = stepped(raw, steps)[np.arange(300), labels]
        prior = np.log(steps[:, 0] / USUAL_SLOPE) ** 2 + (steps[:, 1] - half_way(5)) ** 2
        return -np.log(chosen).sum() + 0.5 * prior.sum()

    for k, column in np.ndindex(4, 2):
        for factor in (0.97, 1.03):
            moved = found.copy()
            moved[k, column] *= factor
            assert cost(moved) > cost(found)


def test_steps_to_classes_without_images_stay_near_what_the_regression_assumed():
    raw, labels = regressed(400, 6, shares=(0.6, 0.2, 0.2, 0.0, 0.0))
    steps = np.array(fit_steps(raw, labels))
    assert abs(steps[3, 1] - 3.5) < 1 and 1 < steps[3, 0] < 9
    # None of 400 is a reason to doubt, but a clear case of the highest grade is not ruled out.
    clear = regression_logits(torch.tensor([[4.5]]), 5).softmax(1).numpy()
    assert stepped(clear, steps)[0, 4] > 0.1
