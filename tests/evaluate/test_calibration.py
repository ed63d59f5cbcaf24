from functools import partial

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from foveal.evaluate.curves import brier_score, calibration_error, equal_mass_bins, reliability
from foveal.evaluate.intervals import Resampling

exactly = partial(pytest.approx, rel=1e-12, abs=1e-12)


def graded(n=2000, seed=0, overconfident=0.0):
    """Probabilities [n, 2] and labels that follow them, but for a shift towards certainty."""
    random = np.random.default_rng(seed)
    sure = random.uniform(0.5, 1 - overconfident, n)
    first = random.random(n) < 0.5
    right = random.random(n) < sure
    shown = sure + overconfident
    return np.where(first[:, None], np.stack([shown, 1 - shown], 1), np.stack([1 - shown, shown], 1)), np.where(
        first == right, 0, 1
    )


def test_error_by_hand():
    # 40 images make two bins of 20: one 60 % sure and 12 right of 20, one 90 % sure and 10 right of 20.
    sure = np.repeat([0.6, 0.9], 20)
    labels = np.array([0] * 12 + [1] * 8 + [0] * 10 + [1] * 10)
    probabilities = np.stack([sure, 1 - sure], 1)
    value, _ = calibration_error(probabilities, labels, Resampling(np.arange(40), 100))
    assert value == exactly(0.2)
    bins = reliability(probabilities, labels)["bins"]
    assert [entry["n"] for entry in bins] == [20, 20]
    assert [entry["accuracy"] for entry in bins] == exactly([0.6, 0.5])
    assert bins[1] == exactly({"low": 0.9, "high": 0.9, "confidence": 0.9, "accuracy": 0.5, "n": 20})


def test_the_error_is_that_of_the_bins_and_within_its_interval():
    for overconfident in (0.0, 0.1):
        probabilities, labels = graded(600, overconfident=overconfident)
        value, drawn = calibration_error(probabilities, labels, Resampling(np.arange(600), 1000))
        bins = reliability(probabilities, labels)["bins"]
        total = sum(entry["n"] * abs(entry["accuracy"] - entry["confidence"]) for entry in bins)
        assert value == exactly(total / 600)
        assert np.quantile(drawn, 0.025) <= value <= np.quantile(drawn, 0.975)


def test_luck_is_the_error_of_calibrated_graders():
    found = [graded(600, seed) for seed in range(15)]
    errors = [calibration_error(*one, Resampling(np.arange(600), 100))[0] for one in found]
    assert np.mean(errors) == pytest.approx(reliability(*found[0])["luck"], rel=0.15)
    overconfident = graded(600, overconfident=0.1)
    assert (
        calibration_error(*overconfident, Resampling(np.arange(600), 100))[0] > 2 * reliability(*overconfident)["luck"]
    )


def test_bins_hold_equally_many_and_ties_stay_together():
    bins = equal_mass_bins(np.random.default_rng(0).random(3000))
    assert np.bincount(bins).tolist() == pytest.approx([200] * 15, abs=1)
    assert len(np.unique(equal_mass_bins(np.full(500, 0.6)))) == 1
    assert len(np.unique(equal_mass_bins(np.linspace(0, 1, 30)))) == 1  # 20 images a bin at least


def test_brier_equals_scikit_learn():
    probabilities, labels = graded(300)
    value, drawn = brier_score(probabilities, labels, Resampling(np.arange(300), 200))
    assert value == pytest.approx(2 * brier_score_loss(labels, probabilities[:, 1]), abs=1e-12)
    assert drawn.mean() == pytest.approx(value, abs=0.01)
