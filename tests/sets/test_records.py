"""Prepared sets: what the files hold, and which sets cannot be opened."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.sets.records import COLUMNS, open_prepared, read_records, validate
from foveal.sets.shards import Shards, gather


def test_the_hand_over_is_as_documented(phantom_set):
    records = pd.read_csv(phantom_set / "records.csv")
    assert tuple(records.columns) == COLUMNS
    prepared = open_prepared(str(phantom_set))
    images = np.load(phantom_set / "images" / "00000.npy", mmap_mode="r")
    assert images.shape == (60, 32, 32, 3) and images.dtype == np.uint8
    card = json.loads((phantom_set / "card.json").read_text())
    assert card["scale"] == "icdr" and card["options"] == {"size": 32, "crop": "none", "channels": 3}
    assert sum(part["images"] for part in card["counts"].values()) == 60
    assert (phantom_set / "rejected.csv").read_text() == "file,reason\n"
    assert np.array_equal(prepared.pixels(prepared.records.iloc[[5]])[0], images[5])


def test_patients_stay_on_one_side_and_hidden_labels_are_gone(phantom_set):
    records = open_prepared(phantom_set).records
    assert (records[records["split"] != "unlabelled"].groupby("group")["split"].nunique() == 1).all()
    assert records.loc[records["split"] == "unlabelled", "label"].isna().all()
    assert 20 <= (records["split"] == "train").sum() <= 28


def test_open_prepared_refuses_other_folders_and_old_sets(refuses, tmp_path, phantom_set):
    with refuses("set.incomplete", tmp_path, "records.csv"):
        open_prepared(tmp_path)
    with refuses("set.incomplete", tmp_path / "absent") as caught:
        open_prepared(tmp_path / "absent")
    assert "records.csv" not in str(caught.value)  # which is not what is missing
    shutil.copytree(phantom_set, tmp_path / "set")
    card = json.loads((tmp_path / "set" / "card.json").read_text())
    (tmp_path / "set" / "card.json").write_text(json.dumps({key: card[key] for key in card if key != "identity"}))
    with refuses("set.outdated", tmp_path / "set"):
        open_prepared(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"id": "same"}, "set.repeated_id", "same"),
        ({"split": "holdout"}, "split.unknown", "holdout"),
        ({"label": 9}, "label.value", 9),
        ({"label": pd.NA}, "label.missing", "unlabelled"),
        ({"group": "everybody"}, "split.group", "everybody"),
    ],
)
def test_records_that_contradict_themselves_are_refused(refuses, phantom_set, change, code, named):
    records = read_records(phantom_set / "records.csv").copy()
    labelled = records["split"] != "unlabelled"
    for column, value in change.items():
        records.loc[labelled, column] = value
    with refuses(code, "here", named):
        validate(records, list("01234"), "here")


def test_a_missing_column_is_named(refuses, tmp_path, phantom_set):
    pd.read_csv(phantom_set / "records.csv").drop(columns="group").to_csv(tmp_path / "records.csv", index=False)
    with refuses("table.missing_column", tmp_path / "records.csv", "group"):
        read_records(tmp_path / "records.csv")


def test_shards_that_were_cut_short_are_refused(refuses, tmp_path, phantom_set):
    shutil.copytree(phantom_set, tmp_path / "set")
    np.save(tmp_path / "set" / "images" / "00000.npy", np.zeros((59, 32, 32, 3), np.uint8))
    with refuses("set.damaged", "00000.npy"):
        open_prepared(tmp_path / "set")


@pytest.mark.slow
def test_copies_on_two_sides_are_refused_wherever_the_set_is_opened(refuses, write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 20, size=128)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=64)
    records = open_prepared(out).records
    pair = [records.loc[records["split"] == split, "id"].iloc[0] for split in ("train", "test")]
    with (out / "duplicates.csv").open("a") as stream:
        stream.write(f"{pair[0]},{pair[1]},near,0.9,0,0,0\n")
    with refuses("split.copies", out, *pair):
        open_prepared(out)


def test_few_files_are_open_however_many_shards_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr("foveal.sets.shards.OPEN_AT_ONCE", 4)
    for number in range(12):
        np.save(tmp_path / f"{number:05d}.npy", np.full((2, 4, 4, 3), number, np.uint8))
    shards = Shards(tmp_path)
    images = gather(shards, np.arange(12).repeat(2), np.tile([0, 1], 12))
    assert images[:, 0, 0, 0].tolist() == np.arange(12).repeat(2).tolist() and shards._open.cache_info().currsize == 4
    assert [shards.rows(number) for number in (0, 11, 12)] == [2, 2, 0]


def test_an_unknown_part_is_refused(phantom_set, refuses):
    prepared = open_prepared(phantom_set)
    with refuses("split.unknown", "validation"):
        prepared.part("train", "validation")
    assert len(prepared.part("train", "val")) and not len(prepared.part())
