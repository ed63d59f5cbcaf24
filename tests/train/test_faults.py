"""Faults that have misled others, put in on purpose: each is caught, or cannot be expressed."""

import json
import shutil

import pandas as pd
import pytest
from safetensors.torch import load_file

import foveal
from foveal.predict.predictor import Predictor
from foveal.sets.leaks import read_seen
from foveal.sets.records import open_prepared


@pytest.fixture
def run_copy(grader_run, tmp_path):
    shutil.copytree(grader_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def set_copy(phantom_set, tmp_path):
    shutil.copytree(phantom_set, tmp_path / "set")
    return tmp_path / "set"


def change_model(run, **changes):
    model = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(model | changes))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mean": [0.1307] * 3}, "run.mismatch"),
        ({"std": [0.3081] * 3}, "run.mismatch"),
        ({"image_size": 28}, "weights.mismatch"),
    ],
)
def test_another_normalisation_or_size_at_test_time(run_copy, changes, code, refuses):
    change_model(run_copy, **changes)
    with refuses(code, run_copy):
        Predictor(run_copy)


def test_classes_in_another_order_leave_the_labels_out(run_copy, phantom_set, tmp_path, refuses):
    classes = open_prepared(phantom_set).classes
    change_model(run_copy, classes=classes[::-1])
    foveal.predict(run_copy, phantom_set, split="test", out=tmp_path / "p.csv")
    assert pd.read_csv(tmp_path / "p.csv")["label"].isna().all()
    with refuses("predictions.no_labels"):
        foveal.evaluate(tmp_path / "p.csv")


def test_keys_with_a_prefix_of_what_stood_around_them(phantom_set, grader_run, tmp_path, refuses):
    from safetensors.torch import save_file

    weights = load_file(grader_run / "encoder.safetensors")
    save_file({f"around.it.{key}": value for key, value in weights.items()}, tmp_path / "wrapped.safetensors")
    with refuses("weights.mismatch", "wrapped.safetensors", "around.it."):
        foveal.train(
            phantom_set, out=tmp_path / "run", encoder="small_conv", init=str(tmp_path / "wrapped.safetensors"),
            epochs=1, batch_size=8,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_weights_of_another_head(run_copy, refuses):
    change_model(run_copy, loss="corn")
    with refuses("weights.mismatch", "head.weight"):
        Predictor(run_copy)


def test_a_copy_or_a_patient_on_both_sides_of_the_split(set_copy, refuses):
    records = pd.read_csv(set_copy / "records.csv", dtype=str, keep_default_na=False)
    train, test = (records.index[records["split"] == side][0] for side in ("train", "test"))
    torn = records.copy()
    torn.loc[test, "group"] = torn.loc[train, "group"]
    torn.to_csv(set_copy / "records.csv", index=False)
    with refuses("split.group", torn.loc[train, "group"]):
        open_prepared(set_copy)
    records.to_csv(set_copy / "records.csv", index=False)
    pair = {"id": records.loc[train, "id"], "other": records.loc[test, "id"], "kind": "exact", "similarity": 1.0}
    pd.DataFrame([pair | {"label": 0, "other_label": 0, "conflict": 0}]).to_csv(
        set_copy / "duplicates.csv", index=False
    )
    with refuses("split.copies", pair["id"], pair["other"]):
        open_prepared(set_copy)


def test_pixels_of_the_test_part_under_another_name_in_the_training_part(set_copy, tmp_path, refuses):
    prepared = open_prepared(set_copy)
    train, test = prepared.part("train").iloc[0], prepared.part("test").iloc[0]
    records = pd.read_csv(set_copy / "records.csv", dtype=str, keep_default_na=False)
    records.loc[records["id"] == train["id"], ["sha256", "shard", "row"]] = [
        test["sha256"], str(test["shard"]), str(test["row"]),
    ]  # fmt: skip
    records.to_csv(set_copy / "records.csv", index=False)
    with refuses("leak.seen", test["id"]):
        foveal.train(set_copy, out=tmp_path / "run", encoder="small_conv", epochs=1, batch_size=8)


@pytest.mark.parametrize("loss", ["ordinal", "mse", "corn", "cross_entropy"])
def test_training_that_diverges_says_so(phantom_set, tmp_path, loss, refuses):
    with refuses("training.diverged", "epoch 1"):
        foveal.train(
            phantom_set, out=tmp_path / "run", encoder="small_conv", epochs=2, batch_size=8, loss=loss,
            learning_rate=1e12, schedule="constant", warm_up=0.0,
        )  # fmt: skip


def test_weights_as_a_file_tell_what_they_have_learned_from(grader_run, phantom_set, tmp_path, refuses):
    file = str(grader_run / "encoder.safetensors")
    assert len(read_seen(file)) == len(read_seen(str(grader_run))) > 0
    with refuses("leak.seen", file):
        foveal.train(phantom_set, out=tmp_path / "run", encoder="small_conv", init=file, folds=2, epochs=1)
    assert not (tmp_path / "run").exists()


def test_sampler_and_class_weights_together_are_warned_of(phantom_set, tmp_path, capsys):
    options = {"encoder": "strided_conv", "epochs": 1, "batch_size": 8, "loss": "cross_entropy"}
    foveal.train(phantom_set, out=tmp_path / "one", sampling="balanced", class_weights="balanced", **options)
    warned = "warning: --sampling"
    assert warned in capsys.readouterr().out
    foveal.train(phantom_set, out=tmp_path / "two", sampling="balanced", **options)
    assert warned not in capsys.readouterr().out


def test_a_changed_prediction_is_no_probability(run_copy, tmp_path, refuses):
    table = pd.read_csv(run_copy / "predictions.csv")
    table.loc[0, "p0"] += 0.2
    table.to_csv(tmp_path / "p.csv", index=False)
    with refuses("predictions.probability", "p.csv"):
        foveal.evaluate(tmp_path / "p.csv")
