"""Duplicates: copies are found however they were changed, strangers are not, and all pairs are compared."""

import tracemalloc
from dataclasses import replace
from hashlib import sha256

import cv2
import numpy as np
import pandas as pd
import pytest

from foveal.fundus.fingerprint import even_count, fingerprint
from foveal.fundus.preparation import Preparation, prepare_file
from foveal.sets import candidates as candidates_of
from foveal.sets import duplicates
from foveal.sets.agreement import confirm
from foveal.sets.candidates import Pictures, candidates
from foveal.sets.duplicates import CONFIRMED, are_blank, find_duplicates
from foveal.sources.phantom import draw_phantom

CHANGES = {
    "jpeg": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1),
    "shrunk": lambda image: cv2.resize(image, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
    "cropped": lambda image: cv2.resize(image[4:-4, 4:-4], (128, 128)),
    "moved": lambda image: np.roll(image, 3, axis=1),
    "darker": lambda image: cv2.convertScaleAbs(image, alpha=0.6, beta=15),
    "grey": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None],
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "turned": lambda image: turned(image, 37),
    "turned by 163 degrees": lambda image: turned(image, 163),
    "turned on its side": lambda image: np.ascontiguousarray(np.rot90(image)),
    "upside down": lambda image: np.ascontiguousarray(image[::-1]),
    "mirrored and turned": lambda image: turned(image[:, ::-1], -72),
    "squeezed and turned": lambda image: turned(cv2.resize(image, (96, 128)), 50),
    "cropped to 70 %": lambda image: cv2.resize(image[19:-19, 19:-19], (128, 128)),
    "cropped at a corner": lambda image: cv2.resize(image[:90, 38:], (128, 128)),
    "turned and cropped": lambda image: turned(image, 37)[37:145, 30:138],
    "cropped to 80 %": lambda image: cv2.resize(image[13:-13, 13:-13], (128, 128)),
}
KINDS = {
    "mirrored": "mirrored",
    "cropped to 70 %": "overlapping",
    "cropped at a corner": "overlapping",
    "cropped to 80 %": "overlapping",
    "cropped": "near",
}


def turned(image, angle):
    """The picture turned about its middle, on a black square that holds all of it."""
    side = round(1.42 * max(image.shape[:2]))
    way = cv2.getRotationMatrix2D(((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2), angle, 1)
    way[:, 2] += (side - image.shape[1]) / 2, (side - image.shape[0]) / 2
    return cv2.warpAffine(np.ascontiguousarray(image), way, (side, side))


def mirrored(prints):
    """Fingerprints of the same pictures, mirrored left to right."""
    return np.concatenate([prints[..., : even_count()], -prints[..., even_count() :]], axis=-1)


@pytest.fixture(scope="module")
def phantoms():
    """12 strangers of one grade and eye."""
    return [draw_phantom(2, "left", 128, np.random.default_rng(seed)).image for seed in range(12)]


def collection(images):
    return Pictures(
        fingerprints=np.stack([fingerprint(image) for image in images]),
        hashes=np.array([sha256(image.tobytes()).hexdigest() for image in images]),
        read=lambda rows: [images[row] for row in rows],
    )


def random_prints(count, seed=0):
    return np.random.default_rng(seed).integers(-7, 8, (count, 254)).astype(np.int8)


def pairs(table):
    return list(zip(table["first"], table["second"], strict=True))


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_strangers_are_not(phantoms, change):
    images = phantoms[:6] + [CHANGES[change](image) for image in phantoms[:6]] + phantoms[6:]
    table = find_duplicates(collection(images))
    assert pairs(table) == [(row, row + 6) for row in range(6)]
    turned_kind = "turned" if "turned" in change or "upside" in change else "near"
    assert set(table["kind"]) == {KINDS.get(change, turned_kind)}
    assert table["similarity"].between(CONFIRMED if set(table["kind"]) <= {"near", "mirrored"} else 0.5, 1).all()


def test_two_collections(phantoms):
    table = find_duplicates(collection(phantoms[:4]), collection([CHANGES["mirrored"](phantoms[3]), phantoms[1]]))
    assert table.drop(columns="similarity").to_numpy().tolist() == [[1, 1, "exact"], [3, 0, "mirrored"]]
    assert pairs(find_duplicates(collection(phantoms[:4]), collection(phantoms[4:]))) == []


def test_exact_copies_are_not_read_and_stand_with_the_first(phantoms):
    def read(rows):
        raise AssertionError("equal hashes need no pixels")

    prints = np.stack([fingerprint(image) for image in phantoms[:3]])[[0, 1, 0, 2, 0]]
    pictures = Pictures(fingerprints=prints, hashes=np.array(list("abaca")), read=read)
    table = find_duplicates(pictures, near=False)
    assert table.to_numpy().tolist() == [[0, 2, "exact", 1.0], [0, 4, "exact", 1.0]]
    between = find_duplicates(pictures, pictures, near=False)
    assert pairs(between) == [(0, 0), (0, 2), (0, 4), (1, 1), (2, 0), (3, 3), (4, 0)]
    assert set(between["kind"]) == {"exact"}


def test_small_pictures_and_no_photographs_have_exact_copies_only(phantoms):
    small = [cv2.resize(image, (28, 28), interpolation=cv2.INTER_AREA) for image in phantoms[:3]]
    assert pairs(find_duplicates(collection([*small, CHANGES["darker"](small[0]), small[1]]))) == [(1, 4)]
    images = [*phantoms[:3], CHANGES["darker"](phantoms[0]), phantoms[1]]
    assert pairs(find_duplicates(collection(images), near=False)) == [(1, 4)]
    assert pairs(find_duplicates(collection(images))) == [(0, 3), (1, 4)]


def test_nothing_to_find():
    table = find_duplicates(Pictures(fingerprints=random_prints(0), hashes=np.array([], str), read=lambda rows: []))
    assert list(table.columns) == ["first", "second", "kind", "similarity"]
    assert len(table) == 0
    assert pd.api.types.is_integer_dtype(table["first"])


def test_the_same_table_twice_whatever_the_batches(phantoms, monkeypatch):
    images = phantoms[:5] + [CHANGES["jpeg"](image) for image in phantoms[:5]]
    table = find_duplicates(collection(images))
    monkeypatch.setattr(duplicates, "AT_ONCE", 2)
    monkeypatch.setattr(candidates_of, "_BLOCK", 3)
    pd.testing.assert_frame_equal(find_duplicates(collection(images)), table)


@pytest.mark.parametrize("within", [True, False])
def test_candidates_are_those_of_every_pair_mirrored_explicitly(monkeypatch, within):
    monkeypatch.setattr(candidates_of, "_BLOCK", 7)
    ours, theirs = random_prints(40), random_prints(25, seed=1)
    theirs = ours if within else theirs
    i, j, cosine, flipped = candidates(ours, None if within else theirs, threshold=0.1)

    def unit(prints):
        return prints / np.linalg.norm(prints.astype(float), axis=1, keepdims=True)

    plain, other = unit(ours) @ unit(theirs).T, unit(ours) @ unit(mirrored(theirs)).T
    best = np.maximum(plain, other)
    expected = np.nonzero((np.triu(best, 1) if within else best) > 0.1)
    np.testing.assert_array_equal([i, j], expected)
    np.testing.assert_allclose(cosine, best[expected], rtol=1e-5)
    np.testing.assert_array_equal(flipped, other[expected] > plain[expected])


def test_empty_fingerprints_are_like_no_other():
    assert len(candidates(np.zeros((5, 254), np.int8))[0]) == 0


def test_memory_grows_with_the_pictures_and_not_with_their_pairs():
    prints = random_prints(6000)
    tracemalloc.start()
    try:
        candidates(prints)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6000 * 254 * 4 * 3 + 2**25  # all pairs would take 144 MB


@pytest.mark.parametrize("size", [64, 128, 200])
def test_confirm_bridges_sizes_and_refuses_strangers(phantoms, size):
    other = cv2.resize(phantoms[0], (size, size), interpolation=cv2.INTER_AREA)
    assert confirm(phantoms[0], other) > 0.7
    assert confirm(phantoms[0], np.ascontiguousarray(other[:, ::-1]), mirrored=True) > 0.7
    assert confirm(phantoms[1], other) < 0.45
    assert confirm(np.zeros_like(phantoms[0]), other) == 0


def prepared(files):
    preparation = Preparation(size=256, crop="ellipse")
    return collection([prepare_file(file, preparation).pixels for file in files])


@pytest.mark.real
def test_messidor2(real_data):
    files = sorted((real_data / "messidor2" / "images").glob("20051202_5*_PP.jpg"))
    table = find_duplicates(prepared(files))
    numbers = [(files[a].stem[9:14], files[b].stem[9:14]) for a, b in pairs(table)]
    assert numbers == [("54547", "55498"), ("54555", "55484"), ("54611", "55562"), ("54744", "55582")]
    assert set(table["kind"]) == {"exact"}


@pytest.mark.real
def test_messidor2_patient_photographed_twice(real_data):
    names = ("20051116_54692", "20051116_54825", "20051212_36640", "20051212_37442")
    files = [real_data / "messidor2" / "images" / f"{name}_0400_PP.jpg" for name in names]
    assert pairs(find_duplicates(prepared(files))) == [(0, 3), (1, 2)]


@pytest.mark.real
def test_pictures_in_two_folders(real_data):
    folders = (real_data / "fundus_unlabelled" / kind for kind in ("cataract", "glaucoma"))
    files = [sorted(folder.glob("[1-9]*.jpg")) for folder in folders]
    table = find_duplicates(*(prepared(part) for part in files))
    exact = table[table["kind"] == "exact"]
    assert [files[0][row].stem for row in exact["first"]] == ["1415_right", "625_left"]
    assert [files[1][row].stem for row in exact["second"]] == ["1415_right", "625_left"]


@pytest.mark.real
def test_two_eyes_of_a_patient_are_no_mirrored_copies(real_data):
    assert len(find_duplicates(prepared(sorted((real_data / "eyepacs_fullres").rglob("*.jpeg"))))) == 0


def test_blank_frames_are_no_copies_of_each_other(phantoms):
    black = np.zeros_like(phantoms[0])
    assert pairs(find_duplicates(collection([black, phantoms[0], black, phantoms[0]]))) == [(1, 3)]
    assert pairs(find_duplicates(collection([black, phantoms[0]]), collection([phantoms[0], black]))) == [(1, 0)]


def test_of_many_exact_copies_only_those_without_details_are_read_and_few_at_a_time(phantoms):
    asked = []
    images = [np.full((28, 28, 3), level, np.uint8) for level in range(200)] * 2 + [phantoms[0]] * 2

    def read(rows):
        asked.append(list(rows))
        return [images[row] for row in rows]

    pictures = replace(collection(images), read=read)
    assert not are_blank(pictures, np.array([400])).any() and not asked
    assert pairs(find_duplicates(pictures)) == [(400, 401)]
    assert max(map(len, asked)) <= 128 and all(rows == sorted(set(rows)) for rows in asked)
