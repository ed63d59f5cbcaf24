"""prepare: what it makes of a source, and what it refuses."""

import errno
import hashlib
import os
import shutil
import zipfile
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.config import parse
from foveal.errors import FovealError
from foveal.fundus.quality import UNGRADABLE
from foveal.runs import sole_writer
from foveal.sets.options import PrepareConfig
from foveal.sets.prepare import prepare
from foveal.sets.records import open_prepared


def test_bad_files_are_listed_and_do_not_stop_the_work(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    (tmp_path / "photos" / "0" / "letter.jpg").write_text("Dear colleague")
    (tmp_path / "photos" / "1" / "empty.png").touch()
    whole = (tmp_path / "photos" / "2" / "002.png").read_bytes()
    (tmp_path / "photos" / "2" / "cut.png").write_bytes(whole[: len(whole) // 2])
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    rejected = pd.read_csv(out / "rejected.csv")
    assert sorted(rejected["file"]) == ["0/letter.jpg", "1/empty.png", "2/cut.png"]
    assert rejected["reason"].str.len().min() > 5
    assert len(open_prepared(out).records) == 20


def test_an_archive_is_read_like_the_folder_and_can_grow(write_phantoms, tmp_path, capsys):
    write_phantoms(tmp_path / "photos", 20)
    pack(tmp_path / "photos", tmp_path / "photos.zip")
    whole = foveal.prepare(tmp_path / "photos", out=tmp_path / "whole", size=32)
    out = foveal.prepare(tmp_path / "photos.zip", out=tmp_path / "set", size=32)
    printed = capsys.readouterr().out  # of the folder that it is unpacked to, nothing
    assert ".partial" not in printed and f"{tmp_path / 'photos.zip'} is read as" in printed
    expected, found = open_prepared(whole).records, open_prepared(out).records
    assert found.drop(columns="source").equals(expected.drop(columns="source"))
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
        digests = [hashlib.sha256(archive.read(file)).hexdigest() for file in found["file"]]
    assert digests == found["file_sha256"].tolist() and open_prepared(out).card["source"] == [
        str(tmp_path / "photos.zip")
    ]
    shards = {file: file.stat().st_mtime_ns for file in (out / "images").iterdir()}
    foveal.prepare(tmp_path / "photos.zip", out=out, size=32)
    assert {file: file.stat().st_mtime_ns for file in (out / "images").iterdir()} == shards
    shutil.copy(tmp_path / "photos" / "0" / "000.png", tmp_path / "photos" / "0" / "new.png")
    pack(tmp_path / "photos", tmp_path / "photos.zip")
    foveal.prepare(tmp_path / "photos.zip", out=out, size=32)
    assert len(open_prepared(out).records) == 21 and len(list((out / "images").glob("*.csv"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "photos.zip", "set", "whole"]


def pack(folder, archive):
    with zipfile.ZipFile(archive, "w") as opened:
        for file in sorted(folder.rglob("*.png")):
            opened.write(file, file.relative_to(folder).as_posix())


@pytest.mark.parametrize(
    ("members", "code"),
    [(["../x.png"], "source.unsafe"), (["/x.png"], "source.unsafe"), (["C:\\x.png"], "source.unsafe"),
     (["a\\..\\..\\x.png"], "source.unsafe"), (["x.png", "x.png"], "source.unsafe"), (["bomb.bmp"], "source.unsafe"),
     ([], "source.no_pictures"), (["notes.doc"], "source.no_pictures")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_could_do_harm_is_refused_and_nothing_is_left(members, code, tmp_path, refuses, monkeypatch):
    monkeypatch.setattr("foveal.sources.archive.SMALL", 1 << 20)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.writestr(member, b"\0" * (2 << 20) if "bomb" in member else b"x")
    with refuses(code, tmp_path / "photos.zip") as caught:
        foveal.prepare(tmp_path / "photos.zip", out=tmp_path / "new" / "set", size=32)
    assert ".partial" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["photos.zip"]


def test_a_damaged_member_is_listed_and_a_damaged_archive_refused(write_phantoms, tmp_path, refuses):
    write_phantoms(tmp_path / "photos", 10)
    pack(tmp_path / "photos", tmp_path / "photos.zip")
    data = bytearray((tmp_path / "photos.zip").read_bytes())
    data[500] ^= 255
    (tmp_path / "photos.zip").write_bytes(data)
    out = foveal.prepare(tmp_path / "photos.zip", out=tmp_path / "set", size=32)
    assert len(pd.read_csv(out / "rejected.csv")) == 1 and len(open_prepared(out).records) == 9
    (tmp_path / "photos.zip").write_bytes(data[:2000])
    with refuses("source.damaged", tmp_path / "photos.zip"):
        foveal.prepare(tmp_path / "photos.zip", out=tmp_path / "other", size=32)


def test_nothing_readable_is_an_error_and_leaves_nothing(refuses, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "letter.jpg").write_text("Dear colleague")
    with refuses("source.unreadable", tmp_path / "photos", "letter.jpg"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_existing_set_is_not_overwritten_but_recognised(refuses, tmp_path):
    out = foveal.prepare("phantom:10", out=tmp_path / "set", size=16)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    foveal.prepare("phantom:10", out=tmp_path / "set", size=16)
    with refuses("output.other_options", out, "size", 16, 24):
        foveal.prepare("phantom:10", out=tmp_path / "set", size=24)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before


def test_something_else_at_out_is_left_alone(refuses, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "letter.txt").touch()
    with refuses("output.exists", "--out", tmp_path / "set"):
        foveal.prepare("phantom:10", out=tmp_path / "set", size=16)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["letter.txt"]


def test_the_same_command_gives_the_same_bytes(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 15)
    one = foveal.prepare(tmp_path / "photos", out=tmp_path / "one", size=32)
    two = foveal.prepare(tmp_path / "photos", out=tmp_path / "two", size=32)
    for name in ("records.csv", "images/00000.npy"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_copies_are_kept_on_one_side(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    for number in range(10):
        original = tmp_path / "photos" / str(number % 5) / f"{number:03d}.png"
        (original.parent / f"copy{number:03d}.png").write_bytes(original.read_bytes())
    records = open_prepared(foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)).records
    assert records["sha256"].duplicated().sum() == 10
    assert (records.groupby("sha256")["split"].nunique() == 1).all()


@pytest.mark.slow
def test_classes_can_be_merged(write_phantoms, tmp_path, refuses):
    write_phantoms(tmp_path / "photos", 25)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, classes="0,1,2,3+4")
    prepared = open_prepared(out)
    assert prepared.classes[-1] == "severe NPDR + proliferative DR" and prepared.card["scale"] == "icdr 0,1,2,3+4"
    assert prepared.records["label"].value_counts()[3] == 10
    with refuses("option.value", "--classes", "'9'"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "other", classes="0,9")


def test_more_labels_than_there_are_is_a_warning(tmp_path, capsys):
    foveal.prepare("phantom:10", out=tmp_path / "set", size=16, labelled=1000, unlabelled=6)
    printed = capsys.readouterr().out
    assert "--labelled 1,000" in printed and "--unlabelled 6" in printed


def test_the_labels_that_stay_are_counted_where_whole_patients_give_one_more(tmp_path, capsys):
    out = foveal.prepare("phantom:24", out=tmp_path / "set", size=16, labelled=5)
    kept = int((open_prepared(out).records["split"] == "train").sum())
    printed = next(line for line in capsys.readouterr().out.splitlines() if "--labelled 5" in line)
    assert kept in (4, 6) and str(kept) in printed and "source" not in printed


def test_unlabelled_images_can_be_limited(tmp_path, capsys):
    out = foveal.prepare("phantom:24", out=tmp_path / "set", size=16, labelled=4, unlabelled=6)
    assert "--unlabelled" not in capsys.readouterr().out
    prepared = open_prepared(out)
    assert (prepared.records["split"] == "unlabelled").sum() == 6
    images = prepared.pixels(prepared.records)
    whole = open_prepared(foveal.prepare("phantom:24", out=tmp_path / "whole", size=16))
    by_id = whole.records.set_index("id").loc[prepared.records["id"]].reset_index()
    assert np.array_equal(images, whole.pixels(by_id))


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"val": 0.6, "test": 0.5}, ("--val", 0.6, "--test", 0.5)),
        ({"val": -0.1}, ("--val", -0.1)),
        ({"size": 4}, ("--size", 4, 8, 4096)),
        ({"labelled": -1}, ("--labelled", -1)),
        ({"unlabelled": -2}, ("--unlabelled", -2)),
        ({"scale": "my own"}, ("--scale", "my own")),
    ],
)
def test_wrong_options_are_named_before_any_work(refuses, tmp_path, options, values):
    with refuses("option.value", *values):
        foveal.prepare("phantom:10", out=tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_a_source_is_needed(refuses, tmp_path):
    with refuses("option.missing", "SOURCE", "--out"):
        foveal.prepare(out=tmp_path / "set")


def test_unknown_options_are_named_before_any_work(refuses, tmp_path):
    with refuses("option.unknown", "sise", "size"):
        foveal.prepare("phantom:10", out=tmp_path / "set", sise=64)
    with refuses("option.value", "dataset", "'aptos'"):
        foveal.prepare("phantom:10", out=tmp_path / "set", dataset="aptos")
    assert not (tmp_path / "set").exists()


def test_an_image_that_is_named_twice_is_refused_before_any_work(write_phantoms, tmp_path, refuses):
    write_phantoms(tmp_path / "photos", 5)
    (tmp_path / "photos" / "labels.csv").write_text("image,grade\n000,0\n000,1\n")
    with refuses("table.duplicate_image", "000"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_source_that_does_not_exist_is_named(tmp_path, refuses):
    with refuses("source.missing", tmp_path / "nowhere"):
        foveal.prepare(tmp_path / "nowhere", out=tmp_path / "set")


def test_two_writers_at_once_are_refused(refuses, write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 5)
    with sole_writer(tmp_path / ".set.partial", "prepare"), refuses("output.busy", tmp_path / ".set.partial"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)


def test_a_disk_without_room_is_an_error_before_any_work(refuses, write_phantoms, tmp_path, monkeypatch):
    write_phantoms(tmp_path / "photos", 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with refuses("output.full", "0.0 MiB", "3.8 MiB", "512 px"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=512)


@pytest.mark.slow
def test_ungradable_photographs_are_dropped_only_when_asked_and_listed(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 20, size=256)
    cv2.imwrite(str(tmp_path / "photos" / "0" / "dark.png"), np.full((256, 256, 3), 1, np.uint8))
    kept = open_prepared(foveal.prepare(tmp_path / "photos", out=tmp_path / "kept", size=64))
    flagged = kept.records.set_index("id").loc["0/dark", "flags"].split()
    assert len(kept.records) == 21 and set(flagged) & UNGRADABLE
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "dropped", size=64, drop_ungradable=True)
    rejected = pd.read_csv(out / "rejected.csv").set_index("file")["reason"]
    assert rejected.index.tolist() == ["0/dark.png"] and rejected.iloc[0].startswith("cannot be graded: ")
    assert len(open_prepared(out).records) == 20


def test_pictures_that_show_no_retina_are_noticed(tmp_path):
    random = np.random.default_rng(0)
    for n in range(12):
        (tmp_path / "things" / str(n % 2)).mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "things" / str(n % 2) / f"{n}.png"), cv2.resize(noise, (90, 90)))
    card = open_prepared(foveal.prepare(tmp_path / "things", out=tmp_path / "set", size=64)).card
    assert not card["fundus"] and card["options"]["crop"] == "none"
    card = open_prepared(foveal.prepare(tmp_path / "things", out=tmp_path / "asked", size=64, fundus="yes")).card
    assert card["fundus"] and card["options"]["crop"] == "ellipse"


@pytest.mark.parametrize(("out", "code"), [("photos/0/000.png/below", "output.unwritable"), ("new/..", "output.name")])
def test_an_out_that_cannot_be_is_one_error_and_leaves_nothing(refuses, write_phantoms, tmp_path, out, code):
    write_phantoms(tmp_path / "photos", 5)
    with refuses(code, tmp_path):
        foveal.prepare(tmp_path / "photos", out=tmp_path / out, size=16)
    (tmp_path / "empty").mkdir()
    with refuses("source.no_pictures", tmp_path / "empty"):
        foveal.prepare(tmp_path / "empty", out=tmp_path / "set")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "photos"]


def test_a_partly_filled_split_column_is_respected(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 30)
    rows = [f"{n % 5}/{n:03d}.png,{n % 5},p{n // 3},{'test' if n % 12 == 0 else ''}" for n in range(30)]
    (tmp_path / "photos" / "labels.csv").write_text("image,grade,patient,part\n" + "\n".join(rows))
    options = {"group_column": "patient", "split_column": "part", "size": 16}
    records = open_prepared(foveal.prepare(tmp_path / "photos", out=tmp_path / "set", **options)).records
    by_patient = records.groupby("group")["split"].agg(set)
    assert all(by_patient[f"p{n // 3}"] == {"test"} for n in range(0, 30, 12))
    assert (records["split"] == "test").sum() == 9 and "train" in set(records["split"])


def test_disease_folders_are_a_pool_with_the_flag_alone(tmp_path, write_phantoms, capsys):
    write_phantoms(tmp_path / "p", 12)
    flags = [str(tmp_path / "p"), "--out", str(tmp_path / "d"), "--unlabelled", "--size", "16", "--fundus", "yes"]
    config = parse(PrepareConfig, "prepare", flags)
    records = open_prepared(prepare(config)).records
    assert set(records["split"]) == {"unlabelled"} and records["label"].isna().all()
    assert "no patient is known" in capsys.readouterr().out
    prepare(config)
    assert "no patient is known" in capsys.readouterr().out
    assert parse(PrepareConfig, "prepare", ["p", "--out", "d", "--unlabelled", "7"]).unlabelled == 7
    by_function = foveal.prepare(tmp_path / "p", out=tmp_path / "f", size=16, fundus="yes", unlabelled=True)
    assert open_prepared(by_function).records["sha256"].tolist() == records["sha256"].tolist()
    assert open_prepared(by_function).part("unlabelled")["id"].tolist() == records["id"].tolist()


@pytest.mark.parametrize("words", [["photos"], ["5", "7"], ["5", "photos"]])
def test_the_source_does_not_follow_unlabelled(words, refuses):
    with refuses("option.value", "--unlabelled", " ".join(words), "SOURCE"):
        parse(PrepareConfig, "prepare", ["--out", "d", "--unlabelled", *words])


def test_icdr_is_refused_for_classes_of_another_scale(tmp_path, write_phantoms, refuses):
    write_phantoms(tmp_path / "p", 12)
    out = foveal.prepare(tmp_path / "p", out=tmp_path / "d", size=16, scale="icdr", classes="0+1,2+3+4", val=0, test=0)
    assert open_prepared(out).card["scale"] == "icdr 0+1,2+3+4"
    (tmp_path / "p" / "4").rename(tmp_path / "p" / "drusen")
    with refuses("label.value", "'drusen'", "--scale none"):
        foveal.prepare(tmp_path / "p", out=tmp_path / "e", size=16, scale="icdr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "p"]


@pytest.mark.parametrize("step", ["check_space", "assemble"])
def test_a_refused_preparation_leaves_nothing_behind_but_finished_shards(
    tmp_path, write_phantoms, refuses, monkeypatch, step
):
    write_phantoms(tmp_path / "p", 5)
    out = tmp_path / "new" / "deep" / "d"

    def refuse(*_, **__):
        raise FovealError("split.unknown", "refused")

    with monkeypatch.context() as patch, refuses("split.unknown"):
        patch.setattr(f"foveal.sets.prepare.{step}", refuse)
        foveal.prepare(tmp_path / "p", out=out, size=16)
    if step == "check_space":
        assert [path.name for path in tmp_path.iterdir()] == ["p"]
    else:
        monkeypatch.setattr("foveal.sets.prepare.run_jobs", refuse)  # nothing is decoded again
        assert (foveal.prepare(tmp_path / "p", out=out, size=16) / "card.json").is_file()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_the_words_of_the_system(tmp_path, refuses, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("foveal.sets.shards._write_header", fail)
    with refuses("output.full", "images", 0, os.strerror(number)):
        foveal.prepare("phantom:4", out=tmp_path / "set", size=16)


def test_what_others_wrote_beside_a_refused_preparation_stays(tmp_path, write_phantoms, refuses, monkeypatch):
    def refuse(*_, **__):
        (tmp_path / "new" / "note.txt").write_text("mine")
        raise FovealError("output.full", "refused")

    write_phantoms(tmp_path / "p", 5)
    monkeypatch.setattr("foveal.sets.prepare.check_space", refuse)
    with refuses("output.full"):
        foveal.prepare(tmp_path / "p", out=tmp_path / "new" / "d", size=16)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["note.txt"]


def test_a_part_that_was_asked_for_and_is_empty_is_told(write_phantoms, tmp_path, capsys):
    write_phantoms(tmp_path / "few", 6)
    out = foveal.prepare(tmp_path / "few", out=tmp_path / "set", size=32, val=0.01)
    said = capsys.readouterr().out
    assert "val" not in open_prepared(out).card["counts"] and "--val" in said and "0.01" in said
    out = foveal.prepare(tmp_path / "few", out=tmp_path / "none", size=32, val=0.0)
    assert "--val" not in capsys.readouterr().out
