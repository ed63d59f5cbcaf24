import json

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.predict.opened import open_model, record_of
from foveal.readout.predictions import read_predictions
from foveal.sets.records import open_prepared

pytestmark = pytest.mark.slow

OPTIONS = {"encoder": "small_conv", "epochs": 1, "batch_size": 16, "tta": "none"}


def test_one_threshold_for_train_predict_export_and_report(tmp_path, refuses):
    data = foveal.prepare("phantom:300", out=tmp_path / "set", size=32, val=0.5, test=0.2)
    run = foveal.train(data, out=tmp_path / "run", refer_at="sensitivity=0.9", **OPTIONS)
    kept = json.loads((run / "readout.json").read_text())["referral"]
    assert kept["lowest"] == 2 and kept["sensitivity"]["value"] >= 0.9
    table = read_predictions(run / "predictions.csv")
    called = table[["p2", "p3", "p4"]].sum(axis=1) >= kept["threshold"]
    assert (called == (table["referable"] == 1)).mean() > 0.99  # p is rounded in the table
    assert ((table["grade"] >= 2) != called).any()
    test = table[table["split"] == "test"].set_index("id")
    records = open_prepared(data).part("test")
    exported = foveal.export(run, out=tmp_path / "exported")
    for path in (run, exported):
        again = open_model(path, "cpu").predict_prepared(open_prepared(data), records).set_index("id")
        assert (again["referable"] == test["referable"].reindex(again.index)).all()
        assert (again["grade"] == test["grade"].reindex(again.index)).all()
    assert json.loads((exported / "foveal.json").read_text())["readout"]["referral"] == kept
    foveal.evaluate(run)
    result = json.loads((run / "metrics.json").read_text())
    point = result["operating_points"][0]
    assert (point["name"], point["threshold"]) == ("in use", kept["threshold"])
    assert point["referred"] == pytest.approx(test["referable"].mean()) and result["about"]["referral"] == kept
    assert {entry["name"]: entry["value"] for entry in record_of(run)}["referable_sensitivity"] == (
        point["sensitivity"]["value"]
    )
    foveal.report(run, out=tmp_path / "report.html")
    few = foveal.prepare("phantom:60", out=tmp_path / "few", size=32)
    with refuses("referral.too_few"):
        foveal.train(few, out=tmp_path / "none", refer_at="sensitivity=0.9", **OPTIONS)
    assert not (tmp_path / "none").exists()


def test_folds_choose_one_threshold_on_their_held_out_images(tmp_path):
    data = foveal.prepare("phantom:150", out=tmp_path / "set", size=32, test=0.2)
    run = foveal.train(data, out=tmp_path / "run", refer_at="sensitivity=0.8", folds=2, **OPTIONS)
    kept = json.loads((run / "readout.json").read_text())["referral"]
    table = pd.read_csv(run / "predictions.csv")
    held_out = table[(table["split"] == "val") & (table["label"] >= 2)]
    assert held_out["referable"].mean() == pytest.approx(kept["sensitivity"]["value"])
    assert kept["sensitivity"]["n"] == len(held_out) and np.isfinite(kept["threshold"])
