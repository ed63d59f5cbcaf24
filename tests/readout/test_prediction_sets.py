import numpy as np
import pandas as pd
import pytest

from foveal.readout.readout import Readout, fit_limits, from_words, sets_of


def graded(n, random):
    """A grader that is unsure, with rare classes: probabilities [n, 5] and labels [n]."""
    labels = random.choice(5, n, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    logits = -np.abs(np.arange(5) - labels[:, None]) + random.normal(0, 1.2, (n, 5))
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True), labels


def test_coverage_is_what_was_promised_in_every_class():
    random = np.random.default_rng(0)
    covered, counts, full = np.zeros(5), np.zeros(5), 0
    for _ in range(200):
        probabilities, labels = graded(400, random)
        limits = fit_limits(probabilities, labels, 0.9)
        new, true = graded(200, random)
        members = sets_of(new, new.argmax(1), limits, ordered=True)
        inside = members[np.arange(200), true]
        covered += np.bincount(true, inside, minlength=5)
        counts += np.bincount(true, minlength=5)
        full += (members.sum(1) == 5).mean() / 200
    share = covered / counts
    assert (share >= 0.895).all() and share[0] < 0.95  # at least as promised, and not by giving all grades
    assert full < 0.5


def test_sets_have_no_gaps_and_hold_the_given_grade():
    probabilities = np.array([[0.4, 0.05, 0.4, 0.1, 0.05], [0.1, 0.1, 0.1, 0.1, 0.6]])
    limits = (0.3, 0.3, 0.3, 0.3, 0.9)
    for ordered, words in ((True, ["0 1 2", "4"]), (False, ["0 2", "4"])):
        readout = Readout(decision="expected", ordered=ordered, limits=limits)
        assert readout.sets(probabilities, np.array([0, 4])) == words


def test_a_class_with_too_few_images_is_in_every_set():
    probabilities = np.tile([0.8, 0.1, 0.1], (20, 1))
    labels = np.array([0] * 12 + [1] * 8)
    limits = fit_limits(probabilities, labels, 0.9)
    assert limits[0] == pytest.approx(0.8) and limits[1] == 0.0 and limits[2] == 0.0  # 8 and 0 images: 9 are needed


def test_words_come_back_and_wrong_ones_are_refused(refuses):
    probabilities = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    words = Readout(decision="expected", ordered=True, limits=(0.5,) * 3).sets(probabilities, np.array([0, 2]))
    assert (from_words(pd.Series(words), 3) == (probabilities > 0)).all()
    for words in ("1-2", "0 3"):
        with refuses("predictions.value", words):
            from_words(pd.Series([words]), 3)


def test_another_way_of_computing_gives_the_same_sets():
    random = np.random.default_rng(4)
    probabilities, labels = graded(300, random)
    limits, grades = fit_limits(probabilities, labels, 0.9), probabilities.argmax(1)
    noise = random.uniform(-2e-6, 2e-6, probabilities.shape)  # as between a run and its exported file
    assert (sets_of(probabilities + noise, grades, limits, True) == sets_of(probabilities, grades, limits, True)).all()
