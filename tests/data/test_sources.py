import gzip
import pickle
import struct

import cv2
import numpy as np
import pandas as pd
import pytest

from foveal.data import cifar10, folder, messidor2, mnist, phantom_source, retinamnist, table
from foveal.data.cards import ICDR
from foveal.data.source import SourceOptions, patients_and_eyes

DEFAULT = SourceOptions()


def write_picture(path, value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((24, 24, 3), value, np.uint8))


def labels_of(source):
    return dict(zip(source.table["id"], source.table["label"].astype(object), strict=True))


def test_a_folder_per_class_is_ordered_by_number_not_by_letter(tmp_path):
    for name in ("2", "10", "1"):
        write_picture(tmp_path / name / f"a{name}.png")
    source = folder.load(tmp_path, DEFAULT)
    assert source.classes == ("1", "2", "10") and labels_of(source) == {"1/a1": 0, "10/a10": 2, "2/a2": 1}


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
    for name in "ab":
        write_picture(tmp_path / name / "x.png")
    write_picture(tmp_path / "thumb.png")
    source = folder.load(tmp_path, DEFAULT)
    assert source.classes == ("a", "b") and source.table["label"].isna().sum() == 1
    assert "1 pictures outside the class folders" in " ".join(source.notes)


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


def test_an_empty_folder_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match="no pictures found"):
        folder.load(tmp_path, DEFAULT)


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
    assert pd.isna(labels_of(source)["pictures/pool"]) and "1 pictures" in " ".join(source.notes)


@pytest.mark.parametrize("text", ["\ufeffimage;level\nx.png;1\ny.png;0\n", "image\tlevel\nx\t1\ny\t0\n"])
def test_tables_of_other_programs(tmp_path, text):
    write_picture(tmp_path / "x.png")
    write_picture(tmp_path / "y.png")
    assert labels_of(table.load(write_table(tmp_path, text), DEFAULT)) == {"x": 1, "y": 0}


def test_a_file_that_is_no_table_is_named(tmp_path):
    write_picture(tmp_path / "x.png")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        table.load(write_table(tmp_path, ""), DEFAULT)
    with pytest.raises(ValueError, match="expected a .csv file, or a folder with exactly one"):
        table.load(tmp_path / "nothing", DEFAULT)


def test_table_columns_by_option(tmp_path):
    write_picture(tmp_path / "x.png")
    write_picture(tmp_path / "y.png")
    file = write_table(tmp_path, "foto,grad,person,part\nx.png,1,p,train\ny.png,0,q,test\n")
    options = SourceOptions(image_column="foto", label_column="grad", group_column="person", split_column="part")
    source = table.load(file, options)
    assert list(source.table["group"]) == ["p", "q"] and list(source.table["split"]) == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "foto,level\nx,1\n",
            {},
            "no column could hold the image; name it with --image-column; it has 'foto', 'level'",
        ),
        ("image,level,grade\nx,1,1\n", {}, "2 columns could hold the label"),
        ("image,level\nx,1\n", {"label_column": "grad"}, "there is no column 'grad' .--label-column.; it has 'image'"),
        ("image,level\nx,1\n", {"group_column": "person"}, "there is no column 'person'"),
    ],
)
def test_missing_columns_are_named(tmp_path, text, options, message):
    write_picture(tmp_path / "x.png")
    with pytest.raises(ValueError, match=message):
        table.load(write_table(tmp_path, text), SourceOptions(**options))


def test_a_name_that_fits_two_pictures_is_refused(tmp_path):
    write_picture(tmp_path / "a" / "x.png")
    write_picture(tmp_path / "b" / "x.png")
    with pytest.raises(ValueError, match="'x' fits several pictures"):
        table.load(write_table(tmp_path, "image,level\nx,1\n"), DEFAULT)


HEADER = "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"


def messidor(root, rows):
    for name in ("20051020_43808_0100_PP", "20051020_43832_0100_PP", "IM000012", "IM000113"):
        write_picture(root / "images" / f"{name}.jpg")
    (root / "messidor_data.csv").write_text(HEADER + rows)
    return root


def test_messidor2_as_published(tmp_path):
    rows = "20051020_43808_0100_PP.png,3,0,1\nim000012.JPG,0,0,1\nIM000113.jpg,,,0\n"
    source = messidor2.load(messidor(tmp_path, rows), DEFAULT)
    graded = source.table[source.table["label"].notna()]
    assert list(graded["label"]) == [3, 0] and source.classes == ICDR
    pool = source.table[source.table["label"].isna()]
    assert list(pool["id"]) == ["20051020_43832_0100_PP"]  # the ungradable one is left out
    assert list(source.table["group"]) == ["20051020", "IM0000xx", "20051020"]


def test_messidor2_pairs_make_the_groups_when_they_are_there(tmp_path):
    root = messidor(tmp_path, "20051020_43808_0100_PP.png,3,0,1\n20051020_43832_0100_PP.png,1,0,1\n")
    (root / "messidor-2.csv").write_text("left;right\n20051020_43808_0100_PP.png;20051020_43832_0100_PP.png\n")
    assert set(messidor2.load(root, DEFAULT).table["group"][:2]) == {"20051020_43808_0100_pp"}


def test_messidor2_refuses_other_grades_and_headers(tmp_path):
    with pytest.raises(ValueError, match="grade '7' of IM000012.jpg is not in the card's classes 0-4"):
        messidor2.load(messidor(tmp_path, "IM000012.jpg,7,0,1\n"), DEFAULT)
    (tmp_path / "messidor_data.csv").write_text("image_id,grade\n")
    with pytest.raises(ValueError, match="missing column adjudicated_dr_grade, adjudicated_dme"):
        messidor2.load(tmp_path, DEFAULT)


def test_retinamnist(tmp_path):
    arrays = {}
    for number, part in enumerate(("train", "val", "test")):
        arrays[f"{part}_images"] = np.full((2, 28, 28, 3), number, np.uint8)
        arrays[f"{part}_labels"] = np.array([[number], [4]], np.uint8)
    np.savez(tmp_path / "retinamnist.npz", **arrays)
    source = retinamnist.load(tmp_path, DEFAULT)
    assert list(source.table["label"]) == [0, 4, 1, 4, 2, 4] and source.images[4, 0, 0, 0] == 2
    np.savez(tmp_path / "retinamnist.npz", train_images=arrays["train_images"])
    with pytest.raises(ValueError, match="missing arrays train_labels, val_images"):
        retinamnist.load(tmp_path, DEFAULT)


def write_idx(file, values):
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    file.write_bytes(gzip.compress(head + values.tobytes()) if file.suffix == ".gz" else head + values.tobytes())


def test_mnist_plain_and_gzipped(tmp_path):
    digits = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", digits)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([7, 1, 0], np.uint8))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", digits[:1])
    with pytest.raises(ValueError, match="MNIST needs t10k-labels-idx1-ubyte"):
        mnist.load(tmp_path, DEFAULT)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([9], np.uint8))
    source = mnist.load(tmp_path, DEFAULT)
    assert labels_of(source) == {"train/0": 7, "train/1": 1, "train/2": 0, "test/0": 9}
    assert np.array_equal(source.images[1, :, :, 0], digits[1])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x05a")
    with pytest.raises(ValueError, match="cut off: 1 of 5 bytes"):
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


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return (eval, ("1 + 1",))

    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        (tmp_path / name).write_bytes(pickle.dumps({b"data": Attack()}, protocol=2))
    with pytest.raises(ValueError, match="may not contain"):
        cifar10.load(tmp_path, DEFAULT)


def test_phantoms_are_a_source(tmp_path):
    from pathlib import Path

    source = phantom_source.load(Path("phantom:5"), SourceOptions(size=24))
    assert len(source.table) == 5 and source.images.shape == (5, 24, 24, 3) and source.table["group"].nunique() == 3
    with pytest.raises(ValueError, match="at least 2"):
        phantom_source.load(Path("phantom:1"), DEFAULT)
