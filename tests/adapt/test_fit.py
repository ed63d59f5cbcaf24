"""What graded photographs of a clinic bring, on drawn probabilities: help where there is a shift, no harm elsewhere."""

import importlib

import numpy as np
import pytest
from scipy.special import log_softmax

from foveal.adapt.fit import curve, fit_clinic, loss_gained, read
from foveal.metrics import confusion_matrix, quadratic_kappa
from foveal.readout.calibration import estimate_shares, fit_adjustment, shifted
from foveal.readout.readout import Readout, crossed, read_readout, write_readout
from foveal.sets.splits import parts_of_groups

HOME = np.array([0.5, 0.1, 0.25, 0.08, 0.07])
PLAIN = Readout(decision="sharpened", ordered=True, images=500)


def drawn(count, seed, shares=HOME, harsh=0.0, sure=1.0):
    """Probabilities that are right for the shares of home, labels, and patients of two photographs each.

    harsh: readers of the clinic call a photograph more severe by so many grades. sure: overconfidence.
    """
    random = np.random.default_rng(seed)
    truth = random.choice(5, count, p=shares)
    seen = truth + random.normal(0, 0.7, count)
    scores = np.log(HOME) - (seen[:, None] - np.arange(5)) ** 2 / (2 * 0.49)
    labels = np.clip(np.floor(truth + random.uniform(0, 1, count) + harsh).astype(int), 0, 4) if harsh else truth
    return np.exp(log_softmax(scores * sure, axis=1)), labels, np.arange(count) // 2


def kappa(labels, grades):
    return float(quadratic_kappa(confusion_matrix(labels, grades, 5)))


def effects(sizes, draws, **shift):
    """size -> mean change of kappa and of log-loss on 2,000 new photographs, where adapt accepts; share accepted."""
    new, labels, units = drawn(2000, 999, **shift)
    before, found = read(PLAIN, new), {}
    for size in sizes:
        kept = []
        for seed in range(draws):
            raw, known, groups = drawn(size, seed, **shift)
            parts = parts_of_groups(groups.astype(str), 0)
            apart = crossed(
                lambda own, raw=raw, known=known, groups=groups: fit_clinic(PLAIN, raw[own], known[own], groups[own]),
                raw, parts,
            )[0]  # fmt: skip
            gain, error = loss_gained(known, raw, apart, groups)
            if gain > error:
                after = read(fit_clinic(PLAIN, raw, known, groups), new)
                change = kappa(labels, after[1]) - kappa(labels, before[1])
                kept.append((change, -loss_gained(labels, before[0], after[0], units)[0]))
        found[size] = (*np.mean(kept or [(0.0, 0.0)], axis=0), len(kept) / draws)
    return found


@pytest.mark.slow
def test_adaptation_helps_where_readers_or_shares_differ():
    for shift in ({"harsh": 0.8}, {"shares": np.array([0.05, 0.1, 0.25, 0.3, 0.3])}, {"sure": 3.0}):
        for change, loss, accepted in effects((100, 200), 8, **shift).values():
            assert accepted > 0.8 and loss < -0.1 and change > -0.01
    assert effects((200,), 8, harsh=0.8)[200][0] > 0.02


@pytest.mark.slow
def test_adaptation_does_no_harm_where_nothing_differs():
    for change, loss, accepted in effects((50, 100, 200), 12).values():
        assert change > -0.01 and accepted < 0.2 and accepted * loss < 0.01  # an accepted one is luck


def test_an_adjustment_can_be_undone_and_kept(tmp_path):
    raw, labels, _ = drawn(60, 0, sure=2.0)
    adjustment = fit_adjustment(raw, labels, weighted=True)
    clear = raw.clip(1e-6) / raw.clip(1e-6).sum(1, keepdims=True)
    assert np.allclose(adjustment.undone(adjustment.applied(clear).astype(np.float32)), clear, atol=1e-5)
    readout = Readout(decision="sharpened", ordered=True, limits=(0.1,) * 5, adjustment=adjustment)
    probabilities = readout.probabilities(raw)
    grades = readout.grades(probabilities)
    assert (grades == PLAIN.grades(raw)).all()  # weights change probabilities, not grades
    write_readout(tmp_path, readout)
    assert read_readout(tmp_path, "", ordered=True) == readout
    assert "adjustment" not in PLAIN.as_json()


def test_a_temperature_alone_keeps_the_weights():
    raw, labels, _ = drawn(300, 0, sure=2.0)
    fitted = fit_adjustment(raw, labels, weighted=False)
    assert fitted.weights == (1.0,) * 5 and fitted.temperature == pytest.approx(2, abs=0.3)


def test_the_shares_of_a_clinic_are_estimated_without_labels():
    own, labels, _ = drawn(2000, 1, sure=2.0)
    here = np.array([0.2, 0.1, 0.3, 0.2, 0.2])
    new, truth, units = drawn(1500, 2, shares=here, sure=2.0)
    adjustment, shares = shifted(new, own, labels)
    assert abs(shares - here).max() < 0.06 and shares.sum() == pytest.approx(1, abs=1e-4)
    gain, error = loss_gained(truth, new, adjustment.applied(new), units)
    assert gain > 2 * error
    assert estimate_shares(np.eye(2)[[0, 0, 1, 0]], np.array([0.5, 0.5])) == pytest.approx([0.75, 0.25])


def test_the_curve_has_a_row_for_each_size_that_leaves_others(monkeypatch):
    monkeypatch.setattr(importlib.import_module("foveal.adapt.fit"), "REPEATS", 2)
    rows = curve(PLAIN, *drawn(80, 3, sure=3.0))
    assert [row["photographs"] for row in rows] == [25, 50] and rows[0]["judged"] == 56
    assert all(row[name]["low"] <= row[name]["value"] <= row[name]["high"] for row in rows for name in ("log_loss",))
    assert rows[1]["log_loss"]["value"] < 0
