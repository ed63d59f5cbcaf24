import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from foveal.evaluate.columns import measure_second, measure_sets, tasks_in
from foveal.evaluate.intervals import Resampling


def table(n=80, classes=("no", "yes")):
    random = np.random.default_rng(0)
    labels = random.integers(0, len(classes), n)
    probabilities = random.dirichlet(np.ones(len(classes)), n) + 0.3 * np.eye(len(classes))[labels]
    probabilities /= probabilities.sum(1, keepdims=True)
    known = np.where(np.arange(n) % 10 == 0, "", np.array(classes)[labels])
    columns = {f"oedema={name}": probabilities[:, k] for k, name in enumerate(classes)}
    return pd.DataFrame({"oedema": known, **columns}), labels, probabilities


def test_figures_are_those_of_the_known_rows():
    rows, labels, probabilities = table()
    found = measure_second(rows, Resampling(np.arange(80), 200, 0))["oedema"]
    known = np.arange(80) % 10 != 0
    assert found["accuracy"]["n"] == 72 and list(found) == ["accuracy", "auc of yes"]
    assert found["accuracy"]["value"] == pytest.approx((probabilities.argmax(1) == labels)[known].mean(), abs=1e-12)
    area = roc_auc_score(labels[known], probabilities[known, 1])
    assert found["auc of yes"]["value"] == pytest.approx(area, abs=1e-12)
    assert found["auc of yes"]["low"] < area < found["auc of yes"]["high"]


def test_three_classes_have_an_area_each_and_a_table_without_a_task_none():
    rows, _, _ = table(classes=("0", "1", "2"))
    assert tasks_in(rows) == {"oedema": ["0", "1", "2"]}
    found = measure_second(rows, Resampling(np.arange(80), 200, 0))["oedema"]
    assert list(found) == ["accuracy", "auc of 0", "auc of 1", "auc of 2"]
    assert measure_second(rows[["oedema"]], Resampling(np.arange(80), 200, 0)) == {}
    assert measure_second(rows.assign(oedema=""), Resampling(np.arange(80), 200, 0)) == {}


def test_measured_coverage_counts_by_hand():
    table = pd.DataFrame({"label": [0, 0, 1, 1, 4], "set": ["0", "1 2", "1", "0 1 2", ""], "group": list("abcde")})
    resampling = Resampling(np.arange(5), 200)
    found = measure_sets(table, list("abcde"), resampling)
    assert found["coverage"]["value"] == 0.75 and found["coverage"]["n"] == 4
    assert found["size"]["value"] == pytest.approx(7 / 4) and found["single"]["value"] == 0.5
    assert found["coverage of a"]["value"] == 0.5 and "coverage of e" not in found
    assert measure_sets(table.drop(columns="set"), list("abcde"), resampling) == {}
