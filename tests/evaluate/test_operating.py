from functools import partial

import numpy as np
import pytest

from foveal.evaluate.intervals import Resampling
from foveal.evaluate.operating import BY_GRADE, IN_USE, NAMES, choose, judge, operating_points, severity
from foveal.readout.scales import Scale
from foveal.sets.splits import group_codes

exactly = partial(pytest.approx, rel=1e-12, abs=1e-12)

ICDR = Scale(names=list("01234"), ordered=True, referable_from=2, sight_threatening_from=3)


def test_thresholds_by_hand():
    # Ten of each kind; the healthy score 0.0 to 0.9, the ill 0.55 to 1.45.
    scores = np.concatenate([np.arange(10) / 10, np.arange(10) / 10 + 0.55])
    positive = np.arange(20) >= 10
    assert choose(scores, positive, "90 % specificity") == exactly((0.85 + 0.8) / 2)
    assert choose(scores, positive, "90 % sensitivity") == exactly((0.65 + 0.6) / 2)
    scores, positive = np.array([0, 0.1, 0.2, 0.35, 0.3, 0.4, 0.5]), np.arange(7) >= 4
    assert choose(scores, positive, "Youden") == exactly(0.25)


def test_what_is_asked_holds_on_the_validation_part():
    random = np.random.default_rng(0)
    positive = random.random(500) < 0.3
    scores = (random.normal(size=500) + positive).round(1)
    called = scores >= choose(scores, positive, "90 % specificity")
    assert (~called[~positive]).mean() >= 0.9 > (~(scores >= scores[called].min() - 0.1)[~positive]).mean()
    called = scores >= choose(scores, positive, "90 % sensitivity")
    assert called[positive].mean() >= 0.9 > (scores >= scores[called].min() + 0.1)[positive].mean()


def test_a_useless_score_refers_nobody_or_everybody():
    scores, positive = np.full(20, 0.5), np.arange(20) < 5
    assert choose(scores, positive, "90 % specificity") > 0.5 >= choose(scores, positive, "90 % sensitivity")


def test_figures_by_hand_and_by_bayes():
    called = np.repeat([True, False, True, False], (8, 2, 30, 60))
    true = np.repeat([True, True, False, False], (8, 2, 30, 60))
    resampling = Resampling(np.arange(100), 200)
    own = judge(called, true, resampling, None)
    found = {name: entry["value"] for name, entry in own.items() if isinstance(entry, dict)}
    assert found == exactly({
        "sensitivity": 0.8, "specificity": 2 / 3, "positive_predictive_value": 8 / 38,
        "negative_predictive_value": 60 / 62,
    })  # fmt: skip
    assert [own[name]["n"] for name in found] == [10, 90, 38, 62] and own["referred"] == 0.38
    assert own["positive_predictive_value"]["prevalence"] == 0.1
    half = judge(called, true, resampling, 0.5)
    assert half["positive_predictive_value"]["value"] == exactly(0.8 / (0.8 + 1 / 3))
    assert half["sensitivity"] == own["sensitivity"]
    for entry in (*own.values(), *half.values()):
        assert not isinstance(entry, dict) or entry["low"] <= entry["value"] <= entry["high"]


def test_points_follow_the_validation_part_and_never_the_judged_one(predictions):
    table, other = predictions(100, seed=1), predictions(100, 0.3, seed=2)
    chosen_on = predictions(200, seed=3)
    points = [
        operating_points(judged, chosen_on, ICDR, Resampling(group_codes(judged["group"]), 100), None)[0]
        for judged in (table, other)
    ]
    assert [point["threshold"] for point in points[0]] == [point["threshold"] for point in points[1]]
    assert points[0] != points[1]
    assert [(point["target"], point["name"]) for point in points[0]] == [
        (target, name) for target in ("referable", "sight_threatening") for name in (BY_GRADE, *NAMES)
    ]
    chosen = [point for point in points[0] if point["name"] != BY_GRADE]
    assert all((point["chosen_on"], point["chosen_n"]) == ("val", 200) for point in chosen)


def test_the_first_point_is_that_of_the_grades_whatever_the_probabilities(predictions):
    table = predictions(80).assign(p0=1.0, p1=0.0, p2=0.0, p3=0.0, p4=0.0)
    resampling = Resampling(group_codes(table["group"]), 100)
    point = operating_points(table, table.head(0), ICDR, resampling, None)[0][0]
    ill, called = table["label"] >= 2, table["grade"] >= 2
    assert point["name"] == BY_GRADE and point["threshold"] is None and point["referred"] == called.mean()
    assert point["sensitivity"]["value"] == exactly(called[ill].mean())
    assert point["specificity"]["value"] == exactly((~called)[~ill].mean())
    assert (called == table["referable"]).all()


def test_without_validation_images_of_both_kinds_there_is_a_reason_instead(predictions):
    table = predictions(40)
    resampling = Resampling(group_codes(table["group"]), 100)
    points, note = operating_points(table, table.head(0), ICDR, resampling, None)
    assert [point["name"] for point in points] == [BY_GRADE] * 2 and note
    healthy = table[table["label"] < 2]
    points, note = operating_points(table, healthy, ICDR, resampling, None)
    assert [point["name"] for point in points] == [BY_GRADE] * 2
    assert "referable" in note and "sight_threatening" in note
    points, note = operating_points(table, healthy, Scale(names=list("01234"), ordered=False), resampling, None)
    assert points == [] and note


def test_severity_is_the_sum_from_the_cut_on(predictions):
    table = predictions(30)
    scores, positive = severity(table, 3)
    assert scores == exactly(table["p3"] + table["p4"]) and positive.tolist() == (table["label"] >= 3).tolist()


def test_a_perfect_predictive_value_at_another_prevalence_is_as_unsure_as_what_it_comes_from():
    true = np.array([True] * 3 + [False] * 300)
    called = np.array([True] * 3 + [False] * 270 + [True] * 30)
    found = judge(called, true, Resampling(np.arange(303), 200, 0), 0.5)
    entry, sensitivity, specificity = (found[k] for k in ("negative_predictive_value", "sensitivity", "specificity"))
    assert entry["value"] == 1 and sensitivity["low"] == exactly(0.025 ** (1 / 3))
    b, missed = specificity["low"], 1 - sensitivity["low"]
    assert entry["low"] == exactly(b / (b + missed)) and entry["low"] < 0.6


def test_the_referral_in_use_comes_first_where_it_is_not_by_grade(predictions):
    table, chosen_on = predictions(100, seed=1), predictions(200, seed=3)
    resampling = Resampling(group_codes(table["group"]), 100)

    def names(judged, frozen=None):
        points = operating_points(judged, chosen_on, ICDR, resampling, None, frozen)[0]
        return [point["name"] for point in points if point["target"] == "referable"], points[0]

    assert names(table)[0] == [BY_GRADE, *NAMES] == names(table.drop(columns="referable"))[0]
    more = table.assign(referable=(table["grade"] >= 1).astype(int))
    found, first = names(more, 0.2)
    assert found == [IN_USE, BY_GRADE, *NAMES] and first["threshold"] == 0.2 and first["chosen_on"] is None
    assert first["referred"] == exactly((table["grade"] >= 1).mean())
    assert names(more)[0][0] == names(table, 0.2)[0][0] == IN_USE
