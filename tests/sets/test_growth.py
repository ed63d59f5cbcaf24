"""Sets whose source changes: what grows, what stays, and what is refused."""

import hashlib
import json
import shutil
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.sets.records import open_prepared


def test_each_photograph_has_the_digest_of_its_file_and_a_set_from_before_can_grow(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 6)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    records = open_prepared(out).records
    for row in records.itertuples():
        assert row.file_sha256 == hashlib.sha256((tmp_path / "photos" / row.file).read_bytes()).hexdigest()
    for table in (out / "images" / "00000.csv", out / "records.csv"):  # as an earlier version wrote them
        pd.read_csv(table, dtype=str, keep_default_na=False).drop(columns="file_sha256").to_csv(table, index=False)
    write_phantoms(tmp_path / "photos", 8)
    foveal.prepare(tmp_path / "photos", out=out, size=32)
    known = open_prepared(out).records.set_index("id")["file_sha256"] != ""
    assert not known[records["id"]].any() and known.drop(records["id"]).all() and len(known) == 8


def test_new_pictures_get_new_shards_and_nothing_old_changes(write_phantoms, tmp_path, capsys):
    write_phantoms(tmp_path / "photos", 30)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    before = open_prepared(out).records.set_index("id")
    shard = (out / "images" / "00000.npy").stat()
    write_phantoms(tmp_path / "photos", 40)
    capsys.readouterr()
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    assert "30 of 40 images" in capsys.readouterr().out
    after = open_prepared(out).records.set_index("id")
    assert len(after) == 40 and after.loc[before.index, ["split", "sha256"]].equals(before[["split", "sha256"]])
    assert set(after.drop(before.index)["shard"]) == {1}
    assert (out / "images" / "00000.npy").stat().st_mtime_ns == shard.st_mtime_ns


def test_a_set_from_before_ellipses_grows_by_circles(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32, fundus="yes")
    card = json.loads((out / "card.json").read_text())
    assert card["options"]["crop"] == "ellipse"
    (out / "card.json").write_text(json.dumps(card | {"options": card["options"] | {"crop": "disc"}}))
    write_phantoms(tmp_path / "photos", 30)
    foveal.prepare(tmp_path / "photos", out=out, size=32, fundus="yes")
    grown = open_prepared(out)
    assert len(grown.records) == 30 and grown.card["options"]["crop"] == "disc"


def test_a_picture_that_changed_is_read_again_and_one_that_went_is_left_out(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    before = open_prepared(out).records.set_index("id")
    changed, gone = tmp_path / "photos" / "0" / "000.png", tmp_path / "photos" / "1" / "001.png"
    cv2.imwrite(str(changed), np.full((64, 64, 3), 99, np.uint8))
    gone.unlink()
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    after = open_prepared(out).records.set_index("id")
    assert set(before.index) - set(after.index) == {"1/001"}
    differ = before.loc[after.index, "sha256"] != after["sha256"]
    assert differ[differ].index.tolist() == ["0/000"]
    assert (open_prepared(out).pixels(open_prepared(out).records)[after.index.get_loc("0/000")] == 99).all()


def test_a_set_made_with_a_choice_among_all_does_not_grow(refuses, write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, labelled=8)
    write_phantoms(tmp_path / "photos", 25)
    with refuses("source.changed", tmp_path / "photos", tmp_path / "set", "--labelled"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, labelled=8)


def test_a_set_does_not_grow_by_other_classes_or_arrays(refuses, write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    (tmp_path / "photos" / "5").mkdir()
    shutil.copyfile(tmp_path / "photos" / "0" / "000.png", tmp_path / "photos" / "5" / "new.png")
    with refuses("source.changed", tmp_path / "photos"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    write_digits(tmp_path / "digits.npz", seed=0)
    foveal.prepare(tmp_path / "digits.npz", out=tmp_path / "digits")
    write_digits(tmp_path / "digits.npz", seed=1)
    with refuses("source.changed", tmp_path / "digits"):
        foveal.prepare(tmp_path / "digits.npz", out=tmp_path / "digits")


def write_digits(file, seed):
    """Arrays in the layout of MedMNIST."""
    random, arrays = np.random.default_rng(seed), {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = random.integers(0, 255, (9, 16, 16), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(9)[:, None] % 3
    np.savez(file, **arrays)


def test_a_set_whose_pictures_can_no_longer_be_read_stays(refuses, write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 5)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    before = (out / "records.csv").read_bytes()
    for file in (tmp_path / "photos").rglob("*.png"):
        file.write_text("Dear colleague")
    with refuses("source.unreadable", tmp_path / "photos"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    assert (out / "records.csv").read_bytes() == before and len(open_prepared(out).records) == 5


@pytest.mark.slow
def test_interrupted_work_of_other_options_is_not_mixed_in(refuses, write_phantoms, tmp_path, monkeypatch):
    write_phantoms(tmp_path / "photos", 10)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("foveal.sets.prepare.assemble", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    with refuses("output.other_options", ".set.partial"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    whole = foveal.prepare(tmp_path / "photos", out=tmp_path / "other", size=16)
    resumed = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    assert tree_of(resumed) == tree_of(whole)


def tree_of(folder):
    """Relative path -> bytes of all files of a prepared set."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_joined_set_grows_with_its_parts(write_phantoms, tmp_path):
    for name in ("one", "two"):
        write_phantoms(tmp_path / name, 10 if name == "one" else 25, size=80 if name == "one" else 64)
        foveal.prepare(tmp_path / name, out=tmp_path / f"set-{name}", size=32)
    sets = [tmp_path / "set-one", tmp_path / "set-two"]
    out = foveal.prepare(*sets, out=tmp_path / "both")
    before = open_prepared(out).records.set_index("id")
    write_phantoms(tmp_path / "one", 15, size=80)
    foveal.prepare(tmp_path / "one", out=sets[0], size=32)
    after = open_prepared(foveal.prepare(*sets, out=out))
    assert not len(pd.read_csv(out / "rejected.csv")) and len(after.records) == 40 and len(before) == 35
    by_id = after.records.set_index("id")
    assert by_id.loc[before.index, ["split", "sha256", "shard"]].equals(before[["split", "sha256", "shard"]])
    ours = open_prepared(sets[0])
    theirs = by_id.loc["set-one/" + ours.records["id"]].reset_index()
    assert np.array_equal(after.pixels(theirs), ours.pixels(ours.records))


def test_a_picture_of_the_same_size_in_bytes_is_seen_to_have_changed(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 10)
    file = tmp_path / "photos" / "0" / "000.bmp"
    cv2.imwrite(str(file), np.full((64, 64, 3), 10, np.uint8))
    before = file.stat().st_size
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    cv2.imwrite(str(file), np.full((64, 64, 3), 200, np.uint8))
    assert file.stat().st_size == before
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    changed = open_prepared(out)
    row = changed.records[changed.records["file"] == "0/000.bmp"]
    assert changed.pixels(row).mean() == 200


def test_what_could_not_be_read_for_want_of_a_package_is_tried_again(write_phantoms, tmp_path, monkeypatch):
    write_phantoms(tmp_path / "photos", 10)
    (tmp_path / "photos" / "0" / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pydicom", None)
        out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    assert "foveal[dicom]" in (out / "rejected.csv").read_text()
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    assert "0/scan.dcm" in (out / "rejected.csv").read_text() and "pydicom" not in (out / "rejected.csv").read_text()
