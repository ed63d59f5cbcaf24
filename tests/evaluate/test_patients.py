import numpy as np
import pandas as pd

from foveal.evaluate.patients import measure_patients
from foveal.readout.scales import Scale

ICDR = Scale(names=list("01234"), ordered=True, referable_from=2)
NONE = pd.DataFrame({"group": [], "label": []})


def test_the_worse_eye_decides_and_ungradable_patients_are_insufficient():
    table = pd.DataFrame({
        "group": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "copies-1", ""],
        "label": [0, 3, 2, 0, 0, 0, 1, 0, 4, 2, 2],
        "grade": [2, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0],
        "flags": ["", "", "", "", "", "", "", "", "ungradable", "", ""],
    })  # fmt: skip
    ungraded = pd.DataFrame({"group": ["f", "a"], "label": [0, 0]})
    found = measure_patients(table, ungraded, ICDR, None)
    assert (found["patients"], found["photographs"], found["unknown_patient"]) == (6, 11, 2)
    assert (found["ungradable"], found["insufficient"], found["insufficient_positive"]) == (3, 2, 1)
    values = [found[name]["value"] for name in ("sensitivity", "specificity", "positive_predictive_value")]
    assert values == [0.5, 0.5, 0.5] and found["sensitivity"]["n"] == 2  # a is found, b is missed


def test_nothing_is_said_without_patients():
    table = pd.DataFrame({"group": list("abcd"), "label": [0, 2, 0, 2], "grade": [0, 2, 0, 2]})
    assert measure_patients(table, NONE, ICDR, None) == {}
    copies = table.assign(group=np.repeat(["copies-1", "aptos/copies-2"], 2))
    assert measure_patients(copies, NONE, ICDR, None) == {}
    assert measure_patients(table.assign(group="a"), NONE, Scale(names=["x", "y"], ordered=False), None) == {}
