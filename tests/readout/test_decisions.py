import numpy as np
import pytest

from foveal.readout.decisions import DECISIONS, POWER, decide, expected_grades, half_way, place_of

PROBABILITIES = np.array([[0.4, 0.0, 0.3, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.0, 0.0, 0.0]])


def test_every_rule_on_examples_by_hand(refuses):
    assert expected_grades(PROBABILITIES).tolist() == pytest.approx([1.5, 4.0, 0.5])
    assert decide(PROBABILITIES, "most_probable").tolist() == [0, 4, 0]
    assert decide(PROBABILITIES, "expected").tolist() == [2, 4, 1]
    # (2 x 27 + 3 x 27) / (64 + 27 + 27) = 1.14
    assert place_of(PROBABILITIES, "sharpened").tolist() == pytest.approx([135 / 118, 4.0, 0.5])
    assert decide(PROBABILITIES, "sharpened").tolist() == [1, 4, 1]
    assert decide(PROBABILITIES, "sharpened", (1.2, 1.3, 2.0, 3.0)).tolist() == [0, 4, 0]
    with refuses("option.value", "vote", *DECISIONS):
        decide(PROBABILITIES, "vote")


def test_the_sharpened_rule_lies_between_the_expected_and_the_most_probable_grade():
    drawn = np.random.default_rng(0).dirichlet(np.full(5, 0.7), 3000)
    away = [abs(place_of(drawn, decision) - drawn.argmax(1)).mean() for decision in ("expected", "sharpened")]
    assert away[1] < 0.6 * away[0]
    sharper = drawn ** (POWER * 20)
    assert (decide(sharper / sharper.sum(1, keepdims=True), "sharpened") == drawn.argmax(1)).mean() > 0.99


def test_rules_need_no_double_precision_and_no_exact_sums():
    drawn = np.random.default_rng(1).dirichlet(np.ones(5), 500)
    for decision in DECISIONS:
        assert (decide(drawn.astype(np.float32), decision) == decide(drawn.round(6), decision)).mean() > 0.99
    assert half_way(3) == (0.5, 1.5)
