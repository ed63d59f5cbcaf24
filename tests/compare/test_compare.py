import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

import foveal
from foveal import checkpoint
from foveal.readout.predictions import read_predictions
from foveal.runs import sole_writer
from foveal.sets.records import open_prepared

pytestmark = pytest.mark.slow

OPTIONS = {
    "encoder": "strided_conv",
    "labels": ("25%", "100%"),
    "seeds": 2,
    "epochs": 1,
    "batch_size": 16,
    "resamples": 200,
}


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
        files = [
            file
            for file in sorted((out / "cells").glob("probe-25pc-*.csv"))
            if ("random" in file.name) == (row.init == "random")
        ]
        tables = [read_predictions(file) for file in files]
        assert len(tables) == row.seeds == 2
        means.append(np.mean([(one["label"] == one["grade"]).mean() for one in tables]))
        assert row.value == pytest.approx(means[-1], abs=1e-12) and row.low <= row.value <= row.high
    other = rows.iloc[1]
    assert np.isnan(rows.iloc[0]["difference"]) and other["difference"] == pytest.approx(means[1] - means[0], abs=1e-12)
    assert other["difference_low"] <= other["difference"] <= other["difference_high"]


def test_the_same_command_only_runs_what_is_missing(compared, phantom_set, encoder, monkeypatch):
    out, table = compared
    (out / "cells" / "probe-25pc-random-0.csv").unlink()
    ran = []
    from foveal.compare import compare as module

    real = module.run_cell
    monkeypatch.setattr(module, "run_cell", lambda *given: (ran.append(given[1]), real(*given)))
    with sole_writer(out, "compare"), pytest.raises(ValueError, match="another foveal compare is writing to"):
        foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **OPTIONS)
    again = foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **OPTIONS)
    assert len(ran) == 1 and again["value"].tolist() == table["value"].tolist()
    with pytest.raises(ValueError, match="already holds another run .epochs"):
        foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **(OPTIONS | {"epochs": 2}))


def test_more_seeds_can_be_asked_for_later(compared, phantom_set, encoder, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared[0], out)
    options = OPTIONS | {"seeds": 3, "how": ("probe",), "labels": ("25%",)}
    table = foveal.compare(phantom_set, out=out, init=("random", str(encoder)), **options)
    assert set(table["seeds"]) == {3} and set(table["learned"]) == {6}


def test_other_labels_or_weights_than_before_are_noticed(compared, phantom_set, encoder, tmp_path):
    out, data, init = tmp_path / "out", tmp_path / "set", tmp_path / "encoder"
    shutil.copytree(phantom_set, data)
    shutil.copytree(encoder, init)
    options = OPTIONS | {"how": ("probe",), "labels": ("100%",)}
    foveal.compare(data, out=out, init=(str(init),), **options)
    weights = checkpoint.load_weights(init / "encoder.safetensors")
    save_file({key: value * 2 for key, value in weights.items()}, init / "encoder.safetensors")
    with pytest.raises(ValueError, match="encoder has changed since"):
        foveal.compare(data, out=out, init=(str(init),), **options)
    shutil.copyfile(encoder / "encoder.safetensors", init / "encoder.safetensors")
    image = open_prepared(data).part("test").iloc[0]
    foveal.correct(data, image["id"], new=str((int(image["label"]) + 1) % 5), why="test")
    with pytest.raises(ValueError, match="set has changed since"):
        foveal.compare(data, out=out, init=(str(init),), **options)


def test_weights_that_know_the_grades_are_refused_for_a_part_of_the_labels(phantom_set, grader_run, tmp_path):
    with pytest.raises(ValueError, match="has learned from grades already"):
        foveal.compare(phantom_set, out=tmp_path / "out", init=("random", str(grader_run)), labels=("10%",))
    file = str(grader_run / "encoder.safetensors")
    with pytest.raises(ValueError, match="(has|have) learned from"):
        foveal.compare(phantom_set, out=tmp_path / "out", init=("random", file), labels=("10%",), encoder="small_conv")
    assert not (tmp_path / "out").exists()


def test_so_are_weights_of_a_pre_training_that_used_labels(phantom_set, tmp_path):
    taught = foveal.pretrain(
        phantom_set, out=tmp_path / "taught", method="supcon", encoder="strided_conv", epochs=1, batch_size=16
    )
    with pytest.raises(ValueError, match="taught has learned from grades already"):
        foveal.compare(phantom_set, out=tmp_path / "out", init=("random", str(taught)), labels=("10%", "100%"))
    assert not (tmp_path / "out").exists()


def test_folds_judge_every_graded_image_once(phantom_set, tmp_path):
    table = foveal.compare(
        phantom_set, out=tmp_path / "out", init=("random",), **(OPTIONS | {"folds": 2, "how": ("probe",)})
    )
    graded = open_prepared(phantom_set).part("train", "val", "test")
    assert set(table["images"]) == {len(graded)} and set(table["seeds"]) == {1}


def test_what_was_chosen_for_each_combination_is_said(phantom_set, tmp_path, capsys):
    foveal.compare(phantom_set, out=tmp_path / "out", init=("random",), **(OPTIONS | {"labels": ("6",), "seeds": 1}))
    said = " ".join(capsys.readouterr().out.split())
    assert "(penalty " in said and "epochs at 0.001, batches of 6)" in said


def test_an_encoder_that_saw_judged_images_is_refused(phantom_set, encoder, tmp_path):
    with pytest.raises(ValueError, match="judged images of .* has learned from too"):
        foveal.compare(phantom_set, out=tmp_path / "out", init=("random", str(encoder)), folds=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_devices_side_by_side_give_the_same_predictions(compared, phantom_set, encoder, tmp_path):
    options = OPTIONS | {"devices": ("cpu", "cpu")}
    foveal.compare(phantom_set, out=tmp_path / "two", init=("random", str(encoder)), **options)
    columns = [f"p{k}" for k in range(5)]
    files = sorted((compared[0] / "cells").glob("*.csv"))
    assert len(files) == 16
    for file in files:  # sums are added in another order by another number of threads
        ours, theirs = (read_predictions(folder / "cells" / file.name) for folder in (compared[0], tmp_path / "two"))
        assert ours["id"].tolist() == theirs["id"].tolist()
        assert ours[columns].to_numpy() == pytest.approx(theirs[columns].to_numpy(), abs=0.01)
