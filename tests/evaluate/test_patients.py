import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.evaluate.operating import measure_patients
from foveal.files import read_json
from foveal.readout.scales import Scale

ICDR = Scale(names=list("01234"), ordered=True, referable_from=2)
NONE = pd.DataFrame({"id": [], "group": [], "label": [], "split": []})


def test_the_worse_eye_decides_and_ungradable_patients_are_insufficient():
    table = pd.DataFrame({
        "id": [f"eye{number}" for number in range(11)],
        "group": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "copies-1", ""],
        "label": [0, 3, 2, 0, 0, 0, 1, 0, 4, 2, 2],
        "grade": [2, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0],
        "flags": ["", "", "", "", "", "", "", "", "ungradable", "", ""],
    })  # fmt: skip
    table["split"] = "test"
    ungraded = pd.DataFrame({"id": ["x", "y"], "group": ["f", "a"], "label": [0, 0], "split": ["test", "test"]})
    found = measure_patients(table, ungraded, ICDR, None)
    assert (found["patients"], found["photographs"], found["unknown_patient"]) == (6, 11, 2)
    assert (found["ungradable"], found["insufficient"], found["insufficient_positive"]) == (3, 2, 1)
    values = [found[name]["value"] for name in ("sensitivity", "specificity", "positive_predictive_value")]
    assert values == [0.5, 0.5, 0.5] and found["sensitivity"]["n"] == 2  # a is found, b is missed


def test_a_patient_with_an_ungradable_eye_is_not_called_healthy():
    rows = [("a", "left", 0, 0), ("a", "right", 0, 0), ("b", "left", 2, 2), ("c", "left", 0, 0), ("d", "left", 0, 0)]
    table = pd.DataFrame(rows, columns=["group", "eye", "label", "grade"]).assign(split="test", flags="")
    table["id"] = table["group"] + table["eye"]
    ungraded = pd.DataFrame({
        "id": ["b2", "c2", "d2"], "group": list("bcd"), "eye": "right", "split": "test",
        "label": pd.array([None, None, 3], "Int64"),
    })  # fmt: skip
    found = measure_patients(table, ungraded, ICDR, None)
    assert (found["patients"], found["insufficient"], found["specificity"]["n"]) == (4, 2, 1)  # b is referred
    assert (found["insufficient_positive"], found["insufficient_unknown"]) == (1, 1)
    assert measure_patients(table, ungraded, ICDR, None, each="eye")["insufficient"] == 3


def test_a_photograph_of_an_unknown_eye_counts_as_an_eye_of_its_own():
    table = pd.DataFrame(
        {"id": ["a1", "b1", "c1", "c2"], "group": list("abcc"), "label": [0, 0, 0, 0], "split": "test"}
    )
    table = table.assign(grade=[0, 2, 0, 0], flags=["", "", "", "dark ungradable"], eye=["", "", "left", "left"])
    ungraded = pd.DataFrame({"id": ["a2", "b2"], "group": list("ab"), "eye": "", "split": "test", "label": [2, 0]})
    found = measure_patients(table, ungraded, ICDR, None)
    assert (found["patients"], found["insufficient"], found["insufficient_positive"]) == (3, 1, 1)  # a


def test_nothing_is_said_without_patients():
    table = pd.DataFrame(
        {"id": list("wxyz"), "split": "", "group": list("abcd"), "label": [0, 2, 0, 2], "grade": [0, 2, 0, 2]}
    )
    assert measure_patients(table, NONE, ICDR, None) == {}
    copies = table.assign(group=np.repeat(["copies-1", "aptos/copies-2"], 2))
    assert measure_patients(copies, NONE, ICDR, None) == {}
    days = table.assign(id=[f"messidor2/2005102{k}_43808_0100_PP" for k in (0, 0, 1, 1)])
    for prefix in ("", "messidor2/"):  # of a day, so of several patients; alone and in a joined set
        groups = np.repeat([f"{prefix}20051020", f"{prefix}20051021+{prefix}20060410"], 2)
        assert measure_patients(days.assign(group=groups), NONE, ICDR, None) == {}
    assert measure_patients(days.assign(group=np.repeat(["20051020_43808_0100_PP", "b"], 2)), NONE, ICDR, None)
    assert measure_patients(table.assign(group="a"), NONE, Scale(names=["x", "y"], ordered=False), None) == {}


def test_evaluate_counts_patients_with_those_that_could_not_be_graded(tmp_path):
    rows = [
        f"{patient}_{eye},{label},{p},{1 - p},{int(p < 0.5)},,{patient},test,graded"
        for patient, (label, p) in enumerate([(0, 0.9), (1, 0.2), (1, 0.8), (0, 0.7)] * 3)
        for eye in "LR"
    ]
    rows += [f"99_{eye},1,,,,,99,test,ungradable" for eye in "LR"] + ["98_L,1,,,,,98,val,ungradable"]
    file = tmp_path / "predictions.csv"
    file.write_text("\n".join(["id,label,p0,p1,grade,referable,group,split,answer", *rows]) + "\n")
    foveal.evaluate(file, referable_from=1)
    found = read_json(tmp_path / "metrics.json")["patients"]
    assert (found["patients"], found["photographs"], found["ungradable"]) == (13, 26, 2)
    assert (found["insufficient"], found["insufficient_positive"]) == (1, 1)
    assert (found["sensitivity"]["value"], found["sensitivity"]["n"], found["specificity"]["value"]) == (0.5, 6, 1.0)


def test_eyes_may_come_from_the_prepared_set(tmp_path, predictions, write):
    table = predictions(40)
    write(tmp_path / "records.csv", table[["id"]].assign(eye=["left", "right"] * 20))
    file = write(tmp_path / "predictions.csv", table)
    found = read_json(foveal.evaluate(file, by=("eye",), records=tmp_path, out=tmp_path / "m.json"))
    assert found["eyes"]["eyes"] == 40 and found["patients"]["patients"] == 20


@pytest.mark.parametrize("label", ["abc", "9", "0.5"])
def test_labels_of_ungraded_photographs_are_checked_as_well(tmp_path, refuses, label):
    rows = ["a,0,0.9,0.1,0,,1,test,graded", "b,1,0.2,0.8,1,,1,test,graded", f"c,{label},,,,,2,test,ungradable"]
    file = tmp_path / "predictions.csv"
    file.write_text("\n".join(["id,label,p0,p1,grade,referable,group,split,answer", *rows]) + "\n")
    with refuses("predictions.value", "c", label):
        foveal.evaluate(file)


def test_a_patient_with_an_eye_without_a_label_is_neither_found_nor_missed_nor_healthy():
    rows = [("a", "left", 0, 0), ("b", "left", 3, 0), ("c", "left", 0, 0), ("c", "right", 0, 0), ("d", "left", 3, 0)]
    table = pd.DataFrame(rows, columns=["group", "eye", "label", "grade"]).assign(split="test", flags="")
    table["id"] = table["group"] + table["eye"]
    other = pd.DataFrame({"group": list("abc"), "eye": ["right", "right", "left"], "grade": [2, 2, 0], "flags": ""})
    other["id"] = other["group"] + "2"
    found = measure_patients(table, NONE, ICDR, None, unlabelled=other)
    assert (found["patients"], found["without_label"], found["specificity"]["n"]) == (4, 1, 1)  # a is left out
    assert (found["sensitivity"]["n"], found["sensitivity"]["value"]) == (2, 0.5)  # b is referred for the other eye
    joined = table.assign(group=table["group"].replace("d", "d+e"))
    assert measure_patients(joined, NONE, ICDR, None)["unknown_patient"] == 1


EYES = {  # label and grade of a photograph; no grade: it is not gradable, or missing
    "well": (0, 0), "ill": (3, 3), "missed": (3, 0), "alarm": (0, 2), "ungradable": (None, None), "dark": (0, None),
    "dark and ill": (3, None), "bare": (None, 0), "bare and referred": (None, 3),
}  # fmt: skip
UNKNOWN, LOST_ILL, LOST_WELL, OPEN = "unknown", "lost, ill", "lost, well", "open"


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("alarm", "ungradable", OPEN), ("ill", "ungradable", "TP"), ("well", "ungradable", UNKNOWN),
        ("missed", "ungradable", LOST_ILL), ("alarm", "dark", "FP"), ("alarm", "dark and ill", "TP"),
        ("ill", "dark", "TP"), ("well", "dark", LOST_WELL), ("well", "dark and ill", LOST_ILL),
        ("missed", "dark", LOST_ILL), ("alarm", "bare", OPEN), ("well", "bare", OPEN), ("ill", "bare", "TP"),
        ("missed", "bare", "FN"), ("missed", "bare and referred", "TP"), ("well", "bare and referred", OPEN),
        ("dark", "bare and referred", OPEN), ("dark and ill", "bare and referred", "TP"),
        ("dark and ill", "bare", LOST_ILL), ("ungradable", "bare", UNKNOWN), ("dark", "dark and ill", LOST_ILL),
        ("missed", "alarm", "TP"), ("alarm", "well", "FP"), ("well", "well", "TN"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["ungraded", "other"])
def test_each_kind_of_eye_beside_each_other_kind(left, right, expected, kind):
    """kind: whether photographs without a grade are of the evaluated part, or others of its patients."""
    rows = [("a", "left", *EYES[left]), ("a", "right", *EYES[right]), *(("sound", eye, 0, 0) for eye in "LR")]
    table = pd.DataFrame(rows, columns=["group", "eye", "label", "grade"]).assign(split="test", flags="")
    table = table.assign(id=table["group"] + table["eye"]).astype({"label": "Int64", "grade": "Int64"})
    seen, told = table["grade"].notna(), table["label"].notna()
    part = ~seen & (kind == "ungraded")
    if not (seen & told | part)[:2].any():
        pytest.skip("nothing of this patient is evaluated")
    others = table[~(seen & told) & ~part].astype({"label": "Int64"})
    found = measure_patients(table[seen & told], table[part].drop(columns="grade"), ICDR, None, unlabelled=others)
    n = {name: found[name]["n"] for name in ("sensitivity", "specificity")}
    cells = {
        "TP": (n["sensitivity"], found["sensitivity"]["value"]) == (1, 1.0),
        "FN": (n["sensitivity"], found["sensitivity"]["value"]) == (1, 0.0),
        "FP": (n["specificity"], found["specificity"]["value"]) == (2, 0.5),
        "TN": (n["specificity"], found["specificity"]["value"]) == (2, 1.0), OPEN: found["without_label"] == 1,
        UNKNOWN: found["insufficient_unknown"] == 1, LOST_ILL: found["insufficient_positive"] == 1,
        LOST_WELL: (found["insufficient"], found["insufficient_positive"], found["insufficient_unknown"]) == (1, 0, 0),
    }  # fmt: skip
    assert [name for name, is_so in cells.items() if is_so] == [expected]
    assert found["patients"] == sum(n.values()) + found["insufficient"] + found["without_label"] == 2
    assert found["photographs"] == 4 and found["ungradable"] == int((~seen).sum())


def test_eyes_without_a_label_are_counted_beside_the_others():
    rows = [("a", "L", 0, 0), ("a", "R", None, 2), ("b", "L", 3, 3), ("b", "R", None, None)]
    rows += [("c", "L", 0, 0), ("c", "R", 1, 1)]
    table = pd.DataFrame(rows, columns=["group", "eye", "label", "grade"]).assign(split="test", flags="")
    table = table.assign(id=table["group"] + table["eye"]).astype({"label": "Int64", "grade": "Int64"})
    judged = table["label"].notna()
    found = measure_patients(table[judged], table[:0].drop(columns="grade"), ICDR, None, "eye", table[~judged])
    assert (found["eyes"], found["photographs"], found["without_label"], found["insufficient"]) == (6, 6, 1, 1)


def test_an_eye_without_a_label_or_a_grade_leaves_its_patient_without_an_answer(tmp_path):
    rows = [f"{patient}_{eye},0,0.9,0.1,0,0,{patient},test,graded,,{eye}" for patient in "ab" for eye in "LR"]
    rows += ["c_L,0,0.9,0.1,0,0,c,test,graded,,L", "c_R,,,,,,c,unlabelled,ungradable,not-a-retina,R"]
    file = tmp_path / "predictions.csv"
    names = "id,label,p0,p1,grade,referable,group,split,answer,flags,eye"
    file.write_text("\n".join([names, *rows]) + "\n")
    found = read_json(foveal.evaluate(file, referable_from=1))["patients"]
    assert (found["patients"], found["insufficient_unknown"], found["specificity"]["n"]) == (3, 1, 2)
