"""The rule as a whole, over drawn validation sets: it does no harm with few images, and helps where it can."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "decisions.py"
MOST_LOST, LEAST_GAINED = 0.01, 0.02  # of kappa


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("decisions", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(program, draws, sizes):
    for kind in ("softmax", "regression"):
        for size in sizes:
            found = program.simulate(kind, size, draws)
            assert found["kappa"].mean() >= -MOST_LOST and found["given_kappa"].mean() >= -MOST_LOST, (kind, size)
            assert found["accuracy"].mean() > 0, (kind, size)
    softmax, regression = (program.simulate(f"{kind}, shrunk", 500, draws) for kind in ("softmax", "regression"))
    assert softmax["kappa"].mean() >= LEAST_GAINED and softmax["fitted"].mean() > 0.9
    assert softmax["given_kappa"].mean() >= LEAST_GAINED and regression["given_kappa"].mean() >= LEAST_GAINED


def test_the_rule_on_a_few_drawn_validation_sets(program):
    check(program, 6, (50, 500))


@pytest.mark.slow
def test_the_rule_on_many_drawn_validation_sets_of_each_size(program):
    check(program, 150, program.SIZES)


def test_without_fitting_nothing_is_gained_where_predictions_are_shrunk(program, monkeypatch):
    monkeypatch.setattr("foveal.readout.readout.choose_cutoffs", lambda *given: None)
    assert program.simulate("softmax, shrunk", 500, 3)["kappa"].mean() < LEAST_GAINED


def test_rules_are_compared_and_chosen_on_other_sources(program, tmp_path, capsys):
    tables = []
    for number, place in enumerate(("here", "there")):
        probabilities, labels = program.drawn(program.np.random.default_rng(number), "softmax", 120)
        table = pd.DataFrame(probabilities, columns=[f"p{k}" for k in range(5)])
        tables.append(table.assign(label=labels, place=place, id=[f"i{k}" for k in range(120)], group="", seed=0))
    pd.concat(tables).to_csv(tmp_path / "p.csv", index=False)
    program.show_rules(program.read(tmp_path / "p.csv", "place"))
    printed = capsys.readouterr().out
    assert all(printed.count(f"  {rule} ") >= 2 for rule in program.RULES)
