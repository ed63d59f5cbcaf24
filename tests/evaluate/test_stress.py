"""Stress: paired differences of altered photographs from drawn grades, and the level down to which grades hold."""

import json

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.evaluate.evaluate import EvaluateConfig, measure_predictions
from foveal.evaluate.stress import CHANGES, FILE, levels_of, limits
from foveal.metrics import confusion_matrix, quadratic_kappa

SIZE = 100


def altered(table, wrong):
    """Rows of stress.csv: at every level of the changes in `wrong`, a share of the grades moves to another class."""
    classes = sum(name[1:].isdigit() for name in table)
    parts = [table.assign(change="", level=np.nan)]
    for change, level in levels_of(SIZE, 3):
        if change in wrong:
            share = wrong[change][[one for name, one in levels_of(SIZE, 3) if name == change].index(level)]
            moved = np.arange(len(table)) < share * len(table)
            grades = np.where(moved, (table["grade"] + 2) % classes, table["grade"])
            parts.append(table.assign(change=change, level=level, grade=grades))
    return pd.concat(parts).drop(columns=["label", "group", "split"])


def measured(table, rows, tmp_path, write):
    write(tmp_path / FILE, rows)
    file = write(tmp_path / "predictions.csv", table)
    return json.loads(foveal.evaluate(file, out=tmp_path / "metrics.json").read_text()).get("stress")


@pytest.mark.parametrize("classes", [2, 5])
def test_levels_are_compared_with_the_same_photographs_untouched(predictions, tmp_path, write, classes):
    table = predictions(200, classes=classes)
    found = measured(table, altered(table, {"blur": [0, 0.1, 0.5, 0.9]}), tmp_path, write)
    labels, grades = table["label"].to_numpy(), table["grade"].to_numpy()
    moved = np.where(np.arange(200) < 100, (grades + 2) % classes, grades)
    kappas = [float(quadratic_kappa(confusion_matrix(labels, given, classes))) for given in (grades, moved)]
    assert found["untouched"]["quadratic_kappa"]["value"] == pytest.approx(kappas[0])
    assert found["about"]["photographs"] == 200 and found["about"]["groups"] == 100
    third = found["levels"][2]
    assert third["change"] == "blur" and third["level"] == 1 and third["quadratic_kappa"]["n"] == 200
    apart = third["differences"]["quadratic_kappa"]
    assert apart["value"] == pytest.approx(kappas[1] - kappas[0]) and (classes == 2 or apart["high"] < 0)
    assert third["changed"]["value"] == pytest.approx(0 if classes == 2 else 0.5)
    assert set(third["differences"]) == {"quadratic_kappa", "referable_auc" if classes == 5 else "auc"}


def test_a_level_holds_where_it_and_all_milder_ones_keep_kappa_and_most_grades(predictions, tmp_path, write):
    table = predictions(200, skill=0.9)
    shares = {"blur": [0, 0.02, 0.6, 0], "jpeg": [0.7, 0, 0, 0, 0], "darker": [0, 0, 0, 0]}
    found = measured(table, altered(table, shares), tmp_path, write)
    held = {name: [one["holds"] for one in found["levels"] if one["change"] == name] for name in shares}
    assert held == {"blur": [True, True, False, False], "jpeg": [False] * 5, "darker": [True] * 4}
    shown = {title: (level, broken and broken["level"]) for title, level, broken in limits(found)}
    assert shown == {
        CHANGES["blur"].title: (CHANGES["blur"].words.format(0.5), 1), CHANGES["jpeg"].title: (None, 95),
        CHANGES["darker"].title: (CHANGES["darker"].words.format(0.1), None),
    }  # fmt: skip
    still = found["levels"][-1]["differences"]["quadratic_kappa"]
    assert still["value"] == 0 and still["low"] in (None, 0)


def test_many_changed_grades_do_not_hold_even_at_the_same_kappa(predictions, tmp_path, write):
    table = predictions(200, skill=0)
    found = measured(table, altered(table, {"blur": [0.3, 0, 0, 0]}), tmp_path, write)
    assert not any(one["holds"] for one in found["levels"])


def test_classes_without_order_are_judged_by_accuracy(predictions, tmp_path, write):
    (tmp_path / "model.json").write_text(json.dumps({"classes": ["a", "b", "c"], "task": "classes"}))
    table = predictions(90, classes=3).assign(referable="")
    found = measured(table, altered(table, {"blur": [0, 0, 0, 0.5]}), tmp_path, write)
    assert list(found["untouched"]) == ["accuracy"] and found["levels"][-1]["differences"]["accuracy"]["value"] < 0


def test_a_file_of_another_grader_or_of_other_photographs_is_left_out(predictions, tmp_path, write):
    table = predictions(60)
    rows = altered(table.assign(grade=(table["grade"] + 1) % 5), {"blur": [0, 0, 0, 0]})
    assert measured(table, rows, tmp_path, write) is None
    rows = altered(table, {"blur": [0, 0, 0, 0]})
    assert measured(table, rows.assign(id="other/" + rows["id"]), tmp_path, write) is None


def test_photographs_are_altered_only_once_nothing_can_be_refused(predictions, tmp_path, write, refuses):
    file = write(tmp_path / "predictions.csv", predictions(60))
    with refuses("option.value", "camera"):
        measure_predictions(EvaluateConfig(source=file, by=("camera",)), alter=pytest.fail)


def test_levels_follow_the_size_and_grey_images_have_no_colours():
    found = list(levels_of(200, 3))
    assert ("resolution", 150) in found and ("blur", 4.0) in found and ("jpeg", 10) in found
    grey = {name for name, _ in levels_of(200, 1)}
    assert set(CHANGES) - grey == {"warmer", "cooler"}
    assert [name for name, _ in found] == [name for name in CHANGES for _ in CHANGES[name].levels]
