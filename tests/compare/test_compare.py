import json
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

import foveal
from foveal.readout.predictions import read_predictions
from foveal.runs import sole_writer
from foveal.sets.records import open_prepared

pytestmark = pytest.mark.slow

OPTIONS = {"encoder": "strided_conv", "labels": ("25%", "100%"), "seeds": 2, "epochs": 1}


@pytest.fixture(scope="module")
def encoder(phantom_set, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "encoder"
    return foveal.pretrain(phantom_set, out=out, encoder="strided_conv", epochs=1, batch_size=16, views="simclr")


@pytest.fixture(scope="module")
def compared(phantom_set, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    return out, foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **OPTIONS)


def test_every_combination_has_its_row_and_its_predictions(compared, phantom_set):
    out, table = compared
    assert len(table) == 2 * 2 * 2 * 4  # ways x fractions x starting weights x figures
    assert len(list((out / "cells").glob("*.csv"))) == 2 * 2 * 2 * 2
    test = set(open_prepared(phantom_set).part("test")["id"])
    assert all(set(read_predictions(file)["id"]) == test for file in (out / "cells").glob("*.csv"))
    assert (out / "compare.png").stat().st_size > 10_000
    assert pd.read_csv(out / "compare.csv")["value"].tolist() == pytest.approx(table["value"].tolist())


def test_values_and_differences_are_those_of_the_predictions(compared):
    out, table = compared
    rows = table[(table["how"] == "probe") & (table["labels"] == "25%") & (table["metric"] == "accuracy")]
    means = []
    for row in rows.itertuples():
        files = sorted((out / "cells").glob("probe-25pc-*.csv"))
        files = [file for file in files if ("random" in file.name) == (row.init == "random")]
        tables = [read_predictions(file) for file in files]
        assert len(tables) == row.seeds == 2
        means.append(np.mean([(one["label"] == one["grade"]).mean() for one in tables]))
        assert row.value == pytest.approx(means[-1], abs=1e-12) and row.low <= row.value <= row.high
    other = rows.iloc[1]
    assert np.isnan(rows.iloc[0]["difference"]) and other["difference"] == pytest.approx(means[1] - means[0], abs=1e-12)
    assert other["difference_low"] <= other["difference"] <= other["difference_high"]


def test_the_same_command_only_runs_what_is_missing(compared, phantom_set, encoder, monkeypatch, refuses):
    out, table = compared
    (out / "cells" / "probe-25pc-random-0.csv").unlink()
    ran = []
    from foveal.compare import compare as module

    real = module.run_cell
    monkeypatch.setattr(module, "run_cell", lambda *given: (ran.append(given[1]), real(*given)))
    with sole_writer(out, "compare"), refuses("output.busy", out):
        foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **OPTIONS)
    again = foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **OPTIONS)
    assert len(ran) == 1 and again["value"].tolist() == table["value"].tolist()
    with refuses("run.other_options", out, "epochs"):
        foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **(OPTIONS | {"epochs": 2}))


def test_more_seeds_can_be_asked_for_later(compared, phantom_set, encoder, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared[0], out)
    options = OPTIONS | {"seeds": 3, "how": ("probe",), "labels": ("25%",)}
    table = foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **options)
    assert set(table["seeds"]) == {3} and set(table["learned"]) == {6}


def test_other_labels_or_weights_than_before_are_noticed(phantom_set, encoder, tmp_path, refuses):
    out, data, init = tmp_path / "out", tmp_path / "set", tmp_path / "encoder"
    shutil.copytree(phantom_set, data)
    shutil.copytree(encoder, init)
    options = OPTIONS | {"how": ("probe",), "labels": ("100%",)}
    foveal.compare(data, out=out, init=(str(init),), **options)
    weights = load_file(init / "encoder.safetensors")
    save_file({key: value * 2 for key, value in weights.items()}, init / "encoder.safetensors")
    with refuses("run.data_changed", init):
        foveal.compare(data, out=out, init=(str(init),), **options)
    shutil.copyfile(encoder / "encoder.safetensors", init / "encoder.safetensors")
    image = open_prepared(data).part("test").iloc[0]
    foveal.correct(data, image["id"], new=str((int(image["label"]) + 1) % 5), why="test")
    with refuses("run.data_changed", data):
        foveal.compare(data, out=out, init=(str(init),), **options)


def test_weights_that_know_the_grades_are_refused_for_a_part_of_the_labels(phantom_set, grader_run, tmp_path, refuses):
    with refuses("leak.grades", grader_run):
        foveal.compare(phantom_set, out=tmp_path / "out", init=("random", str(grader_run)), labels=("10%",))
    file = str(grader_run / "encoder.safetensors")
    with refuses("leak.grades", file):
        foveal.compare(phantom_set, out=tmp_path / "out", init=("random", file), labels=("10%",), encoder="small_conv")
    assert not (tmp_path / "out").exists()


def test_so_are_weights_of_a_pre_training_that_used_labels(phantom_set, tmp_path, refuses):
    taught = foveal.pretrain(
        phantom_set, out=tmp_path / "taught", method="supcon", encoder="strided_conv", epochs=1, batch_size=16
    )
    with refuses("leak.grades", taught):
        foveal.compare(phantom_set, out=tmp_path / "out", init=("random", str(taught)), labels=("10%", "100%"))
    assert not (tmp_path / "out").exists()


def test_folds_judge_every_graded_image_once(phantom_set, tmp_path):
    table = foveal.compare(
        phantom_set, out=tmp_path / "out", init=("random",), **(OPTIONS | {"folds": 2, "how": ("probe",)})
    )
    graded = open_prepared(phantom_set).part("train", "val", "test")
    assert set(table["images"]) == {len(graded)} and set(table["seeds"]) == {1}


def test_all_starting_weights_see_the_size_of_the_run_and_no_run_may_change_it(phantom_set, tmp_path, refuses):
    small = foveal.pretrain(
        phantom_set, out=tmp_path / "small", encoder="test_resnet", epochs=1, batch_size=16, image_size=16
    )
    out, options = tmp_path / "out", {"how": ("probe",), "labels": ("100%",), "seeds": 1}
    foveal.compare(phantom_set, out=out, init=("random", str(small)), encoder="test_resnet", **options)
    assert json.loads((out / "provenance.json").read_text())["image_size"] == 16
    with refuses("run.other_size", out, 16, 32):
        foveal.compare(phantom_set, out=out, init=("random",), encoder="test_resnet", **options)


def test_an_encoder_that_saw_judged_images_is_refused(phantom_set, encoder, tmp_path, refuses):
    with refuses("leak.seen", encoder):
        foveal.compare(phantom_set, out=tmp_path / "out", init=("random", str(encoder)), folds=2)
    assert not (tmp_path / "out").exists()
