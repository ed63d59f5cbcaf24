import json

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.compare import pseudolabel
from foveal.compare.pseudolabel import PseudolabelConfig, chosen
from foveal.runs import sole_writer
from foveal.sets.records import open_prepared
from foveal.train.learned import check_targets

pytestmark = pytest.mark.slow

TRAIN = {"encoder": "strided_conv", "epochs": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def partly_graded(tmp_path_factory):
    return foveal.prepare("phantom:160", out=tmp_path_factory.mktemp("pseudo") / "set", size=32, labelled=40)


@pytest.fixture(scope="module")
def teacher(partly_graded, tmp_path_factory):
    return foveal.train(partly_graded, out=tmp_path_factory.mktemp("pseudo") / "teacher", **TRAIN)


@pytest.fixture(scope="module")
def labelled(partly_graded, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("pseudo") / "out"
    foveal.pseudolabel(teacher, partly_graded, out=out, top_share=0.3, soft=True, rounds=2)
    return out


def config(**options):
    return PseudolabelConfig(run="r", data=("d",), out="o", **options)


def test_thresholds_and_shares_are_per_class():
    grades, scores = np.array([0, 0, 0, 1, 1, 2]), np.array([0.9, 0.6, 0.7, 0.5, 0.4, 0.3])
    assert chosen(grades, scores, config(threshold=(0.6,))).tolist() == [True, True, True, False, False, False]
    own = chosen(grades, scores, config(threshold=(0.8, 0.45, 0.3)))
    assert own.tolist() == [True, False, False, True, False, True]
    share = chosen(grades, scores, config(top_share=0.5))
    assert share.tolist() == [True, False, True, True, False, True]  # 2 of 3, 1 of 2, 1 of 1


def test_only_ungraded_images_are_labelled_and_each_label_keeps_where_it_is_from(labelled, partly_graded, teacher):
    records = open_prepared(partly_graded).records.set_index("id")
    for number, model in ((1, teacher), (2, labelled / "round1" / "grader")):
        table = pd.read_csv(labelled / f"round{number}" / "pseudo_labels.csv")
        assert set(records.loc[table["id"], "split"]) == {"unlabelled"}
        assert set(table["round"]) == {number} and set(table["model"]) == {str(model)}
        columns = table[[f"p{k}" for k in range(5)]].to_numpy()
        assert columns.sum(1) == pytest.approx(1, abs=1e-5)
        given = columns[np.arange(len(table)), table["grade"]]
        assert given == pytest.approx(table["score"], abs=1e-6)
        named = [open_prepared(partly_graded).classes[grade] for grade in table["grade"]]
        assert table["class"].tolist() == named


def test_a_round_learns_from_its_labels_and_says_so(labelled):
    table = pd.read_csv(labelled / "round1" / "pseudo_labels.csv")
    seen = pd.read_csv(labelled / "round1" / "grader" / "seen.csv")
    assert set(table["id"]) <= set(seen["id"])
    rows = json.loads((labelled / "pseudolabel.json").read_text())
    assert [row["name"] for row in rows] == ["before", "round 1", "round 2"]
    assert rows[1]["difference"]["quadratic_kappa"]["answer"] in ("better", "worse", "cannot tell")
    assert rows[0]["metrics"]["accuracy"]["n"] == rows[1]["metrics"]["accuracy"]["n"]


def test_the_same_command_resumes_and_another_is_refused(labelled, partly_graded, teacher, monkeypatch, refuses):
    options = {"top_share": 0.3, "soft": True, "rounds": 2}
    monkeypatch.setattr(pseudolabel, "label", None)
    foveal.pseudolabel(teacher, partly_graded, out=labelled, **options)
    with sole_writer(labelled, "pseudolabel"), refuses("output.busy", labelled):
        foveal.pseudolabel(teacher, partly_graded, out=labelled, **options)
    with refuses("run.other_options", labelled, "top_share"):
        foveal.pseudolabel(teacher, partly_graded, out=labelled, **(options | {"top_share": 0.5}))


def test_images_of_the_test_part_are_refused(labelled, partly_graded, tmp_path, refuses):
    table = pd.read_csv(labelled / "round1" / "pseudo_labels.csv")
    judged = open_prepared(partly_graded).part("test").iloc[0]
    table.loc[0, ["id", "sha256"]] = [judged["id"], judged["sha256"]]
    table.to_csv(tmp_path / "pseudo_labels.csv", index=False)
    with refuses("label.graded", judged["id"]):
        foveal.train(partly_graded, out=tmp_path / "run", pseudo_labels=tmp_path / "pseudo_labels.csv", **TRAIN)
    assert not (tmp_path / "run").exists()


def test_labels_of_other_pixels_are_refused(labelled, partly_graded, tmp_path, refuses):
    table = pd.read_csv(labelled / "round1" / "pseudo_labels.csv")
    table.loc[0, "sha256"] = "0" * 64
    table.to_csv(tmp_path / "pseudo_labels.csv", index=False)
    with refuses("set.changed", partly_graded):
        foveal.train(partly_graded, out=tmp_path / "run", pseudo_labels=tmp_path / "pseudo_labels.csv", **TRAIN)


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("p0", 5.0, "table.value"), ("p0", None, "table.value"), ("grade", 7, "table.value"),
        ("class", "a_prolif", "table.other_classes"), ("id", None, "table.repeated_id"),
    ],
)  # fmt: skip
def test_a_table_that_was_changed_by_hand_is_refused(labelled, partly_graded, tmp_path, column, value, code, refuses):
    table = pd.read_csv(labelled / "round1" / "pseudo_labels.csv")
    table.loc[1, column] = table.loc[0, column] if column == "id" else value
    table.to_csv(tmp_path / "pseudo_labels.csv", index=False)
    with refuses(code, "line 3", table["id"][1]):
        foveal.train(partly_graded, out=tmp_path / "run", pseudo_labels=tmp_path / "pseudo_labels.csv", **TRAIN)
    assert not (tmp_path / "run").exists()


def test_a_grade_beside_another_certain_target_is_refused(tmp_path, refuses):
    table = pd.DataFrame({"id": ["a"], "set": ["s"], "grade": [1], "class": ["y"], "p0": [1.0], "p1": [0.0]})
    with refuses("table.value", "line 2", "image a"):
        check_targets(tmp_path / "t.csv", table, ["x", "y"])
    check_targets(tmp_path / "t.csv", table.assign(p0=0.6, p1=0.4), ["x", "y"])  # cutoffs may say so


def test_labels_without_what_their_graders_learned_are_refused(labelled, partly_graded, tmp_path, refuses):
    (tmp_path / "moved.csv").write_bytes((labelled / "round1" / "pseudo_labels.csv").read_bytes())
    with refuses("file.missing", "seen.csv"):
        foveal.train(partly_graded, out=tmp_path / "run", pseudo_labels=tmp_path / "moved.csv", **TRAIN)


def test_a_run_of_another_set_is_refused(teacher, tmp_path, refuses):
    other = foveal.prepare("phantom:60", out=tmp_path / "other", size=32, labelled=20, seed=3)
    with refuses("run.other_set", teacher, other):
        foveal.pseudolabel(teacher, other, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({"threshold": (0.9, 0.8)}, "option.value", "--threshold"),
        ({"threshold": (1.5,)}, "option.value", "--threshold"),
        ({"threshold": (1.0,), "rounds": 0}, "label.none_sure", "--threshold"),
        ({"top_share": 0.3, "threshold": (0.9,)}, "option.conflict", "--top-share"),
        ({"top_share": 0.0}, "option.value", "--top-share"),
        ({"rounds": -1}, "option.value", "--rounds"),
    ],
)
def test_wrong_options_are_refused(partly_graded, teacher, tmp_path, options, code, named, refuses):
    with refuses(code, named):
        foveal.pseudolabel(teacher, partly_graded, out=tmp_path / "out", **options)


def test_a_set_without_ungraded_images_is_refused(teacher, tmp_path, refuses):
    full = foveal.prepare("phantom:20", out=tmp_path / "full", size=32)
    with refuses("set.no_ungraded", full):
        foveal.pseudolabel(teacher, full, out=tmp_path / "out")
