import json
import shutil
import sys
from functools import cache
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.fundus.quality import UNGRADABLE
from foveal.runs import sole_writer
from foveal.sets.records import COLUMNS, open_prepared, read_records, validate
from foveal.sets.shards import Shards, gather
from foveal.sources.phantom import draw_phantom


@cache
def phantom(number, size):
    """A PNG file; kept, because to draw the pictures is most of the work of a test."""
    picture = draw_phantom(number % 5, "left", size, np.random.default_rng(number)).image
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def write_phantoms(root, count, size=64):
    for number in range(count):
        file = root / str(number % 5) / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_bytes(phantom(number, size))


def test_the_hand_over_is_as_documented(phantom_set):
    records = pd.read_csv(phantom_set / "records.csv")
    assert tuple(records.columns) == COLUMNS
    prepared = open_prepared(phantom_set)
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


def test_bad_files_are_listed_and_do_not_stop_the_work(tmp_path):
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


def test_nothing_readable_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "letter.jpg").write_text("Dear colleague")
    with pytest.raises(ValueError, match="none of the 1 pictures could be read; the first: letter.jpg"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_existing_set_is_not_overwritten_but_recognised(tmp_path, capsys):
    out = foveal.prepare("phantom:10", out=tmp_path / "set", size=16)
    before = (out / "records.csv").read_bytes()
    foveal.prepare("phantom:10", out=tmp_path / "set", size=16)
    assert "prepared already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="exists already, made with other options .size: 16 there, 24 now"):
        foveal.prepare("phantom:10", out=tmp_path / "set", size=24)
    assert (out / "records.csv").read_bytes() == before


def test_the_same_command_gives_the_same_bytes(tmp_path):
    write_phantoms(tmp_path / "photos", 30)
    one = foveal.prepare(tmp_path / "photos", out=tmp_path / "one", size=32)
    two = foveal.prepare(tmp_path / "photos", out=tmp_path / "two", size=32)
    for name in ("records.csv", "images/00000.npy"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_copies_are_kept_on_one_side(tmp_path):
    write_phantoms(tmp_path / "photos", 40)
    for number in range(20):
        original = tmp_path / "photos" / str(number % 5) / f"{number:03d}.png"
        (original.parent / f"copy{number:03d}.png").write_bytes(original.read_bytes())
    records = open_prepared(foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)).records
    assert records["sha256"].duplicated().sum() == 20
    assert (records.groupby("sha256")["split"].nunique() == 1).all()


@pytest.mark.slow
def test_classes_can_be_merged(tmp_path, refuses):
    write_phantoms(tmp_path / "photos", 25)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, classes="0,1,2,3+4")
    prepared = open_prepared(out)
    assert prepared.classes[-1] == "severe NPDR + proliferative DR" and prepared.card["scale"] == "icdr 0,1,2,3+4"
    assert prepared.records["label"].value_counts()[3] == 10
    with refuses("option.value", "--classes", "'9'"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "other", classes="0,9")


def test_more_labels_than_there_are_is_said(tmp_path, capsys):
    foveal.prepare("phantom:40", out=tmp_path / "set", size=16, labelled=1000, unlabelled=6)
    said = " ".join(capsys.readouterr().out.split())
    assert "--labelled 1,000 were asked for: there are 2" in said
    assert "--unlabelled 6 were asked for: there are 0 unlabelled images" in said


def test_unlabelled_images_can_be_limited(tmp_path, capsys):
    out = foveal.prepare("phantom:40", out=tmp_path / "set", size=16, labelled=8, unlabelled=6)
    assert "asked for" not in capsys.readouterr().out
    prepared = open_prepared(out)
    assert (prepared.records["split"] == "unlabelled").sum() == 6
    images = prepared.pixels(prepared.records)
    whole = open_prepared(foveal.prepare("phantom:40", out=tmp_path / "whole", size=16))
    by_id = whole.records.set_index("id").loc[prepared.records["id"]].reset_index()
    assert np.array_equal(images, whole.pixels(by_id))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 0.6, "test": 0.5}, "leave some for training"),
        ({"size": 4}, "between 8 and 4096"),
        ({"labelled": -1}, "cannot be negative"),
        ({"dataset": "aptos"}, "'aptos' is not one of"),
        ({"sise": 64}, "did you mean 'size'"),
    ],
)
def test_wrong_options_are_named_before_any_work(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        foveal.prepare("phantom:10", out=tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_an_image_that_is_named_twice_is_refused_before_any_work(tmp_path, refuses):
    write_phantoms(tmp_path / "photos", 5)
    (tmp_path / "photos" / "labels.csv").write_text("image,grade\n000,0\n000,1\n")
    with refuses("table.duplicate_image", "000"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set")


def test_a_source_that_does_not_exist_is_named(tmp_path, refuses):
    with refuses("source.missing", tmp_path / "nowhere"):
        foveal.prepare(tmp_path / "nowhere", out=tmp_path / "set")


def test_open_prepared_refuses_what_is_none(tmp_path):
    with pytest.raises(ValueError, match="is not a whole prepared set: it has no records.csv"):
        open_prepared(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "same"}, "ids must be unique"),
        ({"split": "holdout"}, "unknown split holdout"),
        ({"label": 9}, "labels must be 0..4"),
        ({"label": pd.NA}, "not in the split 'unlabelled'"),
        ({"group": "everybody"}, "groups on more than one side"),
    ],
)
def test_records_that_contradict_themselves_are_refused(phantom_set, change, message):
    records = read_records(phantom_set / "records.csv").copy()
    labelled = records["split"] != "unlabelled"
    for column, value in change.items():
        records.loc[labelled, column] = value
    with pytest.raises(ValueError, match=message):
        validate(records, list("01234"), "here")


def test_a_missing_column_is_named(tmp_path, phantom_set):
    pd.read_csv(phantom_set / "records.csv").drop(columns="group").to_csv(tmp_path / "records.csv", index=False)
    with pytest.raises(ValueError, match="missing column group"):
        read_records(tmp_path / "records.csv")


def test_a_map_of_classes_keeps_the_scale_and_what_is_referred():
    from foveal.readout.scales import referable_from

    assert [referable_from(scale) for scale in ("icdr", "icdr 0,1,2,3+4", "icdr 0+1,2+3+4")] == [2, 2, 1]
    assert [referable_from(scale) for scale in ("icdr 0,1+2,3+4", "icdr 2+3+4,0+1", "none", "mine")] == [None] * 4


def test_shards_that_were_cut_short_are_refused(tmp_path, phantom_set):
    shutil.copytree(phantom_set, tmp_path / "set")
    np.save(tmp_path / "set" / "images" / "00000.npy", np.zeros((59, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match=r"images/00000.npy is missing, or shorter than records.csv says"):
        open_prepared(tmp_path / "set")


def test_new_pictures_get_new_shards_and_nothing_old_changes(tmp_path, capsys):
    write_phantoms(tmp_path / "photos", 30)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    before = open_prepared(out).records.set_index("id")
    shard = (out / "images" / "00000.npy").stat()
    write_phantoms(tmp_path / "photos", 40)
    capsys.readouterr()
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    assert "30 of 40 images are there already; 10 to go" in capsys.readouterr().out
    after = open_prepared(out).records.set_index("id")
    assert len(after) == 40 and after.loc[before.index, ["split", "sha256"]].equals(before[["split", "sha256"]])
    assert set(after.drop(before.index)["shard"]) == {1}
    assert (out / "images" / "00000.npy").stat().st_mtime_ns == shard.st_mtime_ns
    capsys.readouterr()
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    assert "its source holds nothing new" in capsys.readouterr().out


def test_a_picture_that_changed_is_read_again_and_one_that_went_is_left_out(tmp_path):
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


def test_a_set_made_with_a_choice_among_all_does_not_grow(tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, labelled=8)
    write_phantoms(tmp_path / "photos", 25)
    with pytest.raises(ValueError, match="--labelled and --unlabelled choose among all images"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, labelled=8)


@pytest.mark.slow
def test_interrupted_work_of_other_options_is_not_mixed_in(tmp_path, monkeypatch):
    write_phantoms(tmp_path / "photos", 10)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("foveal.sets.prepare.assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    with pytest.raises(ValueError, match=r".set.partial holds the work of an interrupted .*delete that folder"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    whole = foveal.prepare(tmp_path / "photos", out=tmp_path / "other", size=16)
    resumed = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    assert tree_of(resumed) == tree_of(whole)


def tree_of(folder):
    """Relative path -> bytes of all files of a prepared set."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_writers_at_once_are_refused(tmp_path):
    write_phantoms(tmp_path / "photos", 5)
    with (
        sole_writer(tmp_path / ".set.partial", "prepare"),
        pytest.raises(ValueError, match="another foveal prepare is writing"),
    ):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)


def test_a_disk_without_room_is_said_before_any_work(tmp_path, monkeypatch):
    write_phantoms(tmp_path / "photos", 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ValueError, match="0.0 MiB free; 5 images at 512 px need 3.8 MiB"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=512)


@pytest.mark.slow
def test_ungradable_photographs_are_dropped_only_when_asked_and_listed(tmp_path):
    write_phantoms(tmp_path / "photos", 20, size=256)
    cv2.imwrite(str(tmp_path / "photos" / "0" / "dark.png"), np.full((256, 256, 3), 1, np.uint8))
    kept = open_prepared(foveal.prepare(tmp_path / "photos", out=tmp_path / "kept", size=64))
    flagged = kept.records.set_index("id").loc["0/dark", "flags"].split()
    assert len(kept.records) == 21 and set(flagged) & UNGRADABLE
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "dropped", size=64, drop_ungradable=True)
    rejected = pd.read_csv(out / "rejected.csv").set_index("file")["reason"]
    assert rejected.index.tolist() == ["0/dark.png"] and rejected.iloc[0].startswith("cannot be graded: ")
    assert len(open_prepared(out).records) == 20


@pytest.mark.slow
def test_joined_sets_keep_what_was_decided_and_share_no_copy_across_sides(tmp_path):
    write_phantoms(tmp_path / "one", 20, size=128)
    write_phantoms(tmp_path / "two", 25, size=128)  # the first twenty are the same pictures
    sets = [foveal.prepare(tmp_path / name, out=tmp_path / f"set-{name}", size=64) for name in ("one", "two")]
    both = open_prepared(foveal.prepare(*sets, out=tmp_path / "both"))
    first = open_prepared(sets[0]).records.set_index("id")
    ours = both.records[both.records["id"].str.startswith("set-one/")].set_index("id")
    assert (ours["split"] == first["split"].add_prefix("set-one/")[ours.index]).all()
    assert (both.records.groupby("sha256")["split"].nunique() == 1).all()
    reasons = pd.read_csv(both.path / "rejected.csv")["reason"]
    assert len(both.records) + len(reasons) == 45 and reasons.str.startswith("left out of").all()
    row = both.records.index.get_loc(both.records.index[both.records["id"] == ours.index[3]][0])
    same = open_prepared(sets[0]).pixels(first.loc[[ours.index[3].removeprefix("set-one/")]])
    assert np.array_equal(both.pixels(both.records.iloc[[row]]), same)


@pytest.mark.slow
def test_sets_on_different_scales_do_not_mix_without_a_map(tmp_path):
    write_phantoms(tmp_path / "photos", 25)
    whole = foveal.prepare(tmp_path / "photos", out=tmp_path / "whole", size=16)
    merged = foveal.prepare(tmp_path / "photos", out=tmp_path / "merged", size=16, classes="0,1,2,3+4")
    with pytest.raises(ValueError, match="on the scale 'icdr' with 5 classes, .* on 'icdr 0,1,2,3.4' with 4 classes"):
        foveal.prepare(whole, merged, out=tmp_path / "both")
    small = foveal.prepare(tmp_path / "photos", out=tmp_path / "small", size=24)
    with pytest.raises(ValueError, match="prepare them alike"):
        foveal.prepare(whole, small, out=tmp_path / "both")
    with pytest.raises(ValueError, match="is a prepared set already"):
        foveal.prepare(whole, out=tmp_path / "both")


@pytest.mark.slow
def test_copies_on_two_sides_are_refused_wherever_the_set_is_opened(tmp_path):
    write_phantoms(tmp_path / "photos", 20, size=128)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=64)
    records = open_prepared(out).records
    pair = [records.loc[records["split"] == split, "id"].iloc[0] for split in ("train", "test")]
    with (out / "duplicates.csv").open("a") as stream:
        stream.write(f"{pair[0]},{pair[1]},near,0.9,0,0,0\n")
    with pytest.raises(ValueError, match=f"1 pairs of copies stand on two sides of the split, {pair[0]} and {pair[1]}"):
        open_prepared(out)


def test_a_picture_of_the_same_size_in_bytes_is_seen_to_have_changed(tmp_path):
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


def test_what_could_not_be_read_for_want_of_a_package_is_tried_again(tmp_path, monkeypatch):
    write_phantoms(tmp_path / "photos", 10)
    (tmp_path / "photos" / "0" / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pydicom", None)
        out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    assert "needs pydicom" in (out / "rejected.csv").read_text()
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    assert "0/scan.dcm" in (out / "rejected.csv").read_text() and "pydicom" not in (out / "rejected.csv").read_text()


def test_few_files_are_open_however_many_shards_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr("foveal.sets.shards.OPEN_AT_ONCE", 4)
    for number in range(12):
        np.save(tmp_path / f"{number:05d}.npy", np.full((2, 4, 4, 3), number, np.uint8))
    shards = Shards(tmp_path)
    images = gather(shards, np.arange(12).repeat(2), np.tile([0, 1], 12))
    assert images[:, 0, 0, 0].tolist() == np.arange(12).repeat(2).tolist() and len(shards._open) == 4
    assert [shards.rows(number) for number in (0, 11, 12)] == [2, 2, 0]


@pytest.mark.slow
def test_maps_of_maps_are_composed(tmp_path):
    from foveal.readout.scales import referable_from

    write_phantoms(tmp_path / "photos", 25)
    merged = [
        foveal.prepare(tmp_path / "photos", out=tmp_path / name, size=16, classes="0,1,2,3+4") for name in ("a", "b")
    ]
    card = open_prepared(foveal.prepare(*merged, out=tmp_path / "both", classes="0+1,2+3")).card
    assert card["scale"] == "icdr 0+1,2+3+4" and referable_from(card["scale"]) == 1


def test_pictures_that_show_no_retina_are_noticed(tmp_path, capsys):
    random = np.random.default_rng(0)
    for n in range(12):
        (tmp_path / "things" / str(n % 2)).mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "things" / str(n % 2) / f"{n}.png"), cv2.resize(noise, (90, 90)))
    card = open_prepared(foveal.prepare(tmp_path / "things", out=tmp_path / "set", size=64)).card
    assert not card["fundus"] and card["options"]["crop"] == "none" and "show no retina" in capsys.readouterr().out
    card = open_prepared(foveal.prepare(tmp_path / "things", out=tmp_path / "asked", size=64, fundus="yes")).card
    assert card["fundus"] and card["options"]["crop"] == "disc"


@pytest.mark.parametrize(
    ("out", "message"),
    [("photos/0/000.png/below", "cannot be made or written"), ("new/..", "give the path of a new folder")],
)
def test_an_out_that_cannot_be_is_one_error_and_leaves_nothing(tmp_path, refuses, out, message):
    write_phantoms(tmp_path / "photos", 5)
    with pytest.raises(ValueError, match=message):
        foveal.prepare(tmp_path / "photos", out=tmp_path / out, size=16)
    with refuses("source.no_pictures", tmp_path / "empty"):
        foveal.prepare(tmp_path / "empty", out=tmp_path / "set") if (tmp_path / "empty").mkdir() is None else None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "photos"]


def test_a_partly_filled_split_column_is_respected(tmp_path):
    write_phantoms(tmp_path / "photos", 30)
    rows = [f"{n % 5}/{n:03d}.png,{n % 5},p{n // 3},{'test' if n % 12 == 0 else ''}" for n in range(30)]
    (tmp_path / "photos" / "labels.csv").write_text("image,grade,patient,part\n" + "\n".join(rows))
    options = {"group_column": "patient", "split_column": "part", "size": 16}
    records = open_prepared(foveal.prepare(tmp_path / "photos", out=tmp_path / "set", **options)).records
    by_patient = records.groupby("group")["split"].agg(set)
    assert all(by_patient[f"p{n // 3}"] == {"test"} for n in range(0, 30, 12))
    assert (records["split"] == "test").sum() == 9 and "train" in set(records["split"])
