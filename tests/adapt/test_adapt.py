"""foveal adapt on photographs of a clinic: the adapted run opens wherever a run does, and names its parent."""

import importlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.adapt.fit import NAMES
from foveal.files import read_json
from foveal.readout.calibration import Adjustment
from foveal.readout.readout import Readout, read_readout, write_readout

ROOM, FIT = (importlib.import_module(f"foveal.adapt.{name}") for name in ("adapt", "fit"))  # `foveal.adapt` is the verb


@pytest.fixture
def run(grader_run, tmp_path):
    return shutil.copytree(grader_run, tmp_path / "run")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """60 other phantoms than those of the run, all graded, with a test part."""
    return foveal.prepare("phantom:90", out=tmp_path_factory.mktemp("sets") / "clinic", size=32, seed=5, test=0.3)


@pytest.fixture
def adapted(run, clinic, monkeypatch):
    monkeypatch.setattr(FIT, "REPEATS", 2)
    monkeypatch.setattr(ROOM, "loss_gained", lambda *_: (0.2, 0.1))  # a grader of two epochs gains by chance
    return foveal.adapt(run, to=clinic)


def test_an_adapted_run_names_its_parent_and_opens_like_any_other(adapted, run, clinic, tmp_path):
    assert adapted == tmp_path / "run-clinic" and read_json(adapted / "model.json")["parent"] == "run"
    assert read_json(adapted / "provenance.json")["parent"] == str(run)
    readout = read_readout(adapted, "", ordered=True)
    assert isinstance(readout.adjustment, Adjustment)
    own, before = (pd.read_csv(adapted / name) for name in ("predictions.csv", "parent.csv"))
    assert list(own["id"]) == list(before["id"]) and set(own["split"]) == {"val", "test"}
    assert not np.allclose(own["p0"], before["p0"])
    learned = pd.read_csv(adapted / "seen.csv", dtype=str)["id"]
    assert set(own[own["split"] == "val"]["id"]) <= set(learned)
    about = read_json(adapted / "adapt.json")
    assert about["photographs"] == (own["split"] == "val").sum() and set(about["gains"]) == set(NAMES)
    table = pd.read_csv(foveal.predict(adapted, clinic, out=tmp_path / "p.csv", split="test"))
    test = own[own["split"] == "test"].set_index("id")
    assert np.allclose(table.set_index("id").loc[test.index, "p0"], test["p0"], atol=1e-5)
    foveal.evaluate(adapted)
    assert json.loads((adapted / "comparison.json").read_text())[0]["versus"] == str(run)


@pytest.mark.slow
def test_an_adapted_run_is_exported_and_reported(adapted, tmp_path, clinic):
    folder = foveal.export(adapted, out=tmp_path / "exported")
    tables = [
        pd.read_csv(foveal.predict(model, clinic, out=tmp_path / f"{name}.csv"))
        for name, model in (("a", adapted), ("b", folder / "model.onnx"))
    ]
    assert np.allclose(tables[0]["p0"], tables[1]["p0"], atol=1e-4)
    assert (tables[0]["grade"] == tables[1]["grade"]).mean() > 0.98
    foveal.evaluate(adapted)
    assert foveal.report(adapted).is_file()


def test_photographs_that_do_not_help_are_refused(run, clinic, phantom_set, monkeypatch, refuses):
    monkeypatch.setattr(ROOM, "loss_gained", lambda *_: (0.05, 0.1))
    with refuses("adapt.too_few", "photographs"):
        foveal.adapt(run, to=clinic)
    assert not run.with_name("run-clinic").exists()
    with refuses("adapt.too_few", 50):
        foveal.adapt(run, to=phantom_set)


def test_photographs_of_a_single_grade_are_refused(run, clinic, tmp_path, refuses):
    records = pd.read_csv(clinic / "records.csv", dtype=str)
    healthy = shutil.copytree(clinic, tmp_path / "healthy")
    records.assign(label=records["label"].where(records["split"] == "test", "0")).to_csv(
        healthy / "records.csv", index=False
    )
    with refuses("adapt.one_grade", "healthy"):
        foveal.adapt(run, to=healthy)
    assert not run.with_name("run-healthy").exists()


def test_an_adapted_run_is_not_adapted_again_nor_grades_beside_another(run, clinic, tmp_path, refuses):
    adapted = shutil.copytree(run, tmp_path / "run-clinic")
    said = read_json(run / "model.json") | {"parent": "run", "readout": True}
    (adapted / "model.json").write_text(json.dumps(said))
    adjustment = Adjustment(temperature=1.2, weights=(1.0,) * 5)
    write_readout(adapted, Readout(decision=said["decision"], ordered=True, adjustment=adjustment))
    with refuses("run.adapted", "run"):
        foveal.adapt(adapted, to=clinic)
    with refuses("image.grader"):
        foveal.predict(adapted, run, clinic, out=tmp_path / "p.csv")


def test_prevalence_needs_validation_photographs_of_the_run(run, clinic, refuses):
    with refuses("adapt.no_validation", "predictions.csv"):
        foveal.adapt(run, to=clinic, prevalence=True)


def test_prevalence_needs_no_grades(run, clinic, monkeypatch, capsys):
    monkeypatch.setattr(ROOM, "LEAST_IMAGES", 5)
    out = foveal.adapt(run, to=clinic, prevalence=True)
    assert sum(read_json(out / "adapt.json")["shares"]) == pytest.approx(1, abs=1e-3)
    assert "warning" in capsys.readouterr().out.lower()
