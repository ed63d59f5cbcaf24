import json

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.evaluate.compare import describe, paired_difference
from foveal.evaluate.predictions import read_predictions, units


def predictions(n=60, skill=0.7, seed=0, classes=5):
    random = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, classes, n)
    grades = np.where(random.random(n) < skill, labels, random.integers(0, classes, n))
    table = pd.DataFrame({"id": [f"i{number}" for number in range(n)], "label": labels})
    for number in range(classes):
        table[f"p{number}"] = np.where(grades == number, 0.6, 0.4 / (classes - 1))
    return table.assign(
        grade=grades, referable=(grades >= 2).astype(int), group=[f"g{k // 2}" for k in range(n)], split="test"
    )


def write(path, table):
    table.to_csv(path, index=False)
    return path


def test_every_metric_has_value_interval_n_and_baseline(tmp_path):
    out = foveal.evaluate(write(tmp_path / "p.csv", predictions()))
    result = json.loads(out.read_text())
    assert out == tmp_path / "metrics.json" and result["about"]["groups"] == 30
    assert {"accuracy", "quadratic_kappa", "macro_f1", "referable_auc", "precision of 0", "recall of 4"} <= set(
        result["metrics"]
    )
    for entry in result["metrics"].values():
        assert (
            set(entry) == {"value", "low", "high", "n", "constant"} and entry["low"] <= entry["value"] <= entry["high"]
        )
    assert result["metrics"]["quadratic_kappa"]["constant"] == 0
    assert np.sum(result["confusion"]) == 60
    assert pd.read_csv(tmp_path / "confusion.csv", index_col=0).to_numpy().tolist() == result["confusion"]


def test_the_test_part_is_taken_where_there_is_one(tmp_path):
    table = predictions()
    table.loc[:29, "split"] = "val"
    out = foveal.evaluate(write(tmp_path / "p.csv", table), out=tmp_path / "m.json")
    assert json.loads(out.read_text())["about"]["images"] == 30
    out = foveal.evaluate(tmp_path / "p.csv", out=tmp_path / "m.json", split="all")
    assert json.loads(out.read_text())["about"]["images"] == 60
    with pytest.raises(ValueError, match="--split train: 0 labelled rows"):
        foveal.evaluate(tmp_path / "p.csv", split="train")


def test_a_constant_grader_is_called_one(tmp_path, capsys):
    table = predictions().assign(grade=0, referable=0)
    foveal.evaluate(write(tmp_path / "p.csv", table))
    assert "learned nothing" in capsys.readouterr().out


def test_without_a_severity_scale_nothing_is_referable(tmp_path):
    out = foveal.evaluate(write(tmp_path / "p.csv", predictions().assign(referable=None)))
    assert "referable_auc" not in json.loads(out.read_text())["metrics"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="group"), "missing column group"),
        (lambda t: t.drop(columns=["p1", "p2", "p3", "p4"]), "missing column p0, p1"),
        (lambda t: t.assign(p0=np.nan), "no probabilities"),
        (lambda t: t.assign(p0=0.9), "no probabilities"),
        (lambda t: t.assign(id="same"), "ids must be unique"),
        (lambda t: t.assign(label=7), "column label must hold whole numbers 0..4"),
        (lambda t: t.assign(grade=1.5), "column grade must hold whole numbers"),
        (lambda t: t.head(0), "holds no predictions"),
        (lambda t: t.head(1), "metrics need at least 2"),
        (lambda t: t.assign(label=None), "0 labelled rows"),
    ],
)
def test_wrong_files_get_one_clear_error(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        foveal.evaluate(write(tmp_path / "p.csv", change(predictions())))
    assert not (tmp_path / "metrics.json").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        foveal.evaluate(tmp_path / "nothing.csv")


def test_images_without_a_group_are_drawn_alone(tmp_path):
    table = predictions(6).assign(group=["a", "a", "", "", "b", "b"])
    assert len(set(units(read_predictions(write(tmp_path / "p.csv", table))))) == 4


def test_a_better_run_is_better_and_the_same_run_cannot_be_told():
    weak, strong = predictions(300, 0.3, seed=1), predictions(300, 0.9, seed=2)
    better = paired_difference(weak, strong)
    assert better["n"] == 300 and better["quadratic_kappa"]["answer"] == better["accuracy"]["answer"] == "better"
    assert paired_difference(strong, weak)["accuracy"]["answer"] == "worse"
    same = paired_difference(weak, weak)
    assert "accuracy +0.000 (95 % interval +0.000 to +0.000): cannot tell" in describe(same)
    assert same["accuracy"] == {"value": 0.0, "low": 0.0, "high": 0.0, "answer": "cannot tell"}


def test_runs_on_other_images_are_not_compared():
    with pytest.raises(ValueError, match="at least 2 images that both have graded"):
        paired_difference(predictions(), predictions().assign(id=[f"x{n}" for n in range(60)]))
