import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import foveal
from foveal import checkpoint
from foveal.config import read_toml
from foveal.metrics import accuracy, confusion_matrix, quadratic_kappa
from foveal.nets.encoder import create_encoder
from foveal.predict.predictor import Predictor
from foveal.runs import read_metrics, read_model, sole_writer
from foveal.sets.records import open_prepared
from foveal.sets.splits import parts_of_groups
from foveal.train import fit, train

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
        "model.json", "card.json", "predictions.csv", "misgraded.csv", "misgraded", "views.jpg", "seen.csv", "errors",
        "validation.csv",
    }  # fmt: skip
    row = read_metrics(grader_run)[-1]
    assert {
        "loss",
        "train_accuracy",
        "train_kappa",
        "val_loss",
        "val_accuracy",
        "val_kappa",
        "val_recall",
        "val_precision",
    } <= set(row)


def test_predictions_are_those_of_the_best_epoch(grader_run, phantom_set):
    table = pd.read_csv(grader_run / "predictions.csv")
    assert set(table["split"]) == {"val", "test"} and len(table) == len(open_prepared(phantom_set).part("val", "test"))
    val = table[table["split"] == "val"]
    confusion = confusion_matrix(val["label"].to_numpy(), val["grade"].to_numpy(), 5)
    best = max(read_metrics(grader_run), key=lambda row: (row["val_kappa"], -row["val_loss"]))
    assert accuracy(confusion) == pytest.approx(best["val_accuracy"])
    assert np.nan_to_num(quadratic_kappa(confusion)) == pytest.approx(best["val_kappa"])


@pytest.mark.slow
def test_predictions_have_the_eyes_and_cameras_of_the_set(grader_run, phantom_set, tmp_path):
    table = pd.read_csv(grader_run / "predictions.csv", keep_default_na=False)
    known = open_prepared(phantom_set).records.set_index("id").loc[table["id"]]
    assert table["eye"].tolist() == known["eye"].tolist() and "camera" not in table  # phantoms have none
    found = json.loads(foveal.evaluate(grader_run, out=tmp_path / "new.json").read_text())
    assert found["eyes"]["eyes"] > 0 and {group["value"] for group in found["subgroups"]} == {"left", "right"}
    table.drop(columns="eye").to_csv(tmp_path / "predictions.csv", index=False)  # as of an older run
    older = json.loads(foveal.evaluate(tmp_path / "predictions.csv").read_text())
    assert "eyes" not in older and not older["subgroups"]
    assert older["metrics"]["accuracy"] == found["metrics"]["accuracy"]


@pytest.mark.parametrize("folds", [0, 2])
def test_a_second_writer_is_refused_while_the_first_is_at_work(phantom_set, tmp_path, monkeypatch, folds, refuses):
    options = OPTIONS | {"out": tmp_path / "run", "epochs": 1, "folds": folds}
    fit, refused = train.fit, []

    def meanwhile(*given):
        with monkeypatch.context() as patch, refuses("output.busy", tmp_path / "run"):
            patch.setattr(train, "fit", fit)
            foveal.train(phantom_set, **options)
        refused.append(1)
        return fit(*given)

    monkeypatch.setattr(train, "fit", meanwhile)
    foveal.train(phantom_set, **options)
    assert len(refused) == max(1, folds) and (tmp_path / "run" / "predictions.csv").is_file()
    with sole_writer(tmp_path / "run", "train"):
        pass  # it is free again


def test_a_linear_probe_leaves_every_encoder_weight_as_it_was(phantom_set, encoder_run, tmp_path):
    run = foveal.train(phantom_set, out=tmp_path / "probe", init=str(encoder_run), freeze=True, epochs=3, batch_size=8)
    before, after = (load_file(r / "encoder.safetensors") for r in (encoder_run, run))
    assert set(before) == set(after) and all(torch.equal(before[key], after[key]) for key in before)
    assert not (run / "views.jpg").exists()  # it sees plain images
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


def test_a_checkpoint_of_another_encoder_is_an_error(phantom_set, encoder_run, tmp_path, refuses):
    with refuses("option.conflict", "--encoder small_conv", encoder_run, "test_resnet"):
        foveal.train(phantom_set, out=tmp_path / "run", init=str(encoder_run), **OPTIONS)
    with refuses("weights.mismatch", encoder_run / "encoder.safetensors", "conv1.bias"):
        foveal.train(phantom_set, out=tmp_path / "run", init=str(encoder_run / "encoder.safetensors"), **OPTIONS)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_encoder_that_has_seen_the_test_part_is_refused(phantom_set, encoder_run, tmp_path, refuses):
    leaky = tmp_path / "leaky"
    leaky.mkdir()
    for file in ("model.json", "encoder.safetensors"):
        (leaky / file).write_bytes((encoder_run / file).read_bytes())
    test = open_prepared(phantom_set).part("test")
    test[["sha256", "id"]].assign(set="x").to_csv(leaky / "seen.csv", index=False)
    options = {"init": str(leaky), "epochs": 1, "batch_size": 8}
    with refuses("leak.seen", len(test), leaky):
        foveal.train(phantom_set, out=tmp_path / "run", **options)
    assert foveal.train(phantom_set, out=tmp_path / "run", **options, allow_leaks=True).exists()


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ({"batch_size": 500}, "option.value", 500),
        ({"device": "gpu"}, "option.value", "gpu"),
        ({"init": "nowhere"}, "weights.missing", "nowhere"),
        ({"frezee": True}, "option.unknown", "freeze"),
        ({"freeze_stages": 99, "init": "START"}, "option.value", "--freeze-stages 99"),
        ({"cutoffs": "fitted", "loss": "focal"}, "option.conflict", "--cutoffs fitted"),
    ],
)
def test_wrong_options_fail_before_anything_is_written(phantom_set, tmp_path, options, code, named, refuses):
    if options.get("init") == "START":
        options = options | {"init": str(tmp_path / "start.safetensors")}
        checkpoint.save_weights(create_encoder("small_conv", 3, 32), tmp_path / "start.safetensors")
    with refuses(code, named):
        foveal.train(phantom_set, out=tmp_path / "run", **(OPTIONS | options))
    assert not (tmp_path / "run").exists()


def test_a_pool_without_labels_cannot_be_trained_on(tmp_path, refuses):
    pool = foveal.prepare("phantom:10", out=tmp_path / "pool", size=16)
    records = pd.read_csv(pool / "records.csv").assign(label="", split="unlabelled")
    records.to_csv(pool / "records.csv", index=False)
    with refuses("set.too_few_classes", pool):
        foveal.train(pool, out=tmp_path / "run")
    with refuses("option.conflict", "--patience 3"):
        foveal.train(
            foveal.prepare("phantom:40", out=tmp_path / "x", size=16, val=0.0), out=tmp_path / "run", patience=3
        )


def test_without_a_validation_part_the_last_epoch_is_kept(tmp_path):
    data = foveal.prepare("phantom:20", out=tmp_path / "data", size=16, val=0.0)
    run = foveal.train(data, out=tmp_path / "run", **OPTIONS)
    assert checkpoint.load(run / "best.pt")["epoch"] == 2
    assert set(pd.read_csv(run / "predictions.csv")["split"]) == {"test"}


def test_the_misgraded_are_listed_worst_first_with_their_pictures(grader_run):
    table, wrong = pd.read_csv(grader_run / "predictions.csv"), pd.read_csv(grader_run / "misgraded.csv")
    assert len(wrong) == (table["label"] != table["grade"]).sum()
    assert wrong["distance"].is_monotonic_decreasing
    named = wrong["picture"].dropna()
    assert len(named) and all((grader_run / "misgraded" / name).is_file() for name in named)


def test_the_library_and_the_file_agree(grader_run, phantom_set):
    prepared = open_prepared(phantom_set)
    judged = prepared.part("val", "test")
    probabilities = Predictor(grader_run).probabilities(prepared.pixels(judged))
    table = pd.read_csv(grader_run / "predictions.csv")
    assert table[[f"p{k}" for k in range(5)]].to_numpy() == pytest.approx(probabilities, abs=2e-6)
    assert json.loads((grader_run / "model.json").read_text())["decision"] == "sharpened"


def run_of(phantom_set, out, **options):
    return foveal.train(phantom_set, out=out, **({"encoder": "strided_conv", "epochs": 2, "batch_size": 8} | options))


def test_photographs_are_graded_in_their_flips_and_digits_as_they_are(grader_run, phantom_set, tmp_path):
    digits = foveal.prepare("phantom:40", out=tmp_path / "digits", size=32, fundus="no")
    digits_run = run_of(digits, tmp_path / "run", epochs=1)
    flips, none = (json.loads((run / "model.json").read_text())["tta"] for run in (grader_run, digits_run))
    assert (flips, none) == ("flips", "none")
    pixels = open_prepared(phantom_set).pixels(open_prepared(phantom_set).part("val", "test"))
    table = pd.read_csv(grader_run / "predictions.csv")[[f"p{k}" for k in range(5)]].to_numpy()
    one, four = (Predictor(grader_run, tta=how).probabilities(pixels) for how in ("none", "flips"))
    assert table == pytest.approx(four, abs=2e-6) and abs(table - one).max() > 1e-4


def weights_of(run):
    return checkpoint.load(run / "best.pt")["grader"]


def test_parts_of_a_batch_give_the_gradient_of_the_whole(phantom_set, tmp_path):
    # small_conv has no batch statistics, so nothing but rounding may differ.
    options = {
        "encoder": "small_conv",
        "optimiser": "sgd",
        "learning_rate": 0.05,
        "loss": "cross_entropy",
        "warm_up": 0.0,
    }
    whole, parts = (
        weights_of(run_of(phantom_set, tmp_path / str(size), micro_batch=size, **options)) for size in (0, 3)
    )
    assert all(torch.allclose(whole[key], parts[key], atol=2e-5) for key in whole)


def test_the_first_stages_can_stay_as_they_were(phantom_set, tmp_path):
    torch.manual_seed(0)
    start = create_encoder("strided_conv", 3, 32)
    checkpoint.save_weights(start, tmp_path / "start.safetensors")
    options = {"init": str(tmp_path / "start.safetensors"), "freeze_stages": 2, "epochs": 1, "batch_norm": "freeze"}
    still = weights_of(run_of(phantom_set, tmp_path / "b", **options))
    moved = {key for key, value in start.state_dict().items() if not torch.equal(value, still[f"encoder.{key}"])}
    assert moved and all(key.startswith("top") for key in moved)


@pytest.mark.slow
def test_frozen_and_re_estimated_batch_statistics(phantom_set, tmp_path):
    torch.manual_seed(0)
    start = create_encoder("strided_conv", 3, 32).state_dict()
    frozen = weights_of(run_of(phantom_set, tmp_path / "frozen", batch_norm="freeze"))
    assert torch.equal(frozen["encoder.stem.1.running_mean"], start["stem.1.running_mean"])
    again = run_of(phantom_set, tmp_path / "again", batch_norm="re-estimate")
    learned = run_of(phantom_set, tmp_path / "learned", batch_norm="learn")
    assert not torch.equal(
        weights_of(again)["encoder.stem.1.running_mean"], weights_of(learned)["encoder.stem.1.running_mean"]
    )
    assert read_toml(again / "config.toml", "train")["batch_norm"] == "re-estimate"


def test_what_stands_still_is_not_estimated_anew(phantom_set, tmp_path):
    torch.manual_seed(0)
    encoder = create_encoder("strided_conv", 3, 32)
    start = encoder.state_dict()
    checkpoint.save_weights(encoder, tmp_path / "start.safetensors")
    options = {"freeze_stages": 1, "batch_norm": "re-estimate", "epochs": 1}
    options["init"] = str(tmp_path / "start.safetensors")
    found = weights_of(run_of(phantom_set, tmp_path / "run", **options))
    assert torch.equal(found["encoder.stem.1.running_mean"], start["stem.1.running_mean"])
    assert not torch.equal(found["encoder.top.1.running_mean"], start["top.1.running_mean"])


@pytest.mark.slow
def test_starting_weights_and_batches_choose_how_statistics_are_kept(phantom_set, tmp_path, encoder_run):
    options = [{"batch_size": 16}, {"init": str(encoder_run), "batch_size": 8},
               {"init": str(encoder_run), "batch_size": 16}, {"freeze": True, "batch_size": 8}]  # fmt: skip
    chosen = []
    for number, own in enumerate(options):
        run = foveal.train(phantom_set, out=tmp_path / str(number), encoder="test_resnet", epochs=1, **own)
        chosen.append(read_toml(run / "config.toml", "train")["batch_norm"])
    assert chosen == ["re-estimate", "freeze", "re-estimate", "auto"]


@pytest.mark.slow
def test_without_a_validation_part_the_last_epoch_has_its_own_statistics(tmp_path, monkeypatch):
    data = foveal.prepare("phantom:40", out=tmp_path / "set", size=32, val=0.0, test=0.0)
    means = {}
    for norm in ("re-estimate", "learn"):
        run = foveal.train(data, out=tmp_path / norm, encoder="strided_conv", epochs=2, batch_norm=norm)
        means[norm] = weights_of(run)["encoder.stem.1.running_mean"]
    assert not torch.equal(means["re-estimate"], means["learn"])
    calls = []
    monkeypatch.setattr(fit, "re_estimate_statistics", lambda *arguments: calls.append(arguments))
    foveal.train(data, out=tmp_path / "counted", encoder="strided_conv", epochs=3)
    assert len(calls) == 1  # what nobody looks at is not estimated


def test_a_finished_run_goes_on_at_the_rates_of_the_longer_one(grader_run, phantom_set, tmp_path):
    run = shutil.copytree(grader_run, tmp_path / "grader")
    options = {"encoder": "small_conv", "batch_size": 8, "class_weights": "none"}
    foveal.train(phantom_set, out=run, epochs=4, **options)
    rows, before = read_metrics(run), read_metrics(grader_run)
    assert rows[:2] == before and [row["epoch"] for row in rows] == [1, 2, 3, 4]
    whole = read_metrics(foveal.train(phantom_set, out=tmp_path / "whole", epochs=4, **options))
    assert [row["learning_rate"] for row in rows[2:]] == [row["learning_rate"] for row in whole[2:]]
    assert checkpoint.load(run / "checkpoint.pt")["epoch"] == 4 and (run / "predictions.csv").is_file()


def test_training_stops_when_nothing_gets_better(phantom_set, tmp_path):
    run = run_of(phantom_set, tmp_path / "run", epochs=30, patience=2, learning_rate=1e-12)
    rows = read_metrics(run)
    best = read_model(run)["best_epoch"]
    assert len(rows) == best + 2 < 30
    again = run_of(phantom_set, tmp_path / "run", epochs=30, patience=2, learning_rate=1e-12)
    assert read_metrics(again) == rows


def test_the_steps_of_the_rate(phantom_set, tmp_path):
    run = run_of(phantom_set, tmp_path / "run", epochs=3, schedule="steps", decay=0.7, warm_up=0.0, learning_rate=0.01)
    rates = [row["learning_rate"] for row in read_metrics(run)]
    assert rates == pytest.approx([0.01, 0.007, 0.0049])


def test_errors_of_every_epoch_are_listed(phantom_set, tmp_path):
    run = run_of(phantom_set, tmp_path / "run")
    assert len(list((run / "errors").iterdir())) == 4  # two epochs, two parts
    val = pd.read_csv(run / "errors" / "epoch-002-val.csv")
    assert list(val) == ["id", "true", "given", "probability"] and (val["true"] != val["given"]).all()
    records = open_prepared(phantom_set).part("val").set_index("id")
    assert (records.loc[val["id"], "label"].to_numpy() == val["true"]).all()
    row = read_metrics(run)[-1]
    assert 1 - len(val) / len(records) == pytest.approx(row["val_accuracy"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "corn", "coral", "mse", "smooth_l1"])
def test_every_loss_trains_resumes_and_predicts(phantom_set, tmp_path, loss, monkeypatch):
    options = {"loss": loss, "sampling": "balanced", "layer_decay": 0.8}
    whole = run_of(phantom_set, tmp_path / "whole", **options)
    save = checkpoint.save

    def save_and_die(state, path):
        save(state, path)
        if path.name == "checkpoint.pt":
            raise InterruptedRunError

    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr(checkpoint, "save", save_and_die)
        run_of(phantom_set, tmp_path / "broken", **options)
    resumed = run_of(phantom_set, tmp_path / "broken", **options)
    assert (resumed / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    prepared = open_prepared(phantom_set)
    again = Predictor(whole).predict_prepared(prepared, prepared.part("val", "test"))
    kept = pd.read_csv(whole / "predictions.csv").set_index("id").loc[again["id"]]
    assert kept["grade"].tolist() == again["grade"].tolist()


def test_an_order_is_needed_for_losses_of_grades(tmp_path, refuses):
    folder = tmp_path / "pictures"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            noise = np.random.default_rng(number).integers(0, 255, (20, 20, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / name / f"{name}{number}.png"), noise)
    data = foveal.prepare(folder, out=tmp_path / "set", size=16, fundus="no")
    with refuses("option.conflict", "--loss corn", data):
        run_of(data, tmp_path / "run", loss="corn")


@pytest.mark.slow
def test_a_second_task_is_learned_beside_the_grade(tmp_path, refuses):
    folder, rows = tmp_path / "pictures", []
    folder.mkdir()
    for number in range(40):
        grade, oedema = number % 5, "yes" if number % 2 else "no"
        noise = np.random.default_rng(number).integers(0, 60, (24, 24, 3), dtype=np.uint8) + 40 * grade
        cv2.imwrite(str(folder / f"i{number}.png"), noise.astype(np.uint8))
        known = oedema if number > 4 else ""
        rows.append({"image": f"i{number}.png", "grade": grade, "oedema": known, "site": "a", "risk": number % 3})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    data = foveal.prepare(folder, out=tmp_path / "set", size=24, fundus="no")
    assert list(open_prepared(data).columns) == ["oedema", "site", "risk"]
    run = run_of(data, tmp_path / "run", second="oedema", epochs=1)
    table = pd.read_csv(run / "predictions.csv", dtype={"oedema": str})
    assert (table["oedema=0"] + table["oedema=1"]).to_numpy() == pytest.approx(1, abs=1e-5)
    assert set(table["oedema"].fillna("")) <= {"", "0", "1"} and read_model(run)["second_classes"] == ["0", "1"]
    assert (table["referable"] == ((table["grade"] >= 2) | (table["oedema=1"] >= 0.5)) * 1).all()
    foveal.predict(run, data, out=tmp_path / "again.csv")
    again = pd.read_csv(tmp_path / "again.csv").set_index("id").loc[table["id"]]
    assert (again["referable"].to_numpy() == table["referable"].to_numpy()).all()
    found = json.loads(foveal.evaluate(run).read_text())
    judged = table[table["split"] == "test"]
    ill = int(((judged["label"] >= 2) | (judged["oedema"] == "1")).sum())
    assert ill > (judged["label"] >= 2).sum() and found["about"]["oedema"]
    assert found["operating_points"][0]["sensitivity"]["n"] == ill
    numbers = run_of(data, tmp_path / "numbers", second="risk", epochs=1, folds=2)  # "1" must not become 1.0
    figures = json.loads(foveal.evaluate(numbers, split="val").read_text())["second"]["risk"]
    assert figures["accuracy"]["n"] == len(open_prepared(data).part("train", "val"))
    with refuses("option.value", "--second age", "oedema, site, risk"):
        run_of(data, tmp_path / "other", second="age")
    with refuses("option.value", "--second site", 1):
        run_of(data, tmp_path / "other", second="site")


@pytest.mark.slow
def test_images_grow_where_the_network_takes_any_size(phantom_set, tmp_path, refuses):
    run = run_of(phantom_set, tmp_path / "run", encoder="test_resnet", grow_from=16, epochs=3)
    assert read_metrics(run)[-1]["epoch"] == 3
    with refuses("option.conflict", "--grow-from 16", "strided_conv"):
        run_of(phantom_set, tmp_path / "other", grow_from=16)
    with refuses("option.conflict", "--grow-from 64", "--image-size 32"):
        run_of(phantom_set, tmp_path / "other", encoder="test_resnet", grow_from=64)


def test_validation_images_are_parted_by_group_also_where_there_are_few():
    three = parts_of_groups(np.array(["a", "b", "b", "c"], dtype=object), 0)
    assert len(set(three)) == 3 and three[1] == three[2]
    assert len(set(parts_of_groups(np.array([f"g{n}" for n in range(40)], dtype=object), 0))) == 5
    assert set(parts_of_groups(np.array(["a", "a"], dtype=object), 0)) == {0}
