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
    write_phantoms(tmp_path / "photos", 10)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    before = open_prepared(out).records.set_index("id")
    shard = (out / "images" / "00000.npy").stat()
    write_phantoms(tmp_path / "photos", 15)
    capsys.readouterr()
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    assert "10 of 15 images" in capsys.readouterr().out
    after = open_prepared(out).records.set_index("id")
    assert len(after) == 15 and after.loc[before.index, ["split", "sha256"]].equals(before[["split", "sha256"]])
    assert set(after.drop(before.index)["shard"]) == {1}
    assert (out / "images" / "00000.npy").stat().st_mtime_ns == shard.st_mtime_ns


def test_a_set_from_before_ellipses_grows_by_circles(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 10)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32, fundus="yes")
    card = json.loads((out / "card.json").read_text())
    assert card["options"]["crop"] == "ellipse"
    (out / "card.json").write_text(json.dumps(card | {"options": card["options"] | {"crop": "disc"}}))
    write_phantoms(tmp_path / "photos", 12)
    foveal.prepare(tmp_path / "photos", out=out, size=32, fundus="yes")
    grown = open_prepared(out)
    assert len(grown.records) == 12 and grown.card["options"]["crop"] == "disc"


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
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, scale="none")
    (tmp_path / "photos" / "7").mkdir()
    shutil.copyfile(tmp_path / "photos" / "0" / "000.png", tmp_path / "photos" / "7" / "new.png")
    with refuses("source.changed", tmp_path / "photos"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, scale="none")
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
        out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", **NOISE)
    assert "foveal[dicom]" in (out / "rejected.csv").read_text()
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", **NOISE)
    assert "0/scan.dcm" in (out / "rejected.csv").read_text() and "pydicom" not in (out / "rejected.csv").read_text()


def write_table(root, rows):
    """Pictures of noise with a table; rows: id -> (grade, patient, number of the picture)."""
    root.mkdir(exist_ok=True)
    for name, (_, _, number) in rows.items():
        noise = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f"{name}.png"), noise)
    lines = [f"{name},{grade},{patient}\n" for name, (grade, patient, _) in rows.items()]
    (root / "labels.csv").write_text("image,grade,patient\n" + "".join(lines))


NOISE = {"size": 32, "fundus": "no"}


@pytest.fixture
def clinic(tmp_path):
    """A source of twenty patients, its rows, and the set made from it."""
    rows = {f"i{n:02d}": (n % 2, f"p{n}", n) for n in range(20)}
    write_table(tmp_path / "clinic", rows)
    return tmp_path / "clinic", rows, foveal.prepare(tmp_path / "clinic", out=tmp_path / "set", **NOISE)


def sides_of(out):
    return open_prepared(out).records.set_index("id")["split"]


def test_a_late_copy_moves_no_judged_image_without_being_asked(clinic, refuses):
    source, rows, out = clinic
    before, records = sides_of(out), (out / "records.csv").read_bytes()
    judged, taught = (before.index[before == split][0] for split in ("test", "train"))
    write_table(source, rows | {"late": (rows[judged][0], rows[taught][1], rows[judged][2])})
    with refuses("split.moves", judged, "test", taught, "late", "--accept-moves"):
        foveal.prepare(source, out=out, **NOISE)
    assert (out / "records.csv").read_bytes() == records and not (out / "changes.csv").exists()
    foveal.prepare(source, out=out, accept_moves=True, **NOISE)
    after = sides_of(out)
    assert after[judged] == after["late"] == "train" and after.drop([judged, "late"]).equals(before.drop(judged))
    changes = pd.read_csv(out / "changes.csv")
    assert changes[["id", "before", "after"]].to_numpy().tolist() == [[judged, "test", "train"]]
    assert foveal.prepare(source, out=out, **NOISE) == out and sides_of(out).equals(after)


def test_a_late_copy_that_ties_nothing_to_training_goes_where_the_picture_is(clinic):
    source, rows, out = clinic
    judged = sides_of(out).eq("test").idxmax()
    write_table(source, rows | {"late": (rows[judged][0], "new", rows[judged][2])})
    foveal.prepare(source, out=out, **NOISE)
    assert sides_of(out)["late"] == "test" and not (out / "changes.csv").exists()


def test_a_judged_image_without_a_label_from_now_on_is_not_learned_from_silently(clinic, refuses):
    source, rows, out = clinic
    before = sides_of(out)
    judged, taught = (before.index[before == split][0] for split in ("test", "train"))
    write_table(source, rows | {taught: ("", *rows[taught][1:])})
    foveal.prepare(source, out=out, **NOISE)  # a training image that becomes unlabelled is listed, and needs no leave
    assert sides_of(out)[taught] == "unlabelled"
    write_table(source, rows | {taught: ("", *rows[taught][1:]), judged: ("", *rows[judged][1:])})
    with refuses("split.moves", judged, "unlabelled"):
        foveal.prepare(source, out=out, **NOISE)
    changes = pd.read_csv(out / "changes.csv")
    assert changes[["id", "before", "after"]].to_numpy().tolist() == [[taught, "train", "unlabelled"]]


def test_renamed_pictures_keep_their_side_and_their_corrections(clinic):
    source, rows, out = clinic
    before = sides_of(out)
    judged = before.eq("test").idxmax()
    foveal.correct(out, judged, new=str(1 - rows[judged][0]), why="seen again")
    for file in source.glob("*.png"):
        file.unlink()
    renamed = {name.replace("i", "again"): row for name, row in reversed(rows.items())}
    write_table(
        source, {name: (grade, "", number) for name, (grade, _, number) in renamed.items()} | {"new": (0, "", 99)}
    )
    foveal.prepare(source, out=out, **NOISE)
    grown = open_prepared(out).records.set_index("id")
    names = before.index.str.replace("i", "again")
    assert grown["split"].reindex(names).tolist() == before.tolist() and len(grown) == 21
    assert grown["label"][judged.replace("i", "again")] == 1 - rows[judged][0]
    changes = pd.read_csv(out / "changes.csv").set_index("was")
    assert changes.loc[before.index, "id"].tolist() == names.tolist() and set(changes["change"]) == {"renamed"}
    foveal.correct(out, judged, new=str(rows[judged][0]), why="under its earlier name")
    assert open_prepared(out).records.set_index("id")["label"][judged.replace("i", "again")] == rows[judged][0]


@pytest.mark.slow
def test_photographs_saved_again_keep_their_side(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 10, size=96)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=64, fundus="yes")
    before = sides_of(out)
    for file in sorted((tmp_path / "photos").rglob("*.png")):
        cv2.imwrite(str(file.with_name(f"x{file.stem}.jpg")), cv2.imread(str(file)), [cv2.IMWRITE_JPEG_QUALITY, 95])
        file.unlink()
    foveal.prepare(tmp_path / "photos", out=out, size=64, fundus="yes")
    after = sides_of(out)
    assert after[before.index.str.replace("/", "/x")].tolist() == before.tolist()
    changes = pd.read_csv(out / "changes.csv")
    assert set(changes["change"]) == {"saved again"} and changes["similarity"].min() > 0.9 and len(changes) == 10


@pytest.mark.parametrize("own", ["", "q7"])
def test_a_picture_under_another_name_stays_with_its_patient(tmp_path, own):
    rows = {f"p{patient}_{eye}": (patient % 2, f"p{patient}", 2 * patient + (eye == "R"))
            for patient in range(8) for eye in "LR"}  # fmt: skip
    write_table(tmp_path / "clinic", rows)
    out = foveal.prepare(tmp_path / "clinic", out=tmp_path / "set", **NOISE)
    before = open_prepared(out).records.set_index("id")
    (tmp_path / "clinic" / "p3_L.png").unlink()
    rows["scan"] = (rows["p3_L"][0], own, rows.pop("p3_L")[2])
    for new in ("late", "later"):  # the second time, nothing tells any more that it had another name
        write_table(tmp_path / "clinic", rows | {new: (0, "p9", 50 + len(new))})
        foveal.prepare(tmp_path / "clinic", out=out, **NOISE)
        after = open_prepared(out).records.set_index("id")
        assert after["group"]["scan"] == after["group"]["p3_R"] == ("p3+q7" if own else "p3")
        assert after["eye"]["scan"] == "left" and after["split"]["scan"] == before["split"]["p3_L"]
        assert after["group"].nunique() == before["group"].nunique() + 1


def test_two_pictures_that_swap_their_names_are_followed(clinic, refuses):
    source, rows, out = clinic
    before = sides_of(out)
    judged, taught = (before.index[before == split][0] for split in ("test", "train"))
    write_table(source, rows | {judged: rows[taught], taught: rows[judged]})
    foveal.prepare(source, out=out, **NOISE)
    assert sides_of(out)[[judged, taught]].tolist() == ["train", "test"]
    assert "relabelled" not in set(pd.read_csv(out / "changes.csv")["change"])


def test_a_set_whose_source_moved_is_extended_from_there(clinic, tmp_path):
    source, rows, out = clinic
    before, identity = sides_of(out), open_prepared(out).card["identity"]
    source = source.rename(tmp_path / "elsewhere")
    shards = sorted((out / "images").glob("*.csv"))
    foveal.prepare(source, out=out, **NOISE)
    assert open_prepared(out).card["source"] == [str(source)] and sorted((out / "images").glob("*.csv")) == shards
    write_table(source, rows | {"new": (0, "p99", 99)})
    foveal.prepare(source, out=out, **NOISE)
    assert sides_of(out).drop("new").equals(before) and open_prepared(out).card["identity"] == identity


def test_another_source_is_not_taken_for_one_that_moved(clinic, tmp_path, refuses):
    source, rows, out = clinic
    write_table(tmp_path / "other", {name: (grade, patient, n + 50) for name, (grade, patient, n) in rows.items()})
    for place in ("other", "nowhere"):
        code = {"other": "output.other_source", "nowhere": "source.missing"}[place]
        with refuses(code, out, tmp_path / place, source):
            foveal.prepare(tmp_path / place, out=out, **NOISE)
    elsewhere = source.rename(tmp_path / "elsewhere")
    codes = {"other": "output.other_source", "nowhere": "source.missing", "elsewhere": "output.other_options"}
    for place, code in codes.items():
        with refuses(code, tmp_path / place, source) as caught:
            foveal.prepare(tmp_path / place, out=out, **NOISE | {"seed": 3 if place == "elsewhere" else 0})
        assert "any more" in caught.value.what
    elsewhere.rename(source)
    assert len(list((out / "images").glob("*.csv"))) == 1 and open_prepared(out).card["source"] == [str(source)]


def test_what_is_gone_or_shows_another_picture_is_said(clinic, capsys):
    source, rows, out = clinic
    (source / "i03.png").unlink()
    write_table(source, {name: row for name, row in rows.items() if name != "i03"} | {"i05": (1, "p5", 77)})
    foveal.prepare(source, out=out, **NOISE)
    said = "".join(capsys.readouterr())
    assert "i03" in said and "i05" in said


def test_labels_that_changed_in_the_source_are_listed(clinic, capsys):
    source, rows, out = clinic
    judged = sides_of(out).eq("test").idxmax()
    write_table(source, rows | {judged: (1 - rows[judged][0], *rows[judged][1:])})
    foveal.prepare(source, out=out, **NOISE)
    changes = pd.read_csv(out / "changes.csv", dtype=str)
    assert changes[["id", "change"]].to_numpy().tolist() == [[judged, "relabelled"]]
    assert changes["before"].tolist() != changes["after"].tolist() and "warning" in capsys.readouterr().out
