import json

import numpy as np
import pytest

from foveal.evaluate.operating import fit_referral
from foveal.readout.readout import Readout, read_readout, write_readout
from foveal.readout.referral import check_referral, least_sensitivity, score


def drawn(n, seed=0, sharpness=3.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, n)
    scores = random.normal(size=(n, 5)) + sharpness * np.eye(5)[labels]
    shares = np.exp(scores)
    return shares / shares.sum(1, keepdims=True), labels


def test_the_sensitivity_asked_for_holds_in_validation_and_nearly_on_new_images():
    probabilities, labels = drawn(400)
    rates = []
    for least in (0.8, 0.9, 0.98):
        found = fit_referral(score(probabilities, 2), labels >= 2, np.arange(400) // 2, least, 2)
        called = score(probabilities, 2) >= found.threshold
        assert called[labels >= 2].mean() == pytest.approx(found.sensitivity["value"], abs=1e-12)
        assert (~called[labels < 2]).mean() == pytest.approx(found.specificity["value"], abs=1e-12)
        assert found.sensitivity["low"] < least <= found.sensitivity["value"] < least + 0.01
        new, truth = drawn(4000, 1)
        assert (score(new, 2) >= found.threshold)[truth >= 2].mean() == pytest.approx(least, abs=0.04)
        rates.append(found.specificity["value"])
    assert rates == sorted(rates, reverse=True)


def test_a_threshold_refers_whatever_the_grade_and_comes_back_from_its_file(tmp_path):
    probabilities, labels = drawn(200)
    plain = Readout(decision="expected", ordered=True)
    referral = fit_referral(score(probabilities, 2), labels >= 2, np.arange(200), 0.95, 2)
    readout = Readout(decision="expected", ordered=True, referral=referral)
    grades = readout.grades(probabilities)
    assert (grades == plain.grades(probabilities)).all()
    called = readout.referred(probabilities, grades, 2)
    assert (called != (grades >= 2)).any() and (plain.referred(probabilities, grades, 2) == (grades >= 2)).all()
    write_readout(tmp_path, readout)
    assert read_readout(tmp_path, "expected", True) == readout
    assert json.loads((tmp_path / "readout.json").read_text())["referral"]["least"] == 0.95
    assert "referral" not in plain.as_json()  # earlier versions can read it


def test_what_can_be_asked(refuses):
    assert least_sensitivity("grade") is None and least_sensitivity("sensitivity=0.9") == 0.9
    for wrong in ("sensitivity", "sensitivity=1", "sensitivity=0", "specificity=0.9", "0.9", "sensitivity=high"):
        with refuses("option.value", wrong):
            least_sensitivity(wrong)


def test_too_few_images_to_choose_a_threshold(refuses):
    labels = np.repeat([0, 2], (30, 20))
    check_referral(0.9, 2, labels)
    check_referral(0.95, 2, labels)
    with refuses("referral.too_few", 20, 50):
        check_referral(0.98, 2, labels)
    with refuses("referral.too_few", 19):
        check_referral(0.9, 2, labels[:-1])
    with refuses("referral.too_few"):
        check_referral(0.9, 2, labels[11:])
    with refuses("option.conflict"):
        check_referral(0.9, None, labels)
