from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from foveal.evaluate.operating import measure_patients, severity
from foveal.readout.readout import Readout
from foveal.readout.referral import Referral, is_oedema, oedema_of
from foveal.readout.scales import Scale


def test_columns_of_several_sources_are_read_as_one():
    columns = pd.DataFrame(
        {
            "adjudicated_dme": ["1.0", "0.0", "", ""],
            "maculopathy": ["", "", "0", "1"],
            "Risk of macular edema ": [""] * 4,
        },
        index=list("abcd"),
    )
    assert oedema_of(columns).to_dict() == {"a": "1", "b": "0", "c": "0", "d": "1"}
    assert oedema_of(pd.DataFrame({"Edema": ["yes", "NO", "unknown", "2"]})).tolist() == ["1", "0", "", "1"]
    assert oedema_of(columns[[]]) is None


def test_columns_that_cannot_be_read_or_disagree_are_refused(refuses):
    with refuses("label.value", "dme", "maybe"):
        oedema_of(pd.DataFrame({"dme": ["0", "maybe"]}))
    with refuses("label.conflict", "dme", "maculopathy", "b"):
        oedema_of(pd.DataFrame({"dme": ["0", "1"], "maculopathy": ["", "0"]}, index=["a", "b"]))


def table():
    return pd.DataFrame({
        "id": list("abcd"), "label": [0, 1, 2, 3], "grade": [0, 1, 0, 3], "p0": [0.9, 0.2, 0.6, 0.0],
        "p1": [0.1, 0.7, 0.1, 0.1], "p2": [0.0, 0.1, 0.2, 0.1], "p3": [0.0, 0.0, 0.1, 0.8],
        "oedema": ["", "1", "0", "1"], "oedema=0": [0.9, 0.3, 0.95, 0.5], "oedema=1": [0.1, 0.7, 0.05, 0.5],
    })  # fmt: skip


def test_oedema_counts_as_referable_disease_only():
    scores, positive = severity(table(), 2)
    assert scores == pytest.approx([0.1, 0.7, 0.3, 0.9]) and positive.tolist() == [False, True, True, True]
    scores, positive = severity(table(), 3, "sight_threatening")
    assert scores == pytest.approx([0.0, 0.0, 0.1, 0.8]) and positive.tolist() == [False, False, False, True]
    other = table().rename(columns={"oedema=0": "oedema=no", "oedema=1": "oedema=yes"})  # as older runs learned it
    assert severity(other, 2)[1].tolist() == [False, False, True, True]
    assert (
        is_oedema("oedema", ["0", "1"]) and not is_oedema("oedema", ["no", "yes"]) and not is_oedema("dme", ["0", "1"])
    )


def test_either_refers():
    rows = table()
    probabilities, grades = rows[["p0", "p1", "p2", "p3"]].to_numpy(), rows["grade"].to_numpy()
    readout, oedema = Readout(decision="expected", ordered=True), rows["oedema=1"].to_numpy()
    assert readout.referred(probabilities, grades, 2).tolist() == [False, False, False, True]
    assert readout.referred(probabilities, grades, 2, oedema).tolist() == [False, True, False, True]
    referral = Referral(least=0.9, lowest=2, threshold=0.25, sensitivity={}, specificity={})
    readout = replace(readout, referral=referral)
    assert readout.referred(probabilities, grades, 2).tolist() == [False, False, True, True]
    assert readout.referred(probabilities, grades, 2, oedema).tolist() == [False, True, True, True]


def test_a_patient_with_oedema_has_the_disease():
    rows = table().assign(group=["p", "p", "q", "q"], split="test", label=[0, 1, 0, 0], referable=[0, 1, 0, 0])
    rows["oedema"] = ["", "1", "0", ""]
    scale = Scale(names=list("0123"), ordered=True, referable_from=2)
    found = measure_patients(rows, rows.iloc[:0], scale, None)
    assert (found["sensitivity"]["value"], found["specificity"]["value"]) == (1, 1) and found["sensitivity"]["n"] == 1
    assert np.isclose(found["referred"], 0.5)
