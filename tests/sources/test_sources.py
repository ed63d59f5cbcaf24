import gzip
import io
import pickle
import struct
import typing
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.readout.scales import REFERABLE_FROM
from foveal.sets.records import open_prepared
from foveal.sources.cards import CARDS, ICDR
from foveal.sources.patients import patients_and_eyes
from foveal.sources.registry import SOURCES, DatasetName, list_cards, read_source
from foveal.sources.source import SourceOptions, merge_classes

DEFAULT = SourceOptions()
cifar10, folder, medmnist, mnist = (SOURCES[name] for name in ("cifar10", "folder", "medmnist", "mnist"))
phantom_source, retinamnist, table = (SOURCES[name] for name in ("phantom", "retinamnist", "table"))


def write_picture(path, value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((24, 24, 3), value, np.uint8))


def labels_of(source):
    return dict(zip(source.table["id"], source.table["label"].astype(object), strict=True))


def test_a_folder_per_class_is_ordered_by_number_not_by_letter(tmp_path):
    for name in ("2", "10", "1"):
        for number in range(3):
            write_picture(tmp_path / name / f"{number}.png")
    source = folder.load(tmp_path, DEFAULT)
    assert source.classes == ("1", "2", "10")
    assert labels_of(source).items() >= {"1/0": 0, "10/0": 2, "2/0": 1}.items()


def test_folders_zero_to_four_are_taken_for_icdr(tmp_path):
    for name in "01234":
        write_picture(tmp_path / name / "17_left.png")
    source = folder.load(tmp_path, DEFAULT)
    assert source.classes == ICDR and source.scale == "icdr" and set(source.table["group"]) == {"17"}


def test_icdr_names_are_in_the_order_of_the_scale_not_of_the_alphabet(tmp_path):
    for name in ICDR:
        write_picture(tmp_path / "folders" / name / "a.png")
        write_picture(tmp_path / "flat" / f"{name}.png")
    rows = "".join(f"{name},{name}\n" for name in ICDR)
    (tmp_path / "flat" / "labels.csv").write_text("image,grade\n" + rows)
    expected = {name: number for number, name in enumerate(ICDR)}
    from_folders = folder.load(tmp_path / "folders", DEFAULT)
    assert {name.split("/")[0]: label for name, label in labels_of(from_folders).items()} == expected
    assert labels_of(table.load(tmp_path / "flat", DEFAULT)) == expected and from_folders.scale == "icdr"


def test_a_stray_picture_does_not_hide_the_classes(tmp_path):
    for name in ("a/x", "a/y", "a/z", "b/x", "b/y", "b/z", "thumb"):
        write_picture(tmp_path / f"{name}.png")
    source = folder.load(tmp_path, DEFAULT)
    assert source.classes == ("a", "b") and source.table["label"].isna().sum() == 1
    assert any(note.startswith("1 ") for note in source.notes)


def test_linked_folders_are_read_and_circles_end(tmp_path):
    write_picture(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    assert list(folder.load(tmp_path / "photos", DEFAULT).table["id"]) == ["link/x"]


def test_parts_and_classes(tmp_path):
    for part in ("train", "valid", "test"):
        for name in ("healthy", "sick"):
            write_picture(tmp_path / part / name / f"{part}{name}.jpg")
    source = folder.load(tmp_path, DEFAULT)
    assert set(source.table["split"]) == {"train", "val", "test"} and source.classes == ("healthy", "sick")
    assert source.scale == "none" and source.task == "classification"


def test_a_flat_folder_is_an_unlabelled_pool(tmp_path):
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "a.jpg")
    write_picture(tmp_path / ".hidden" / "b.jpg")
    source = folder.load(tmp_path, DEFAULT)
    assert sorted(source.table["id"]) == ["a.jpg", "a.png"] and source.classes == ()
    assert source.table["label"].isna().all()


def test_an_empty_folder_and_none_are_refused(tmp_path, refuses):
    with refuses("source.no_pictures", tmp_path):
        folder.load(tmp_path, DEFAULT)
    with refuses("source.missing", tmp_path / "nothing"):
        read_source(tmp_path / "nothing", "auto", DEFAULT)
    (tmp_path / "notes.md").touch()
    with refuses("source.unknown", "notes.md", "table"):
        read_source(tmp_path / "notes.md", "auto", DEFAULT)


def test_classes_are_merged_by_number_or_name(tmp_path, refuses):
    for name in ICDR:
        write_picture(tmp_path / name / "a.png")
    source = folder.load(tmp_path, DEFAULT)
    merged = merge_classes(source, CARDS["folder"], "0,mild NPDR,2,3+4")
    assert merged.classes == (*ICDR[:3], "severe NPDR + proliferative DR") and merged.scale == "icdr 0,1,2,3+4"
    assert sorted(merged.table["label"]) == [0, 1, 2, 3, 3]
    again = merge_classes(merged, CARDS["folder"], "0,1+2+3")
    assert again.scale == "icdr 0,1+2+3+4" and sorted(again.table["label"]) == [0, 1, 1, 1, 1]
    assert merge_classes(source, CARDS["folder"], "0,1,2,3,4") is source
    for text, named in (("0,9", "'9'"), ("0,1+2,1,3+4", ICDR[1]), ("0,1+1,2,3+4", ICDR[1]), ("0,1+2", ICDR[3])):
        with refuses("option.value", "--classes", text, named):
            merge_classes(source, CARDS["folder"], text)


def test_patients_and_eyes():
    assert patients_and_eyes(["a/17_left", "17_OD", "IM001"]) == (["17", "17", ""], ["left", "right", ""])


def write_table(root, text):
    (root / "labels.csv").write_text(text)
    return root / "labels.csv"


def test_a_table_is_matched_by_name_whatever_the_order_case_or_ending(tmp_path):
    for name in ("B_1.JPG", "a_1.jpg", "pool.jpg"):
        write_picture(tmp_path / "pictures" / name.replace("JPG", "jpg"))
    file = write_table(tmp_path, "id_code , diagnosis\nb_1.png,2\na_1,0.0\n")
    source = table.load(file, DEFAULT)
    assert labels_of(source)["b_1"] == 1 and labels_of(source)["a_1"] == 0 and source.classes == ("0", "2")
    assert pd.isna(labels_of(source)["pictures/pool"]) and source.notes[-1].startswith("1 ")


@pytest.mark.parametrize("text", ["\ufeffimage;level\nx.png;1\ny.png;0\n", "image\tlevel\nx\t1\ny\t0\n"])
def test_tables_of_other_programs(tmp_path, text):
    write_picture(tmp_path / "x.png")
    write_picture(tmp_path / "y.png")
    assert labels_of(table.load(write_table(tmp_path, text), DEFAULT)) == {"x": 1, "y": 0}


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("", "table.damaged", ()),
        ("image,level,level \nx,1,2\n", "table.duplicate_column", ("'level'",)),
        ("image,level\nx,1,2\n", "table.extra_cells", ()),
        ("image,level\nx.png,1\nx.jpg,0\n", "table.ambiguous_image", ("row 3", "x.png", "x.jpg")),
    ],
)
def test_a_faulty_table_is_named(tmp_path, refuses, text, code, named):
    write_picture(tmp_path / "x.png")
    with refuses(code, "labels.csv", *named):
        table.load(write_table(tmp_path, text), DEFAULT)


def test_ids_named_twice_and_unknown_splits_are_refused(tmp_path, refuses):
    write_picture(tmp_path / "x.png")
    file = write_table(tmp_path, "image,level,part\nx,1,holdout\n")
    with refuses("split.unknown", "holdout", "unlabelled"):
        read_source(file, "table", SourceOptions(split_column="part"))
    with refuses("table.duplicate_image", file, "x"):
        read_source(write_table(tmp_path, "image,level\nx,1\nx,0\n"), "table", DEFAULT)


def test_table_columns_by_option(tmp_path):
    write_picture(tmp_path / "x.png")
    write_picture(tmp_path / "y.png")
    file = write_table(tmp_path, "foto,grad,person,part\nx.png,1,p,train\ny.png,0,q,Valid\n")
    options = SourceOptions(image_column="foto", label_column="grad", group_column="person", split_column="part")
    source = table.load(file, options)
    assert list(source.table["group"]) == ["p", "q"] and list(source.table["split"]) == ["train", "val"]


@pytest.mark.parametrize(
    ("text", "options", "code", "named"),
    [
        ("blatt,level\nx,1\n", {}, "table.missing_column", ("--image-column", "'blatt', 'level'")),
        ("image,level,grade\nx,1,1\n", {}, "table.ambiguous_column", ("--label-column", 2)),
        ("image,level\nx,1\n", {"label_column": "grad"}, "table.missing_column", ("--label-column", "grad", "'image'")),
        ("image,level\nx,1\n", {"group_column": "person"}, "table.missing_column", ("--group-column", "person")),
        ("image,level\nx,1\n", {"group_column": ""}, "table.missing_column", ("--group-column",)),
        ("image,level\nx,1\n", {"split_column": ""}, "table.missing_column", ("--split-column",)),
    ],
)
def test_missing_columns_are_named(tmp_path, refuses, text, options, code, named):
    write_picture(tmp_path / "x.png")
    with refuses(code, "labels.csv", *named) as caught:
        table.load(write_table(tmp_path, text), SourceOptions(**options))
    assert bool(caught.value.fix) != bool(options)  # no advice to give an option that was given


def test_a_name_that_matches_two_pictures_is_refused(tmp_path, refuses):
    write_picture(tmp_path / "a" / "x.png")
    write_picture(tmp_path / "b" / "x.png")
    with refuses("table.ambiguous_image", "labels.csv", "row 2", "'x'", tmp_path / "a" / "x.png"):
        table.load(write_table(tmp_path, "image,level\nx,1\n"), DEFAULT)


def test_an_image_folder_with_metadata_in_each_part(tmp_path):
    for part, label in (("train", 3), ("validation", 0), ("test", 1)):
        write_picture(tmp_path / part / "x.png")
        (tmp_path / part / "metadata.csv").write_text(f"file_name,label\nx.png,{label}\n")
    write_picture(tmp_path / "train" / "pool.png")
    source = table.load(tmp_path, DEFAULT)
    assert dict(zip(source.table["id"], source.table["split"], strict=True)) == {
        "train/x": "train", "validation/x": "val", "test/x": "test", "train/pool": "",
    }  # fmt: skip
    assert source.classes == ("0", "1", "3") and set(source.table["file"]) >= {"train/x.png", "validation/x.png"}
    assert labels_of(source)["train/x"] == 2 and pd.isna(labels_of(source)["train/pool"])


def test_metadata_at_the_top_wins_over_other_tables(tmp_path):
    for name in "xy":
        write_picture(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\npictures/x.png,1\npictures/y.png,0\n")
    (tmp_path / "patients.csv").write_text("id,age\n1,50\n")
    assert table.recognise(tmp_path) and labels_of(table.load(tmp_path, DEFAULT)) == {"pictures/x": 1, "pictures/y": 0}


def test_back_slashes_and_western_letters_in_a_table(tmp_path):
    write_picture(tmp_path / "photos" / "x.png")
    write_picture(tmp_path / "photos" / "y.png")
    (tmp_path / "labels.csv").write_bytes(
        "image,level,clinic\nphotos\\x.png,1,Lariboisi\u00e8re\nphotos\\Y,0,-\n".encode("cp1252")
    )
    assert labels_of(table.load(tmp_path, DEFAULT)) == {"photos/x": 1, "photos/Y": 0}


def test_the_pool_has_the_patients_of_a_column_where_their_names_agree(tmp_path):
    for name in ("17_left", "17_right", "18_left"):
        write_picture(tmp_path / f"{name}.png")
    file = write_table(tmp_path, "image,level,person\n17_left,1,p\n")
    (tmp_path / "._labels.csv").write_bytes(b"\0")  # what a Mac leaves behind is no table
    assert list(table.load(tmp_path, SourceOptions(group_column="person")).table["group"]) == ["p", "p", ""]
    write_table(tmp_path, "image,level\n17_left,1\n")
    assert list(table.load(file, DEFAULT).table["group"]) == ["17", "17", "18"]


def test_a_row_without_a_picture_keeps_its_name_and_a_taken_id_keeps_its_ending(tmp_path):
    write_picture(tmp_path / "x.png")
    write_picture(tmp_path / "x.jpg")
    source = table.load(write_table(tmp_path, "image,level\nx.png,1\ngone.png,0\n"), DEFAULT)
    assert list(source.table["file"]) == ["x.png", "gone.png", "x.jpg"]
    assert list(source.table["id"]) == ["x", "gone", "x.jpg"]


def write_arrays(file, shape=(2, 28, 28, 3), labels=((0, 4), (1, 4), (2, 4))):
    arrays = {}
    for number, part in enumerate(("train", "val", "test")):
        arrays[f"{part}_images"] = np.full(shape, number, np.uint8)
        arrays[f"{part}_labels"] = np.array([labels[number]], np.uint8).T
    np.savez(file, **arrays)
    return arrays


@pytest.mark.parametrize("name", ["retinamnist.npz", "retinamnist_224.npz"])
def test_retinamnist(tmp_path, refuses, name):
    arrays = write_arrays(tmp_path / name)
    source = retinamnist.load(tmp_path, DEFAULT)
    assert list(source.table["label"]) == [0, 4, 1, 4, 2, 4] and source.images[4, 0, 0, 0] == 2
    assert source.classes == ICDR and list(source.table["id"])[1:3] == ["train/1", "val/0"]
    np.savez(tmp_path / name, train_images=arrays["train_images"])
    with refuses("source.arrays", name, "train_labels, val_images"):
        retinamnist.load(tmp_path, DEFAULT)
    write_arrays(tmp_path / name, labels=((0, 1), (0, 5), (0, 1)))
    with refuses("label.value", f"{name}#val/1", 5):
        retinamnist.load(tmp_path, DEFAULT)


def test_any_other_set_of_medmnist_grey_or_colour(tmp_path):
    write_arrays(tmp_path / "octmnist.npz", (2, 28, 28), ((0, 3), (1, 1), (2, 0)))
    source = medmnist.load(tmp_path / "octmnist.npz", DEFAULT)
    assert source.images.shape == (6, 28, 28, 1) and source.classes == ("0", "1", "2", "3")
    assert list(source.table["split"]) == ["train", "train", "val", "val", "test", "test"]
    assert medmnist.recognise(tmp_path) and not retinamnist.recognise(tmp_path)
    (tmp_path / "octmnist.npz").write_bytes(b"cut off")
    assert not medmnist.recognise(tmp_path)
    np.savez(tmp_path / "octmnist.npz", x_train=np.zeros(3))
    assert not medmnist.recognise(tmp_path)


@pytest.mark.parametrize(
    ("array", "value", "named"),
    [
        ("train_labels", np.zeros((2, 14), np.uint8), ("#train", 28, 2)),
        ("val_labels", np.zeros((3, 1), np.uint8), ("#val", 3, 2)),
        ("test_images", np.zeros((2, 28, 28, 28), np.uint8), ("#test", "28, 28, 28")),
        ("train_images", np.zeros((2, 28, 28)), ("#train", "float64")),
    ],
)
def test_labels_and_volumes_that_medmnist_cannot_have_here_are_refused(tmp_path, refuses, array, value, named):
    arrays = write_arrays(tmp_path / "chestmnist.npz", (2, 28, 28))
    np.savez(tmp_path / "chestmnist.npz", **{**arrays, array: value})
    with refuses("source.arrays", "chestmnist.npz", *named):
        medmnist.load(tmp_path, DEFAULT)


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["a", "b"], "a"),
        ([0.0, 0.5], 0.5),
        ([1.0, -2.0], "-2"),
        ([0, np.inf], "inf"),
        ([0j, 1j], "0j"),
    ],
)
def test_labels_that_are_not_whole_numbers_are_refused(tmp_path, refuses, labels, named):
    arrays = write_arrays(tmp_path / "bloodmnist.npz", (2, 28, 28))
    np.savez(tmp_path / "bloodmnist.npz", **{**arrays, "val_labels": np.array(labels)})
    with refuses("label.value", "bloodmnist.npz#val/", named):
        medmnist.load(tmp_path, DEFAULT)


def test_arrays_may_hold_images_without_a_grade(tmp_path):
    arrays = write_arrays(tmp_path / "retinamnist.npz")
    labels = {"train_labels": np.array([[np.nan], [4.0]]), "test_labels": np.array([-1, 3], np.int8)}
    np.savez(tmp_path / "retinamnist.npz", **{**arrays, **labels})
    table = retinamnist.load(tmp_path, DEFAULT).table
    assert table["label"].fillna(-1).tolist() == [-1, 4, 1, 4, -1, 3]
    out = foveal.prepare(tmp_path / "retinamnist.npz", out=tmp_path / "set")
    assert open_prepared(out).part("unlabelled")["id"].tolist() == ["train/0", "test/0"]
    none = {f"{part}_labels": np.full(2, -1) for part in ("train", "val", "test")}
    np.savez(tmp_path / "octmnist.npz", **{**arrays, **none})
    assert medmnist.load(tmp_path / "octmnist.npz", DEFAULT).classes == ()


def test_an_array_of_objects_is_called_that_and_never_unpickled(tmp_path, refuses):
    class Written:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    arrays = write_arrays(tmp_path / "retinamnist.npz")
    for value in (None, Written()):
        np.savez(tmp_path / "retinamnist.npz", **{**arrays, "val_labels": np.array([[value], [1]], object)})
        with refuses("source.arrays", "retinamnist.npz", "val_labels", "dtype object", "-1", "NaN"):
            retinamnist.load(tmp_path, DEFAULT)
    assert not (tmp_path / "ran").exists()


def test_names_sources_and_cards_agree():
    assert typing.get_args(DatasetName) == ("auto", *SOURCES)
    assert set(CARDS) == set(SOURCES) and list(SOURCES)[-2:] == ["table", "folder"]
    assert all(card.layout and card.title for card in CARDS.values())
    assert {card.scale for card in CARDS.values()} == {"icdr", "messidor", "none"} and "messidor" not in REFERABLE_FROM


def test_the_list_names_every_source_with_its_files(capsys):
    list_cards()
    said = capsys.readouterr().out
    assert all(f"\n{name}: {CARDS[name].title}\n" in f"\n{said}" for name in SOURCES)
    assert "messidor_data.csv" in said and "1805/370/999/193/295" in said and "Base33" in said


def test_a_guess_names_the_source_and_its_columns(tmp_path, capsys):
    write_picture(tmp_path / "x.png")
    write_table(tmp_path, "image,level\nx,1\n")
    assert read_source(tmp_path, "auto", DEFAULT)[0] == "table"
    assert read_source(tmp_path / "labels.csv", "auto", DEFAULT)[0] == "table"
    said = " ".join(capsys.readouterr().out.split())
    assert "table" in said and "labels.csv: images from column 'image', labels from column 'level'" in said


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in {"folder", "phantom"}])
def test_a_forced_source_says_what_it_looked_for(tmp_path, refuses, name):
    write_picture(tmp_path / "x.png")
    with refuses("source.layout", tmp_path, name, CARDS[name].layout):
        read_source(tmp_path, name, DEFAULT)


def write_idx(file, values):
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    file.write_bytes(gzip.compress(head + values.tobytes()) if file.suffix == ".gz" else head + values.tobytes())


def test_mnist_plain_and_gzipped(tmp_path, refuses):
    digits = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", digits)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([7, 1, 0], np.uint8))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", digits[:1])
    with refuses("source.missing_file", "t10k-labels-idx1-ubyte"):
        mnist.load(tmp_path, DEFAULT)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([9], np.uint8))
    source = mnist.load(tmp_path, DEFAULT)
    assert labels_of(source) == {"train/0": 7, "train/1": 1, "train/2": 0, "test/0": 9}
    assert np.array_equal(source.images[1, :, :, 0], digits[1])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x05a")
    with refuses("source.damaged", "t10k-labels-idx1-ubyte"):
        mnist.load(tmp_path, DEFAULT)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([9, 1], np.uint8))
    with refuses("source.arrays", "t10k-images-idx3-ubyte", 2, 1):
        mnist.load(tmp_path, DEFAULT)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x0c")
    with refuses("source.damaged", "t10k-labels-idx1-ubyte"):
        mnist.load(tmp_path, DEFAULT)


def test_cifar10_batches_and_npz_hold_the_same_pictures(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(12) % 10
    official = tmp_path / "cifar-10-batches-py"
    official.mkdir()
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        part = slice(2 * number, 2 * number + 2)
        rows = images[part].transpose(0, 3, 1, 2).reshape(2, -1)
        (official / name).write_bytes(pickle.dumps({b"data": rows, b"labels": labels[part].tolist()}, protocol=2))
    from_batches = cifar10.load(tmp_path, DEFAULT)
    assert np.array_equal(from_batches.images, images) and list(from_batches.table["label"]) == labels.tolist()
    np.savez(tmp_path / "cifar10.npz", x_train=images[:10], y_train=labels[:10], x_test=images[10:], y_test=labels[10:])
    assert np.array_equal(cifar10.load(tmp_path, DEFAULT).images, images)


def test_a_pickle_that_runs_code_is_refused(tmp_path, refuses):
    class Attack:
        def __reduce__(self):
            return (eval, ("1 + 1",))

    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        (tmp_path / name).write_bytes(pickle.dumps({b"data": Attack()}, protocol=2))
    with refuses("source.unsafe", "eval"):
        cifar10.load(tmp_path, DEFAULT)


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (np.zeros((2, 32, 32, 4), np.uint8), (32, 4)),
        (np.zeros((2, 32, 32)), ("float64",)),
        (np.zeros((2, 28, 32, 3), np.uint8), (28, 32)),
        (np.zeros((2, 32, 32), np.uint8), ("(32, 32, 1)", "(32, 32, 3)")),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path, refuses, images, named):
    arrays = {"x_train": np.zeros((2, 32, 32, 3), np.uint8), "y_train": [0, 1], "x_test": images, "y_test": [0, 1]}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    with refuses("source.arrays", "cifar10#test", *named):
        read_source(tmp_path, "cifar10", DEFAULT)


def test_phantoms_are_a_source(refuses):
    source = phantom_source.load(Path("phantom:5"), SourceOptions(size=24))
    assert len(source.table) == 5 and source.images.shape == (5, 24, 24, 3) and source.table["group"].nunique() == 3
    for name, code in (("phantom:1", "source.phantom"), ("phantoms", "source.layout")):
        with refuses(code, name):
            phantom_source.load(Path(name), DEFAULT)


def test_a_name_with_a_folder_fits_no_picture_of_another_folder(tmp_path):
    for name in ("test/x1.png", "test/x2.png", "train/x3.png"):
        write_picture(tmp_path / name)
    write_table(tmp_path, "image,grade\ntrain/x1.png,0\ntest/x2.png,1\ntrain/x3.png,1\n")
    source = table.load(tmp_path, DEFAULT)
    assert dict(zip(source.table["id"], source.table["file"], strict=True))["train/x1"] == "train/x1.png"
    assert source.table.set_index("file")["label"].astype(object)["test/x1.png"] is pd.NA


def test_names_with_dots_keep_their_tail(tmp_path):
    for name in ("img.1.png", "img.2.png"):
        write_picture(tmp_path / name)
    write_table(tmp_path, "image,grade\nimg.1,0\nimg.2,1\n")
    assert table.load(tmp_path, DEFAULT).table["file"].tolist() == ["img.1.png", "img.2.png"]


def test_names_that_no_table_can_hold_are_refused_before_any_work(tmp_path, refuses):
    write_picture(tmp_path / "a.png")
    (tmp_path / "b\rc.png").write_bytes((tmp_path / "a.png").read_bytes())
    with refuses("source.names", tmp_path, "b\\rc.png"):
        read_source(tmp_path, "folder", DEFAULT)


def test_columns_are_for_tables_only(tmp_path, refuses):
    write_picture(tmp_path / "0" / "a.png")
    with refuses("option.conflict", tmp_path, "folder", "--label-column", "--dataset table"):
        read_source(tmp_path, "folder", SourceOptions(label_column="x"))
    with refuses("option.conflict", "--group-column"):
        read_source(tmp_path, "folder", SourceOptions(group_column=""))


def written(save, array):
    """The bytes of a file of numpy."""
    save(stream := io.BytesIO(), array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "file", "data"),
    [
        ("mnist", "train-images-idx3-ubyte.gz", gzip.compress(bytes(1000), mtime=0)[:20]),
        ("mnist", "train-images-idx3-ubyte", b"\0\0\x08\x03\0"),
        ("cifar10", "cifar10.npz", b"not arrays"),
        ("cifar10", "data_batch_1", pickle.dumps({b"images": 1}, protocol=2)),
        ("cifar10", "data_batch_1", pickle.dumps({b"data": b"x", b"labels": []}, protocol=2)[:-3]),
        ("cifar10", "data_batch_1", pickle.dumps([1, 2], protocol=2)),
        ("mnist", "train-images-idx3-ubyte", b"\0\0\x08"),
        ("retinamnist", "retinamnist.npz", b"PK\3\4 cut off"),
        ("retinamnist", "retinamnist.npz", written(np.save, np.zeros(3))),
        ("medmnist", "octmnist.npz", written(np.savez, np.zeros(3)).replace(b"PK\1\2", b"PK\0\0")),
    ],
    ids=range(10),
)
def test_a_damaged_file_is_one_error(tmp_path, refuses, name, file, data):
    (tmp_path / file).write_bytes(data)
    with refuses("source.damaged", tmp_path / file):
        read_source(tmp_path, "auto", DEFAULT)


def test_a_fault_in_a_reader_is_not_taken_for_damage(tmp_path, monkeypatch):
    write_picture(tmp_path / "0" / "a.png")
    monkeypatch.setattr(type(folder), "_read", lambda *_: {}["absent"])
    with pytest.raises(KeyError):
        read_source(tmp_path, "folder", DEFAULT)


def test_a_file_that_may_not_be_read_is_one_error(tmp_path, refuses, monkeypatch):
    def refuse(*_):  # root may read everything, so the refusal is made
        raise PermissionError(13, "Permission denied")

    write_picture(tmp_path / "x.png")
    file = write_table(tmp_path, "image,level\nx,1\n")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with refuses("source.damaged", file, "Permission denied"):
        read_source(file, "table", DEFAULT)


def test_of_two_links_to_a_folder_the_first_by_name_counts(tmp_path):
    write_picture(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "photos").mkdir()
    for name in ("b", "a"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "elsewhere")
    write_picture(tmp_path / "photos" / ".trash" / "y.png")
    assert list(folder.load(tmp_path / "photos", DEFAULT).table["id"]) == ["a/x"]


def test_a_patient_written_in_two_ways_is_one_and_a_column_of_parts_is_named(tmp_path):
    patients, parts = ["002", "2", "P7", "p7", "0", "20"], ["train", "train", "valid", "valid", "test", ""]
    rows = [
        f"{row}.png,{row % 5},{patient},{part}" for row, (patient, part) in enumerate(zip(patients, parts, strict=True))
    ]
    for number in range(6):
        write_picture(tmp_path / f"{number}.png")
    source = read_source(write_table(tmp_path, "\n".join(["image,level,patient,use", *rows])), "table", DEFAULT)[1]
    assert source.table["group"].tolist() == ["002", "002", "P7", "P7", "0", "20"]
    assert "--split-column use" in " ".join(source.notes) and not any(source.table["split"])


def test_two_levels_that_may_be_classes_are_refused_and_words_of_grades_decide(tmp_path, refuses):
    for upper in ("Canon", "Topcon"):
        for lower in ("referable", "other"):
            for number in range(3):
                write_picture(tmp_path / "unclear" / upper / lower / f"{upper}{lower}{number}.png")
        for lower in ("DR", "Normal"):
            for number in range(3):
                write_picture(tmp_path / "clear" / upper / lower / f"{upper}{lower}{number}.png")
    with refuses("source.shape", "Canon, Topcon", "other, referable"):
        read_source(tmp_path / "unclear", "folder", DEFAULT)
    assert set(read_source(tmp_path / "clear", "folder", DEFAULT)[1].classes) == {"DR", "Normal"}
