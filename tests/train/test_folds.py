import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.evaluate.operating import folds_in
from foveal.predict.model import ALL
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import read_predictions
from foveal.report.evidence import read_evidence
from foveal.report.making import leaked_ids
from foveal.runs import read_model
from foveal.sets.records import open_prepared
from foveal.train import train

pytestmark = pytest.mark.slow

OPTIONS = {"encoder": "strided_conv", "epochs": 2, "batch_size": 16, "folds": 3, "tta": "flips", "loss": "corn"}


@pytest.fixture(scope="module")
def graded_set(tmp_path_factory):
    return foveal.prepare("phantom:150", out=tmp_path_factory.mktemp("folds") / "set", size=32, test=0.2)


@pytest.fixture(scope="module")
def folds_run(graded_set, tmp_path_factory):
    return foveal.train(graded_set, out=tmp_path_factory.mktemp("folds") / "run", **OPTIONS)


def test_every_image_is_graded_by_who_has_not_learned_its_patient(folds_run, graded_set):
    records = open_prepared(graded_set).part("train", "val").set_index("id")
    fold_of = pd.read_csv(folds_run / "folds.csv").set_index("id")["fold"]
    assert set(fold_of.index) == set(records.index)
    for number in (1, 2, 3):
        seen = pd.read_csv(folds_run / f"fold{number}" / "seen.csv")["id"]
        held_out = fold_of.index[fold_of == number]
        assert not set(seen) & set(held_out) and len(seen) + len(held_out) == len(records)
        assert not set(records.loc[seen, "group"]) & set(records.loc[held_out, "group"])
        own = pd.read_csv(folds_run / f"fold{number}" / "predictions.csv")
        assert set(own["id"][own["split"] == "val"]) == set(held_out)


def test_out_of_fold_predictions_are_those_of_the_folds_after_the_readout(folds_run):
    table = read_predictions(folds_run / "predictions.csv")
    readout = json.loads((folds_run / "readout.json").read_text())
    assert readout["images"] == (table["split"] == "val").sum() and 0.1 <= readout["temperature"] <= 10
    assert folds_in(table[table["split"] == "val"]) is not None
    # A temperature keeps the order of the classes of an image: compare it with the fold's own table.
    columns = [f"p{k}" for k in range(5)]
    for number in (1, 2, 3):
        own = read_predictions(folds_run / f"fold{number}" / "predictions.csv").set_index("id")
        mine = table[table["fold"] == number].set_index("id")
        theirs = own.loc[mine.index, columns].to_numpy()
        assert (theirs.argmax(1) == mine[columns].to_numpy().argmax(1)).all()


def test_the_held_out_images_of_a_fold_have_their_list_of_errors(folds_run):
    own = read_predictions(folds_run / "fold2" / "predictions.csv")
    own = own[own["split"] == "val"]
    listed = pd.read_csv(folds_run / "fold2" / "errors" / "epoch-002-val.csv")
    assert set(listed["id"]) == set(own["id"][own["grade"] != own["label"]])


def test_the_ensemble_is_the_mean_of_its_folds(folds_run, graded_set):
    prepared = open_prepared(graded_set)
    test = prepared.part("test")
    together = Predictor(folds_run).raw_answers_of(prepared, test).probabilities
    alone = [Predictor(folds_run / f"fold{n}").raw_answers_of(prepared, test).probabilities for n in (1, 2, 3)]
    assert together == pytest.approx(np.mean(alone, axis=0), abs=1e-6)
    table = read_predictions(folds_run / "predictions.csv")
    graded = Predictor(folds_run).predict_prepared(prepared, test).set_index("id")
    kept = table[table["split"] == "test"].set_index("id").loc[graded.index]
    assert graded["grade"].tolist() == kept["grade"].tolist()
    assert graded["set"].tolist() == kept["set"].astype(str).tolist()


def test_turns_and_flips_leave_the_answer_of_a_turned_image_unchanged(folds_run, graded_set):
    prepared = open_prepared(graded_set)
    images = prepared.pixels(prepared.part("test").head(4))
    predictor = Predictor(folds_run / "fold1", tta="turns")
    turned = np.ascontiguousarray(np.rot90(images, axes=(1, 2)))
    assert predictor.probabilities(images) == pytest.approx(predictor.probabilities(turned), abs=1e-5)
    plain = Predictor(folds_run / "fold1", tta="none")
    assert abs(plain.probabilities(images) - plain.probabilities(turned)).max() > 1e-4


def test_finished_folds_are_not_trained_again(folds_run, graded_set, tmp_path, monkeypatch):
    before = (folds_run / "predictions.csv").read_bytes()
    monkeypatch.setattr(train, "fit", None)
    foveal.train(graded_set, out=folds_run, **OPTIONS)
    assert (folds_run / "predictions.csv").read_bytes() == before


def test_evaluation_chooses_thresholds_on_other_folds(folds_run, tmp_path):
    result = json.loads(foveal.evaluate(folds_run, split="val", out=tmp_path / "m.json").read_text())
    assert {point["chosen_on"] for point in result["operating_points"]} == {None, "other folds"}
    assert result["sets"]["coverage"]["n"] == result["about"]["images"]


@pytest.mark.parametrize(("tta", "views"), [("none", 1), ("flips", 4)])
def test_folds_make_one_pass_each_and_share_no_features(folds_run, graded_set, tta, views, monkeypatch):
    images = open_prepared(graded_set).pixels(open_prepared(graded_set).part("test").head(6))
    predictor, passes = Predictor(folds_run, tta=tta), []
    for member in predictor.members:
        monkeypatch.setattr(member.grader.encoder, "forward", counted(member.grader.encoder.forward, passes))
    answers = predictor.answer(images, ALL)
    assert passes == [views * len(images)] * 3
    assert not predictor.has_features and answers.features is answers.maps is None
    assert predictor.answer(images, ("features", "map")) == type(answers)() and len(passes) == 3


def counted(forward, passes):
    def counting(images):
        passes.append(len(images))
        return forward(images)

    return counting


def test_maps_need_a_single_grader(folds_run, graded_set, tmp_path, refuses):
    with refuses("run.several", folds_run.name):
        foveal.explain(folds_run, graded_set, out=tmp_path / "e")
    assert read_model(folds_run)["members"] == ["fold1", "fold2", "fold3"]


@pytest.mark.parametrize("second", ["fold2", "other"])
def test_runs_do_not_grade_together(folds_run, graded_set, tmp_path, refuses, second):
    other = tmp_path / "other"
    other.mkdir()
    model = read_model(folds_run / "fold1")
    (other / "model.json").write_text(json.dumps(model | {"classes": model["classes"][::-1]}))
    more = {"fold2": folds_run / "fold2", "other": other}[second]
    with refuses("image.grader", more):
        foveal.predict(folds_run / "fold1", more, graded_set, out=tmp_path / "p.csv")


def test_folds_need_enough_groups_and_encoders_that_saw_none_of_them(graded_set, tmp_path, refuses):
    few = foveal.prepare("phantom:12", out=tmp_path / "few", size=32, test=0.0, val=0.0)
    with refuses("option.value", "--folds", 7, 6):
        foveal.train(few, out=tmp_path / "run", **(OPTIONS | {"folds": 7, "batch_size": 2}))
    encoder = foveal.pretrain(
        graded_set, out=tmp_path / "encoder", encoder="strided_conv", epochs=1, batch_size=16, views="simclr"
    )
    with refuses("leak.seen", encoder):
        foveal.train(graded_set, out=tmp_path / "run", init=str(encoder), **(OPTIONS | {"encoder": "auto"}))


def test_a_report_of_folds_says_who_judged_and_finds_no_leak(folds_run, tmp_path):
    page = foveal.report(folds_run, out=tmp_path / "r.html").read_text()
    assert "None" not in re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    assert leaked_ids(read_evidence(folds_run)) == []
    # A leak into a fold is told: an image that its own fold has learned from.
    run = tmp_path / "leaky"
    shutil.copytree(folds_run, run)
    table = pd.read_csv(run / "predictions.csv")
    held_out = table[table["fold"] == 1]["id"].iloc[0]
    file = run / "fold1" / "seen.csv"
    seen = pd.read_csv(file, dtype=str, keep_default_na=False)
    pd.concat([seen, seen.head(1).assign(id=held_out)]).to_csv(file, index=False)
    assert leaked_ids(read_evidence(run)) == [held_out]
