"""Sources of joined sets: they are kept, also from earlier versions, and can be held out."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import foveal
from foveal.sets.held_out import hold_out, open_together, sources_of
from foveal.sets.records import ADDED, open_prepared
from foveal.sets.splits import HELD_OUT

NAMES = ["north", "east", "south"]


@pytest.fixture(scope="module")
def three(three_sources):
    return open_together(three_sources)


def old(data: Path, out: Path) -> Path:
    """A copy of a set as an earlier version wrote it, without the columns that came later."""
    shutil.copytree(data, out)
    records = pd.read_csv(out / "records.csv", dtype=str, keep_default_na=False).drop(columns=list(ADDED))
    records.to_csv(out / "records.csv", index=False)
    return out


def test_a_joined_set_keeps_the_source_of_each_image(three, three_sources):
    assert sources_of(three) == NAMES
    assert (three.records["source"] == three.records["id"].str.partition("/")[0]).all()
    counts = [len(open_prepared(path).records) for path in three_sources]
    assert three.records["source"].value_counts(sort=False).tolist() == counts


def test_sets_are_joined_once_and_a_set_alone_is_opened(three, three_sources, monkeypatch):
    assert three.path == three_sources[0].parent / "north+east+south"
    before = (three.path / "records.csv").stat().st_mtime_ns
    assert open_together(three_sources).card["content_hash"] == three.card["content_hash"]
    assert (three.path / "records.csv").stat().st_mtime_ns == before
    assert open_together(three_sources[:1]).path == three_sources[0]


def test_a_set_that_is_joined_again_keeps_its_sources(three, three_sources, tmp_path):
    fourth = foveal.prepare("phantom:10", out=tmp_path / "west", size=32, seed=7)
    four = open_together([three.path, fourth])
    assert sources_of(four) == [*NAMES, "west"]
    shutil.rmtree(four.path)


def test_sets_of_earlier_versions_have_the_source_of_their_ids_or_their_own_name(three, three_sources, tmp_path):
    assert sources_of(open_prepared(old(three.path, tmp_path / "all"))) == NAMES
    alone = open_prepared(old(three_sources[0], tmp_path / "clinic"))
    assert sources_of(alone) == ["clinic"] and (alone.records["camera"] == "").all()
    assert sources_of(open_prepared(three_sources[0])) == ["north"]


def test_a_joined_set_of_an_earlier_version_is_not_made_again(three, three_sources, tmp_path):
    sets = [shutil.copytree(path, tmp_path / path.name) for path in three_sources]
    both = open_together(sets).path
    again = old(both, tmp_path / "old")
    shutil.rmtree(both)
    again.rename(both)
    assert ADDED[0] not in pd.read_csv(both / "records.csv")
    before = (both / "records.csv").read_bytes()
    assert sources_of(open_together(sets)) == NAMES and (both / "records.csv").read_bytes() == before


def test_the_camera_is_that_of_the_table(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 10)
    files, flat = sorted((tmp_path / "photos").rglob("*.png")), tmp_path / "flat"
    flat.mkdir()
    for file in files:
        shutil.copy(file, flat)
    rows = [{"image": file.stem, "grade": file.parent.name, "Camera": "Kowa" if n % 2 else ""}
            for n, file in enumerate(files)]  # fmt: skip
    pd.DataFrame(rows).to_csv(flat / "labels.csv", index=False)
    data = foveal.prepare(flat / "labels.csv", out=tmp_path / "set", size=16, crop="none", fundus="no")
    cameras = open_prepared(data).records.set_index("id")["camera"]
    assert {row["image"]: row["Camera"] for row in rows} == cameras.to_dict()
    assert "Camera" in open_prepared(data).columns
    others = foveal.prepare("phantom:10", out=tmp_path / "other", size=16)
    both = open_prepared(foveal.prepare(data, others, out=tmp_path / "both")).records
    there = both.loc[both["source"] == "set"].set_index("id")["camera"].rename(lambda name: name.removeprefix("set/"))
    assert there.to_dict() == cameras.to_dict() and set(both.loc[both["source"] == "other", "camera"]) == {""}


def test_what_is_held_out_is_in_no_part_that_is_left(three):
    home, abroad = hold_out(three, ["south"])
    assert sources_of(home) == ["north", "east"] and set(abroad["source"]) == {"south"}
    assert set(abroad["split"]) == {HELD_OUT} and abroad["label"].notna().all()
    labelled = three.part("train", "val", "test")
    assert len(abroad) == (labelled["source"] == "south").sum()
    assert len(home.records) == (three.records["source"] != "south").sum()
    assert home.card["counts"]["train"]["images"] == len(home.part("train"))
    first = home.records.iloc[[3]]
    assert (home.pixels(first) == three.pixels(first)).all() and home.measures["id"].equals(home.records["id"])


def test_an_unknown_source_is_refused_before_sets_are_joined(three_sources, refuses):
    both = three_sources[0].with_name("north+south")
    with refuses("source.unknown", "east", "north, south"):
        open_together([three_sources[0], three_sources[2]], ["east"])
    assert not both.exists()


def test_what_cannot_be_held_out_is_refused(three, three_sources, refuses):
    with refuses("source.single", "north"):
        hold_out(open_prepared(three_sources[0]), ["north"])
    with refuses("source.unknown", "nowhere", "north, east, south"):
        hold_out(three, ["nowhere"])
    with refuses("source.none_left", "3"):
        hold_out(three, NAMES)
    pool = three.records.assign(split=three.records["split"].where(three.records["source"] != "east", "unlabelled"))
    pool["label"] = pool["label"].where(pool["source"] != "east")
    with refuses("source.no_labels", "east", "north, south"):
        hold_out(replace(three, records=pool), ["east"])
