"""Training with a source held out: it shapes nothing, and is judged as a part of its own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import foveal
from foveal.evaluate.judged import choose_rows
from foveal.readout.predictions import read_predictions
from foveal.runs import check_out, read_model
from foveal.sets.held_out import hold_out, open_together
from foveal.sets.splits import HELD_OUT
from foveal.train.learned import Learned, learned_from
from foveal.train.options import TrainConfig
from foveal.train.train import check_abroad

OPTIONS = {"encoder": "test_resnet", "epochs": 1, "batch_size": 16}
CONFIG = TrainConfig(data=(Path("d"),), out=Path("o"), hold_out=("south",))


@pytest.fixture(scope="module")
def three(three_sources):
    return open_together(three_sources)


@pytest.fixture(scope="module")
def run(three_sources, tmp_path_factory):
    return foveal.train(*three_sources, out=tmp_path_factory.mktemp("held") / "run", hold_out=("south",), **OPTIONS)


def nothing_seen():
    return pd.DataFrame(columns=["sha256", "id", "set", "path", "patient", "fingerprint", "taught"], dtype=str)


def test_the_options_of_earlier_runs_name_one_set_as_text(tmp_path):
    (tmp_path / "config.toml").write_text('verb = "train"\ndata = "d"\nout = "o"\n')
    assert check_out(tmp_path, "train", TrainConfig(data=(Path("d"),), out=Path("o")))


def test_a_shared_patient_is_a_leak_and_so_is_a_seen_copy(three, refuses):
    home, abroad = hold_out(three, ["south"])
    learned = learned_from(home, home.part("train"))
    check_abroad(CONFIG, three, abroad, learned, nothing_seen())
    theirs = learned.parts[0][1]["group"].iloc[0]
    shared = abroad.assign(group=[theirs, *abroad["group"].iloc[1:]])
    with refuses("leak.seen", abroad["id"].iloc[0]):
        check_abroad(CONFIG, three, shared, learned, nothing_seen())
    validation = abroad.assign(group=[home.part("val")["group"].iloc[0], *abroad["group"].iloc[1:]])
    with refuses("leak.seen", abroad["id"].iloc[0]):
        check_abroad(CONFIG, three, validation, learned, nothing_seen())
    copied = abroad.assign(sha256=[learned.parts[0][1]["sha256"].iloc[0], *abroad["sha256"].iloc[1:]])
    with refuses("leak.seen", abroad["id"].iloc[0]):
        check_abroad(CONFIG, three, copied, learned, nothing_seen())


def test_pseudo_labels_of_a_source_held_out_are_a_leak(three, refuses):
    home, abroad = hold_out(three, ["south"])
    graded = learned_from(home, home.part("train"))
    pool = three.records[three.records["source"] == "south"].head(2)
    parts = [*graded.parts, (three, pool)]
    learned = Learned(parts=parts, labels=np.append(graded.labels, [0, 0]), targets=torch.cat([graded.targets] * 2))
    with refuses("leak.source", three.path):
        check_abroad(CONFIG, three, abroad, learned, nothing_seen())


@pytest.mark.slow
def test_a_source_held_out_shapes_nothing_and_is_graded_whole(run, three):
    abroad = three.part("train", "val", "test").query("source == 'south'")
    assert not pd.read_csv(run / "seen.csv")["id"].isin(three.records.query("source == 'south'")["id"]).any()
    table = read_predictions(run / "predictions.csv")
    assert set(table.loc[table["split"] == HELD_OUT, "id"]) == set(abroad["id"])
    assert set(table.loc[table["split"] != HELD_OUT, "source"]) == {"north", "east"}
    model, card = read_model(run), json.loads((run / "card.json").read_text())
    assert (model["sources"], model["held_out"]) == (["north", "east"], ["south"])
    assert card["counts"]["train"]["images"] == len(three.part("train").query("source != 'south'"))


@pytest.mark.slow
def test_it_is_the_grader_that_the_other_sources_give(run, three_sources, tmp_path):
    alone = foveal.train(*three_sources[:2], out=tmp_path / "run", **OPTIONS)
    ours, theirs = (read_predictions(one / "predictions.csv").set_index("id") for one in (run, alone))
    columns = ["p0", "p4", "grade"]
    assert np.allclose(ours.loc[theirs.index, columns].to_numpy(float), theirs[columns].to_numpy(float), atol=1e-5)


@pytest.mark.slow
def test_it_is_evaluated_and_reported_by_itself(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    result = json.loads(foveal.evaluate(copy).read_text())
    assert [(one["source"], one["held_out"]) for one in result["sources"]] == [
        ("north", False), ("east", False), ("south", True),
    ]  # fmt: skip
    table = read_predictions(copy / "predictions.csv")
    counts = [one["n"] for one in result["sources"]]
    assert result["about"]["images"] == len(choose_rows(table, "test")[0]) == counts[0] + counts[1]
    assert 'id="travel"' in foveal.report(copy).read_text()


@pytest.mark.slow
def test_predictions_of_a_joined_set_name_the_source(run, three, three_sources, tmp_path):
    out = foveal.predict(run, three.path, out=tmp_path / "predictions.csv", split="test")
    table = read_predictions(out).set_index("id")
    assert table["source"].to_dict() == three.part("test").set_index("id")["source"].to_dict()
    found = json.loads(foveal.evaluate(out, hold_out=("south",)).read_text())
    assert [one["held_out"] for one in found["sources"]] == [False, False, True]
    alone = pd.read_csv(foveal.predict(run, three_sources[0], out=tmp_path / "one.csv"))
    assert "source" not in alone


@pytest.mark.slow
def test_folds_hold_a_source_out_of_every_grader(three_sources, three, tmp_path):
    options = OPTIONS | {"hold_out": ("south",), "folds": 2}
    run = foveal.train(*three_sources, out=tmp_path / "run", **options)
    south = set(three.records.query("source == 'south'")["id"])
    for folder in (run, run / "fold1", run / "fold2"):
        assert not south & set(pd.read_csv(folder / "seen.csv")["id"])
    table = read_predictions(run / "predictions.csv")
    counts = table.groupby("split")["id"].count()
    home = three.part("train", "val")
    assert counts[HELD_OUT] == len(south) and counts["val"] == (home["source"] != "south").sum()


@pytest.mark.slow
def test_copies_across_sources_and_seen_images_are_refused(write_phantoms, three_sources, run, tmp_path, refuses):
    write_phantoms(tmp_path / "one", 25, size=128)
    write_phantoms(tmp_path / "two", 30, size=128)  # the first 25 are the same pictures
    sets = [foveal.prepare(tmp_path / name, out=tmp_path / f"set-{name}", size=64) for name in ("one", "two")]
    out = tmp_path / "run"
    with refuses("leak.seen", "set-two/"):
        foveal.train(*sets, out=out, hold_out=("set-two",), **OPTIONS | {"batch_size": 8})
    with refuses("leak.seen", "north/"):  # the starting weights have learned from it
        foveal.train(*three_sources, out=out, hold_out=("north",), init=str(run), **OPTIONS)
    with refuses("source.single", "north"):
        foveal.train(three_sources[0], out=out, hold_out=("north",), **OPTIONS)
    with refuses("source.unknown", "west"):
        foveal.train(*three_sources, out=out, hold_out=("west",), **OPTIONS)
    assert not out.exists()
