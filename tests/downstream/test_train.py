import json

import numpy as np
import pandas as pd
import pytest
import torch

import foveal
from foveal import checkpoint
from foveal.data.records import open_prepared
from foveal.evaluate.metrics import accuracy, confusion_matrices, quadratic_kappa
from foveal.predict.predictor import Predictor
from foveal.runs import read_metrics, read_model

OPTIONS = {"encoder": "small_conv", "epochs": 2, "batch_size": 8, "class_weights": "none"}


class InterruptedRunError(Exception):
    pass


@pytest.fixture(scope="module")
def encoder_run(phantom_set, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "encoder"
    return foveal.pretrain(phantom_set, out=out, encoder="test_resnet", epochs=1, batch_size=16)


def test_a_run_folder_has_all_that_the_plan_says(grader_run):
    names = {path.name for path in grader_run.iterdir()}
    assert names == {
        "config.toml", "provenance.json", "metrics.jsonl", "checkpoint.pt", "best.pt", "encoder.safetensors",
        "model.json", "card.json", "predictions.csv", "misgraded.csv", "misgraded", "views.jpg", "seen.csv",
    }  # fmt: skip
    row = read_metrics(grader_run)[-1]
    assert {"loss", "train_accuracy", "train_kappa", "val_loss", "val_accuracy", "val_kappa", "val_recall"} <= set(row)


def test_predictions_are_those_of_the_best_epoch(grader_run, phantom_set):
    table = pd.read_csv(grader_run / "predictions.csv")
    assert set(table["split"]) == {"val", "test"} and len(table) == len(open_prepared(phantom_set).part("val", "test"))
    val = table[table["split"] == "val"]
    confusion = confusion_matrices(val["label"].to_numpy(), val["grade"].to_numpy(), np.zeros(len(val), int), 5)[0]
    best = max(read_metrics(grader_run), key=lambda row: (row["val_kappa"], -row["val_loss"]))
    assert accuracy(confusion) == pytest.approx(best["val_accuracy"])
    assert np.nan_to_num(quadratic_kappa(confusion)) == pytest.approx(best["val_kappa"])


def test_an_interrupted_run_ends_with_the_same_numbers(grader_run, phantom_set, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr("foveal.downstream.train.read_seen", lambda init: set())
        save = checkpoint.save

        def save_and_die(state, path):
            save(state, path)
            if path.name == "checkpoint.pt":
                raise InterruptedRunError

        patch.setattr(checkpoint, "save", save_and_die)
        foveal.train(phantom_set, out=tmp_path / "run", **OPTIONS)
    resumed = foveal.train(phantom_set, out=tmp_path / "run", **OPTIONS)
    assert (resumed / "predictions.csv").read_bytes() == (grader_run / "predictions.csv").read_bytes()
    assert [row["loss"] for row in read_metrics(resumed)] == [row["loss"] for row in read_metrics(grader_run)]


def test_a_linear_probe_leaves_every_encoder_weight_as_it_was(phantom_set, encoder_run, tmp_path):
    run = foveal.train(phantom_set, out=tmp_path / "probe", init=str(encoder_run), freeze=True, epochs=3, batch_size=8)
    before, after = (checkpoint.load_weights(r / "encoder.safetensors") for r in (encoder_run, run))
    assert set(before) == set(after) and all(torch.equal(before[key], after[key]) for key in before)
    # What the probe learned on standardised features is what the saved grader computes from images.
    table, last = pd.read_csv(run / "predictions.csv"), read_metrics(run)
    val = table[table["split"] == "val"]
    best = max(last, key=lambda row: (row["val_kappa"], -row["val_loss"]))
    assert (val["label"] == val["grade"]).mean() == pytest.approx(best["val_accuracy"])


def test_the_starting_run_decides_encoder_size_and_normalisation(phantom_set, encoder_run, tmp_path):
    run = foveal.train(phantom_set, out=tmp_path / "run", init=str(encoder_run), epochs=1, batch_size=8)
    model, before = read_model(run), read_model(encoder_run)
    assert {key: model[key] for key in ("encoder", "image_size", "mean", "std")} == {
        key: before[key] for key in ("encoder", "image_size", "mean", "std")
    }
    assert set(pd.read_csv(encoder_run / "seen.csv")["sha256"]) <= set(pd.read_csv(run / "seen.csv")["sha256"])


def test_a_checkpoint_of_another_encoder_is_an_error(phantom_set, encoder_run, tmp_path):
    with pytest.raises(ValueError, match="holds weights of test_resnet; leave --encoder out"):
        foveal.train(phantom_set, out=tmp_path / "run", init=str(encoder_run), **OPTIONS)
    with pytest.raises(ValueError, match="(?s)do not fit the network.*missing: conv1.bias"):
        foveal.train(phantom_set, out=tmp_path / "run", init=str(encoder_run / "encoder.safetensors"), **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_has_seen_the_test_part_is_refused(phantom_set, encoder_run, tmp_path):
    leaky = tmp_path / "leaky"
    leaky.mkdir()
    for file in ("model.json", "encoder.safetensors"):
        (leaky / file).write_bytes((encoder_run / file).read_bytes())
    test = open_prepared(phantom_set).part("test")
    test[["sha256", "id"]].assign(set="x").to_csv(leaky / "seen.csv", index=False)
    options = {"init": str(leaky), "epochs": 1, "batch_size": 8}
    with pytest.raises(ValueError, match=f"{len(test)} validation or test images .* has learned from too"):
        foveal.train(phantom_set, out=tmp_path / "run", **options)
    assert foveal.train(phantom_set, out=tmp_path / "run", **options, allow_leaks=True).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 500}, "--batch-size 500 is larger than the"),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 1}, "at least 2"),
        ({"device": "gpu"}, "choose auto, cpu, cuda or mps"),
        ({"warm_up": 1.5}, "are shares"),
        ({"init": "nowhere"}, "expected random, imagenet, a run folder"),
        ({"frezee": True}, "did you mean 'freeze'"),
    ],
)
def test_wrong_options_fail_before_anything_is_written(phantom_set, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        foveal.train(phantom_set, out=tmp_path / "run", **(OPTIONS | options))
    assert not (tmp_path / "run").exists()


def test_a_pool_without_labels_cannot_be_trained_on(tmp_path, phantom_set):
    pool = foveal.prepare("phantom:10", out=tmp_path / "pool", size=16)
    records = pd.read_csv(pool / "records.csv").assign(label="", split="unlabelled")
    records.to_csv(pool / "records.csv", index=False)
    with pytest.raises(ValueError, match="no labelled training images"):
        foveal.train(pool, out=tmp_path / "run")


def test_without_a_validation_part_the_last_epoch_is_kept(tmp_path):
    data = foveal.prepare("phantom:20", out=tmp_path / "data", size=16, val=0.0)
    run = foveal.train(data, out=tmp_path / "run", **OPTIONS)
    assert checkpoint.load(run / "best.pt")["epoch"] == 2 and set(pd.read_csv(run / "predictions.csv")["split"]) == {
        "test"
    }


def test_the_misgraded_are_listed_worst_first_with_their_pictures(grader_run):
    table, wrong = pd.read_csv(grader_run / "predictions.csv"), pd.read_csv(grader_run / "misgraded.csv")
    assert len(wrong) == (table["label"] != table["grade"]).sum()
    assert wrong["distance"].is_monotonic_decreasing
    named = wrong["picture"].dropna()
    assert len(named) and all((grader_run / "misgraded" / name).is_file() for name in named)


def test_the_library_and_the_file_agree(grader_run, phantom_set):
    prepared = open_prepared(phantom_set)
    judged = prepared.part("val", "test")
    probabilities = Predictor(grader_run).predict(prepared.pixels(judged))
    table = pd.read_csv(grader_run / "predictions.csv")
    assert table[[f"p{k}" for k in range(5)]].to_numpy() == pytest.approx(probabilities, abs=2e-6)
    assert json.loads((grader_run / "model.json").read_text())["decision"] == "expected"
