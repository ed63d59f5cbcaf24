import json

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import measure_rules
from foveal.evaluate.show import warnings
from foveal.readout.decisions import cut, decide, place_of, shrunk_cutoffs
from foveal.sets.splits import group_codes

RULES = ["given", "argmax", "half-way", "median", "sharpened", "fitted"]


def drawn(n, seed=0, blurred=0.0):
    """Predictions of a grader that knows the probabilities; `blurred` is the share of them that is the middle grade."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(5, 0.4), n)
    labels = [int(random.choice(5, p=row)) for row in probabilities]
    probabilities = (1 - blurred) * probabilities + blurred * np.eye(5)[2]
    table = pd.DataFrame(probabilities, columns=[f"p{k}" for k in range(5)])
    grades = decide(probabilities, "sharpened")
    return table.assign(
        id=[f"i{k}" for k in range(n)], label=labels, grade=grades, group=[f"g{k // 2}" for k in range(n)]
    )


def values(table, chosen_on=None):
    found = measure_rules(table, table[:0] if chosen_on is None else chosen_on, Resampling(group_codes(table["group"])))
    assert list(found) == RULES
    for figures in found.values():
        for entry in figures.values():
            assert entry["low"] <= entry["value"] <= entry["high"] and entry["n"] == len(table)
    return found


def test_each_rule_is_best_at_what_it_is_made_for():
    found = values(drawn(1500))
    right = {rule: figures["accuracy"]["value"] for rule, figures in found.items()}
    assert right["argmax"] > right["median"] > right["half-way"] and right["argmax"] > right["sharpened"]
    assert found["given"] == found["sharpened"]


def test_fitted_cutoffs_come_from_validation_images_or_from_other_groups():
    table, other = drawn(300, blurred=0.4), drawn(200, seed=1, blurred=0.4)
    found = values(table, other)
    columns, truth = [f"p{k}" for k in range(5)], np.eye(5)
    cutoffs = shrunk_cutoffs(place_of(other[columns].to_numpy(), "sharpened"), truth[other["label"]])
    grades = cut(place_of(table[columns].to_numpy(), "sharpened"), cutoffs)
    assert found["fitted"]["accuracy"]["value"] == pytest.approx((grades == table["label"]).mean())
    assert found["fitted"]["quadratic_kappa"]["value"] > found["sharpened"]["quadratic_kappa"]["value"] + 0.05
    alone, few = values(table), values(table, other[:49])
    assert alone == few and alone["fitted"] != found["fitted"]


def test_evaluate_keeps_all_rules_and_warns_where_they_differ(tmp_path, capsys):
    file = tmp_path / "p.csv"
    drawn(400).assign(split="test", referable="").to_csv(file, index=False)
    result = json.loads(foveal.evaluate(file).read_text())
    assert list(result["decisions"]) == RULES
    assert result["decisions"]["given"]["accuracy"]["value"] == result["metrics"]["accuracy"]["value"]
    printed = capsys.readouterr().out
    assert all(printed.count(rule) >= 1 for rule in RULES)
    there = len(warnings(result))
    for figures in result["decisions"].values():
        figures["accuracy"]["value"] = figures["quadratic_kappa"]["value"] = 0.7
    fewer = len(warnings(result))
    assert fewer < there
    result["decisions"]["median"]["accuracy"]["value"] = 0.64
    assert len(warnings(result)) == fewer + 1
