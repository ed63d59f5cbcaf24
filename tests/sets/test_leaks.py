import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.sets.leaks import (
    TAUGHT,
    _same_patient,
    compare_sets,
    find_namesakes,
    find_seen,
    pool_of,
    read_seen,
    refuse_seen,
    seen_of,
    write_seen,
)
from foveal.sets.records import PreparedSet, link_kept, open_prepared, patients
from foveal.sources.phantom import draw_phantom

SIZE = 96


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory):
    """A set of 12 photographs, and another with a lossy, a mirrored, an exact copy and 5 new ones."""
    root = tmp_path_factory.mktemp("leaks")
    random = np.random.default_rng(0)
    pictures = [draw_phantom(n % 5, "left" if n % 2 else "right", 256, random).image[..., ::-1] for n in range(17)]
    for n, picture in enumerate(pictures[:12]):
        write(root / "first" / f"a{n}.png", picture)
    write(root / "second" / "lossy.jpg", cv2.resize(pictures[3], (180, 180)), [cv2.IMWRITE_JPEG_QUALITY, 60])
    write(root / "second" / "mirrored.png", pictures[4][:, ::-1])
    write(root / "second" / "exact.png", pictures[5])
    for n, picture in enumerate(pictures[12:]):
        write(root / "second" / f"b{n}.png", picture)
    table = pd.DataFrame({"image": [f"a{n}" for n in range(12)], "grade": [n % 5 for n in range(12)]})
    table.assign(split=["train"] * 6 + ["val"] * 3 + ["test"] * 3).to_csv(root / "first" / "labels.csv", index=False)
    first = foveal.prepare(root / "first", out=root / "set1", size=SIZE, split_column="split")
    return open_prepared(first), open_prepared(foveal.prepare(root / "second", out=root / "set2", size=SIZE))


def write(path, picture, options=()):
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), picture, list(options))


@pytest.mark.slow
def test_copies_across_sets_are_found(two_sets):
    pairs = compare_sets(*two_sets)
    assert set(zip(pairs["id"], pairs["other"], pairs["kind"], strict=True)) == {
        ("a3", "lossy", "near"), ("a4", "mirrored", "mirrored"), ("a5", "exact", "exact"),
    }  # fmt: skip
    assert (pairs["conflict"] == 0).all() and set(pairs["split"]) == {"train"}


def test_a_copy_of_a_judged_image_in_the_pool_is_refused_by_name(refuses, two_sets, capsys):
    first, second = two_sets
    swapped = PreparedSet(first.path, first.records.assign(split="test"), first.card)
    copies = ("a3 (test, near copy of lossy", "a4 (test, mirrored", "a5 (test, exact")
    seen = seen_of([(second, second.records)])
    with refuses("leak.seen", 3, first.path, "the pool", *copies, "--allow-leaks"):
        refuse_seen(swapped, seen, "the pool", allow=False)
    refuse_seen(swapped, seen, "the pool", allow=True)
    assert "warning: 3 " in capsys.readouterr().out
    refuse_seen(first, seen, "the pool", allow=False)  # where the three are in the training part


def test_a_pool_whose_pixels_are_gone_is_searched_by_fingerprint_with_a_warning(two_sets, capsys):
    first, second = two_sets
    seen = seen_of([(second, second.records)]).assign(set="moved/away", path="/moved/away")
    found = find_seen(first, first.records, seen)
    assert dict(zip(found["id"], found["how"], strict=True)) == {
        "a3": "very much like", "a4": "very much like", "a5": "exact copy of",
    }  # fmt: skip
    assert "warning: moved/away" in capsys.readouterr().out


def test_the_same_patient_is_found_in_another_part_of_the_same_data_set(phantom_set):
    prepared = open_prepared(phantom_set)
    judged = prepared.part("test").head(1)
    seen = pd.DataFrame([{
        "sha256": "other", "id": "second visit", "set": "x", "path": "", "fingerprint": "",
        "patient": patients(prepared.card, judged["group"]).iloc[0],
    }])  # fmt: skip
    found = find_seen(prepared, prepared.part("test"), seen)
    assert set(found["how"]) == {"same patient as"} and judged["id"].iloc[0] in set(found["id"])
    elsewhere = seen.assign(patient="folder elsewhere/" + judged["group"].iloc[0])
    assert not len(find_seen(prepared, prepared.part("test"), elsewhere))


def test_a_patient_whom_a_server_knows_by_a_hash_is_the_one_whom_a_set_names():
    hashes = {name: f"name-{hashlib.sha256(name.encode()).hexdigest()[:16]}" for name in ("P7", "12", "elsewhere")}
    dicom = f"dicom-{hashlib.sha256(b'4711').hexdigest()[:16]}"
    groups = [
        "clinic/7",
        "clinic/12",
        "clinic/4711+clinic/8",
        *(f"kept/{group}" for group in (*hashes.values(), dicom)),
    ]
    ids = ["clinic/P7_left", "clinic/a", "clinic/b", "kept/1", "kept/2", "kept/3", "kept/4"]
    found = link_kept(pd.Series(groups), pd.Series(ids)).tolist()
    assert found == [*groups[:3], "clinic/7", "clinic/12", groups[5], "clinic/4711"]
    two = ["clinic/12", "other/12", f"kept/{hashes['12']}", "other/5"]
    assert link_kept(pd.Series(two), pd.Series(list("abcd"))).tolist() == ["clinic/12+other/12"] * 3 + ["other/5"]
    seen = pd.DataFrame({"id": ids[:3], "patient": groups[:3], "sha256": "", "fingerprint": "", "path": ""})
    judged = pd.DataFrame({"id": ids[3:], "patient": groups[3:], "split": "test", "position": range(4)})
    same = _same_patient(judged, seen)
    assert dict(zip(same["id"], same["other"], strict=True)) == {ids[3]: ids[0], ids[4]: ids[1], ids[6]: ids[2]}


def test_a_copy_makes_its_whole_patient_known(phantom_set):
    prepared = open_prepared(phantom_set)
    records = prepared.records.assign(group=[f"g{n // 2}" for n in range(len(prepared.records))])
    seen = seen_of([(prepared, records.iloc[[4]])]).assign(patient="folder elsewhere/x")
    found = find_seen(prepared, records, seen)
    assert found["id"].tolist() == records["id"].iloc[[4, 5]].tolist()
    assert found["how"].tolist() == ["exact copy of", "same patient as"]


@pytest.mark.parametrize(
    ("ours", "theirs", "sure"),
    [
        ("004", "table /train/004", True), ("P004", "table /train/004", True), ("P12", "folder /train/p12", True),
        ("4711032", "table /train/a.csv/4711032+table /kept/9", True), ("12", "table /train/12", False),
        ("4", "table /train/004", False), ("P12", "table /train/12", False), ("94", "table /train/4", None),
        ("Q004", "table /train/P004", None), ("P004", "eyepacs/P004", None), ("12", "table /clinic/2024.csv/12", True),
        ("", "table /train/4", None), ("dicom-0a9e9d87ff324b01", "table /kept/dicom-0a9e9d87ff324b01", True),
    ],
)  # fmt: skip
def test_a_number_of_another_table_is_the_same_patient_where_it_looks_like_one(phantom_set, ours, theirs, sure):
    prepared = open_prepared(phantom_set)
    card = prepared.card | {"name": "table", "identity": "table /clinic/2025.csv"}
    records = prepared.records.assign(group=ours)[:2]
    seen = pd.DataFrame({"id": ["a"], "patient": [theirs]})
    found = find_namesakes(PreparedSet(prepared.path, prepared.records, card), records, seen)
    assert found["sure"].tolist() == ([] if sure is None else [sure] * 2)
    published = PreparedSet(prepared.path, prepared.records, card | {"identity": "idrid"})
    assert not len(find_namesakes(published, records, seen))


def test_seen_lists_of_earlier_versions_are_still_compared(refuses, phantom_set, tmp_path):
    prepared = open_prepared(phantom_set)
    test = prepared.part("test")
    test[["sha256", "id"]].assign(set="x").to_csv(tmp_path / "seen.csv", index=False)
    with refuses("leak.seen", f"{test['id'].iloc[0]} (test, exact copy of"):
        refuse_seen(prepared, read_seen(str(tmp_path)), "the pool", allow=False)


def test_unlabelled_images_of_a_judged_patient_stay_out_of_the_pool(phantom_set, capsys):
    prepared = open_prepared(phantom_set)
    judged = prepared.part("test")["group"].iloc[0]
    records = prepared.records.copy()
    first = records.index[records["split"] == "unlabelled"][0]
    records.loc[first, "group"] = judged
    pool = pool_of(PreparedSet(prepared.path, records, prepared.card))
    assert records.loc[first, "id"] not in set(pool["id"])
    assert len(pool) == len(prepared.part("train", "unlabelled")) - 1
    assert "1 image" in capsys.readouterr().out


def test_what_was_seen_is_handed_on(phantom_set, tmp_path):
    prepared = open_prepared(phantom_set)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    own = seen_of([(prepared, prepared.part("train", "unlabelled"))], by_label=True)
    write_seen(tmp_path / "a", own, read_seen("random"))
    write_seen(tmp_path / "b", seen_of([(prepared, prepared.part("train"))]), read_seen(str(tmp_path / "a")))
    handed_on = read_seen(str(tmp_path / "b"))
    assert sorted(handed_on["sha256"]) == sorted(prepared.part("train", "unlabelled")["sha256"])
    # A label that has been learned once stays so, although the next run did without.
    assert set(handed_on["sha256"][handed_on["taught"] == TAUGHT]) == set(prepared.part("train")["sha256"])
    assert not len(read_seen("imagenet"))
    handed_on.drop(columns="taught").to_csv(tmp_path / "b" / "seen.csv", index=False)
    assert (read_seen(str(tmp_path / "b"))["taught"] == TAUGHT).all()  # a list that does not say


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    """Left and right eyes of the same ten patients as two data sets in EyePACS's form, and another clinic's."""
    root = tmp_path_factory.mktemp("eyes")
    random = np.random.default_rng(3)
    for eye in ("left", "right"):
        for n in range(10):
            write(root / eye / f"{n}_{eye}.jpeg", draw_phantom(n % 5, eye, 64, random).image[..., ::-1])
        rows = "".join(f"{n}_{eye},{n % 5}\n" for n in range(10))
        (root / eye / "trainLabels.csv").write_text(f"image,level\n{rows}")
    for n in range(10):
        write(root / "clinic" / f"{n}_left.png", draw_phantom(n % 5, "left", 64, random).image[..., ::-1])
    return {
        name: foveal.prepare(root / name, out=root / f"set-{name}", size=64) for name in ("left", "right", "clinic")
    }


@pytest.mark.slow
def test_patients_keep_their_names_when_sets_are_joined(refuses, eyes, tmp_path):
    left, right, clinic = (open_prepared(eyes[name]) for name in ("left", "right", "clinic"))
    joined = open_prepared(foveal.prepare(eyes["left"], eyes["clinic"], out=tmp_path / "both"))
    for other in (left, joined):
        with refuses("leak.seen", "_right (test, same patient as"):
            refuse_seen(right, seen_of([(other, other.records)]), "the pool", allow=False)
    refuse_seen(right, seen_of([(clinic, clinic.records)]), "the pool", allow=False)


def test_two_clinics_number_their_patients_alike_and_they_stay_apart(eyes, tmp_path):
    both = open_prepared(foveal.prepare(eyes["left"], eyes["clinic"], out=tmp_path / "both"))
    assert len(both.records) == 20 and both.records["group"].nunique() == 20


def test_the_pool_is_found_from_another_working_folder(two_sets, tmp_path, monkeypatch):
    first, second = two_sets
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(second.path.parent)
    relative = open_prepared(Path(second.path.name))
    seen = seen_of([(relative, relative.records)])
    monkeypatch.chdir(tmp_path / "here")
    assert set(find_seen(first, first.records, seen)["how"]) == {"near copy of", "mirrored copy of", "exact copy of"}
