"""Photographs made worse: what each change does to pixels, which photographs are drawn, and the table of a run."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.evaluate.stress import FILE, levels_of
from foveal.predict import stress
from foveal.predict.stress import altered, choose


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def test_resolution_blur_and_jpeg_are_those_of_opencv(noise):
    reduced = cv2.resize(noise[1].astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(reduced, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(altered(noise, "resolution", 16)[1] - enlarged).max() <= 1
    blurred = cv2.GaussianBlur(noise[2].astype(np.float32), (13, 13), 2.0, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(altered(noise, "blur", 2.0)[2] - blurred).max() <= 1
    code = cv2.imencode(".jpg", noise[0][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(altered(noise, "jpeg", 30)[0], decoded)


def test_light_is_scaled_where_it_is_linear(noise):
    assert np.array_equal(altered(noise, "darker", 1.0), noise)
    grey = np.full((1, 8, 8, 1), 188, np.uint8)  # half of the light of white: ((188 / 255 + .055) / 1.055) ** 2.4
    assert altered(grey, "brighter", 2.0).max() == 255 and (altered(grey, "darker", 0.5) == 137).all()
    assert (altered(noise, "darker", 0.5) <= noise).all() and (altered(noise, "brighter", 2) >= noise).all()
    assert altered(np.zeros_like(noise), "brighter", 4).max() == 0


def test_white_stays_white_at_6500_kelvin_and_turns_orange_and_blue(noise):
    assert np.array_equal(altered(noise, "warmer", 6500.0), noise)
    grey = np.full((1, 8, 8, 3), 120, np.uint8)
    red, green, blue = altered(grey, "warmer", 4000)[0, 0, 0].astype(int)
    assert red > 130 and 120 > green > 100 > blue
    red, green, blue = altered(grey, "cooler", 12000)[0, 0, 0].astype(int)
    assert red < 120 < blue


def test_classes_and_groups_take_turns():
    labels = np.repeat([0, 1, 2], [100, 20, 4])
    groups = np.array(["big"] * 50 + [f"g{n // 2}" for n in range(74)])
    table = pd.DataFrame({"id": np.arange(124), "label": labels, "group": groups})
    chosen = choose(table, 30, seed=0)
    assert chosen["label"].value_counts().to_dict() == {0: 13, 1: 13, 2: 4}
    assert (chosen.head(12).groupby("label").size() == 4).all(), "a first part is as mixed"
    assert (chosen.loc[chosen["label"] == 0, "group"] == "big").sum() <= 1
    assert choose(table, 30, seed=0).equals(chosen) and not choose(table, 30, seed=1).equals(chosen)
    assert len(choose(table, 500, seed=0)) == 124


@pytest.fixture
def judged(grader_run, tmp_path, monkeypatch):
    """A copy of the run, whose few test photographs are enough."""
    monkeypatch.setattr(stress, "LEAST", 2)
    return shutil.copytree(grader_run, tmp_path / "run")


@pytest.mark.slow
def test_a_run_is_stressed_and_evaluated_and_the_report_shows_it(judged, phantom_set):
    found = json.loads(foveal.evaluate(judged, stress=True).read_text())
    table, levels = pd.read_csv(judged / FILE, keep_default_na=False), list(levels_of(32, 3))
    count = found["stress"]["about"]["photographs"]
    assert len(table) == count * (1 + len(levels)) and len(found["stress"]["levels"]) == len(levels)
    own = pd.read_csv(judged / "predictions.csv").set_index("id")["grade"]
    first = table[table["change"] == ""]
    assert (own.loc[first["id"]].to_numpy() == first["grade"].to_numpy()).all()
    again = json.loads(foveal.evaluate(judged).read_text())
    assert again["stress"] == found["stress"], "a later evaluation keeps it"
    assert '<section id="stress">' in foveal.report(judged).read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_cannot_be_stressed_is_refused_before_work(judged, phantom_set, tmp_path, refuses, monkeypatch):
    with refuses("option.conflict", "predictions.csv"):
        foveal.evaluate(judged / "predictions.csv", stress=True)
    moved = shutil.copytree(phantom_set, tmp_path / "moved")
    model = json.loads((judged / "model.json").read_text())
    options = (judged / "config.toml").read_text()
    (judged / "config.toml").write_text(options.replace(str(phantom_set), "gone"))
    with refuses("set.missing", "gone"):
        foveal.evaluate(judged, stress=True)
    other = foveal.prepare("phantom:30", out=tmp_path / "other", size=32, seed=5)
    records = pd.read_csv(other / "records.csv", keep_default_na=False)
    if set(records["id"]) & set(pd.read_csv(judged / "predictions.csv")["id"]):
        (tmp_path / "other" / "records.csv").write_text(records.assign(id="x" + records["id"]).to_csv(index=False))
        measures = pd.read_csv(other / "measures.csv", dtype=str, keep_default_na=False)
        measures.assign(id="x" + measures["id"]).to_csv(other / "measures.csv", index=False)
    with refuses("stress.other_set", other):
        foveal.evaluate(judged, stress=True, records=other)
    assert foveal.evaluate(judged, stress=True, records=moved).is_file()
    monkeypatch.setattr(stress, "LEAST", 1000)
    with refuses("stress.too_few", 1000):
        foveal.evaluate(judged, stress=True, records=moved)
    model["preparation"] |= {"enhance": "clahe"}
    (judged / "model.json").write_text(json.dumps(model))
    monkeypatch.setattr(stress, "LEAST", 2)
    with refuses("stress.enhanced", "clahe"):
        foveal.evaluate(judged, stress=True, records=moved)


@pytest.mark.slow
def test_each_photograph_is_graded_by_the_fold_that_held_it_out(phantom_set, tmp_path, monkeypatch):
    run = foveal.train(phantom_set, out=tmp_path / "five", encoder="small_conv", epochs=1, batch_size=8, folds=2)
    monkeypatch.setattr(stress, "LEAST", 2)
    foveal.evaluate(run, split="val", stress=True)
    table = pd.read_csv(run / FILE, keep_default_na=False)
    first = table[table["change"] == ""].set_index("id")
    own = pd.read_csv(run / "predictions.csv", keep_default_na=False).set_index("id").loc[first.index]
    probabilities = [f"p{k}" for k in range(5)]
    assert set(own["fold"].astype(str)) == {"1", "2"}
    assert np.allclose(first[probabilities], own[probabilities].astype(float), atol=0.02)


@pytest.mark.slow
def test_grey_digits_are_stressed_without_colours(tmp_path, monkeypatch):
    monkeypatch.setattr(stress, "LEAST", 2)
    data = foveal.prepare("phantom:60", out=tmp_path / "grey", size=32, green=True)
    run = foveal.train(data, out=tmp_path / "run", encoder="small_conv", epochs=1, batch_size=8)
    found = json.loads(foveal.evaluate(run, stress=True).read_text())["stress"]
    assert {one["change"] for one in found["levels"]} == {"resolution", "blur", "jpeg", "darker", "brighter"}
