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


def test_more_labels_than_there_are_is_a_warning(tmp_path, capsys):
    foveal.prepare("phantom:40", out=tmp_path / "set", size=16, labelled=1000, unlabelled=6)
    printed = capsys.readouterr().out
    assert "--labelled 1,000" in printed and "--unlabelled 6" in printed


def test_unlabelled_images_can_be_limited(tmp_path, capsys):
    out = foveal.prepare("phantom:40", out=tmp_path / "set", size=16, labelled=8, unlabelled=6)
    assert "--unlabelled" not in capsys.readouterr().out
    prepared = open_prepared(out)
    assert (prepared.records["split"] == "unlabelled").sum() == 6
    images = prepared.pixels(prepared.records)
    whole = open_prepared(foveal.prepare("phantom:40", out=tmp_path / "whole", size=16))
    by_id = whole.records.set_index("id").loc[prepared.records["id"]].reset_index()
    assert np.array_equal(images, whole.pixels(by_id))


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"val": 0.6, "test": 0.5}, ("--val", 0.6, "--test", 0.5)),
        ({"val": -0.1}, ("--val", -0.1)),
        ({"size": 4}, ("--size", 4, 8, 4096)),
        ({"labelled": -1}, ("--labelled", -1)),
        ({"unlabelled": -1}, ("--unlabelled", -1)),
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


@pytest.mark.parametrize(("options", "named"), [({"dataset": "aptos"}, "aptos"), ({"sise": 64}, "'size'")])
def test_unknown_options_are_named_before_any_work(tmp_path, options, named):
    with pytest.raises(ValueError) as caught:
        foveal.prepare("phantom:10", out=tmp_path / "set", **options)
    assert named in str(caught.value) and not (tmp_path / "set").exists()


def test_an_image_that_is_named_twice_is_refused_before_any_work(tmp_path, refuses):
    write_phantoms(tmp_path / "photos", 5)
    (tmp_path / "photos" / "labels.csv").write_text("image,grade\n000,0\n000,1\n")
    with refuses("table.duplicate_image", "000"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_source_that_does_not_exist_is_named(tmp_path, refuses):
    with refuses("source.missing", tmp_path / "nowhere"):
        foveal.prepare(tmp_path / "nowhere", out=tmp_path / "set")


def test_open_prepared_refuses_other_folders_and_old_sets(refuses, tmp_path, phantom_set):
    with refuses("set.incomplete", tmp_path, "records.csv"):
        open_prepared(tmp_path)
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


def test_a_map_of_classes_keeps_the_scale_and_what_is_referred():
    from foveal.readout.scales import referable_from

    assert [referable_from(scale) for scale in ("icdr", "icdr 0,1,2,3+4", "icdr 0+1,2+3+4")] == [2, 2, 1]
    assert [referable_from(scale) for scale in ("icdr 0,1+2,3+4", "icdr 2+3+4,0+1", "none", "mine")] == [None] * 4


def test_shards_that_were_cut_short_are_refused(refuses, tmp_path, phantom_set):
    shutil.copytree(phantom_set, tmp_path / "set")
    np.save(tmp_path / "set" / "images" / "00000.npy", np.zeros((59, 32, 32, 3), np.uint8))
    with refuses("set.damaged", "00000.npy"):
        open_prepared(tmp_path / "set")


def test_new_pictures_get_new_shards_and_nothing_old_changes(tmp_path, capsys):
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


def test_a_set_made_with_a_choice_among_all_does_not_grow(refuses, tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, labelled=8)
    write_phantoms(tmp_path / "photos", 25)
    with refuses("source.changed", tmp_path / "photos", tmp_path / "set", "--labelled"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16, labelled=8)


def test_a_set_does_not_grow_by_other_classes_or_arrays(refuses, tmp_path):
    write_phantoms(tmp_path / "photos", 20)
    foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    (tmp_path / "photos" / "5").mkdir()
    (tmp_path / "photos" / "5" / "new.png").write_bytes(phantom(1, 64))
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


def test_a_set_whose_pictures_can_no_longer_be_read_stays(refuses, tmp_path):
    write_phantoms(tmp_path / "photos", 5)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    before = (out / "records.csv").read_bytes()
    for file in (tmp_path / "photos").rglob("*.png"):
        file.write_text("Dear colleague")
    with refuses("source.unreadable", tmp_path / "photos"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)
    assert (out / "records.csv").read_bytes() == before and len(open_prepared(out).records) == 5


@pytest.mark.slow
def test_interrupted_work_of_other_options_is_not_mixed_in(refuses, tmp_path, monkeypatch):
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


def test_two_writers_at_once_are_refused(refuses, tmp_path):
    write_phantoms(tmp_path / "photos", 5)
    with sole_writer(tmp_path / ".set.partial", "prepare"), refuses("output.busy", tmp_path / ".set.partial"):
        foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=16)


def test_a_disk_without_room_is_an_error_before_any_work(refuses, tmp_path, monkeypatch):
    write_phantoms(tmp_path / "photos", 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with refuses("output.full", "0.0 MiB", "3.8 MiB", "512 px"):
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
def test_sets_on_different_scales_do_not_mix_without_a_map(refuses, tmp_path):
    write_phantoms(tmp_path / "photos", 25)
    whole = foveal.prepare(tmp_path / "photos", out=tmp_path / "whole", size=16)
    merged = foveal.prepare(tmp_path / "photos", out=tmp_path / "merged", size=16, classes="0,1,2,3+4")
    with refuses("set.scales", whole, "'icdr' with 5 classes", merged, "'icdr 0,1,2,3+4' with 4 classes"):
        foveal.prepare(whole, merged, out=tmp_path / "both")
    small = foveal.prepare(tmp_path / "photos", out=tmp_path / "small", size=24)
    with refuses("set.not_alike", whole, small, "size 16 and 24"):
        foveal.prepare(whole, small, out=tmp_path / "both")
    with refuses("set.single", whole):
        foveal.prepare(whole, out=tmp_path / "both")
    with refuses("set.repeated", whole):
        foveal.prepare(whole, whole, out=tmp_path / "both")


@pytest.mark.slow
def test_a_joined_set_grows_with_its_parts(tmp_path):
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


@pytest.mark.slow
def test_copies_on_two_sides_are_refused_wherever_the_set_is_opened(refuses, tmp_path):
    write_phantoms(tmp_path / "photos", 20, size=128)
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=64)
    records = open_prepared(out).records
    pair = [records.loc[records["split"] == split, "id"].iloc[0] for split in ("train", "test")]
    with (out / "duplicates.csv").open("a") as stream:
        stream.write(f"{pair[0]},{pair[1]},near,0.9,0,0,0\n")
    with refuses("split.copies", out, *pair):
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
    assert "foveal[dicom]" in (out / "rejected.csv").read_text()
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


def test_pictures_that_show_no_retina_are_noticed(tmp_path):
    random = np.random.default_rng(0)
    for n in range(12):
        (tmp_path / "things" / str(n % 2)).mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "things" / str(n % 2) / f"{n}.png"), cv2.resize(noise, (90, 90)))
    card = open_prepared(foveal.prepare(tmp_path / "things", out=tmp_path / "set", size=64)).card
    assert not card["fundus"] and card["options"]["crop"] == "none"
    card = open_prepared(foveal.prepare(tmp_path / "things", out=tmp_path / "asked", size=64, fundus="yes")).card
    assert card["fundus"] and card["options"]["crop"] == "disc"


@pytest.mark.parametrize(("out", "code"), [("photos/0/000.png/below", "output.unwritable"), ("new/..", "output.name")])
def test_an_out_that_cannot_be_is_one_error_and_leaves_nothing(refuses, tmp_path, out, code):
    write_phantoms(tmp_path / "photos", 5)
    with refuses(code, tmp_path):
        foveal.prepare(tmp_path / "photos", out=tmp_path / out, size=16)
    (tmp_path / "empty").mkdir()
    with refuses("source.no_pictures", tmp_path / "empty"):
        foveal.prepare(tmp_path / "empty", out=tmp_path / "set")
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
