"""The public data sets, each as it is published and as it is often passed on, in miniature."""

import shutil
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import xlwt

from foveal.sources.cards import ICDR, MESSIDOR
from foveal.sources.registry import SOURCES, read_source
from foveal.sources.source import SourceOptions
from foveal.sources.tables import read_rows

DEFAULT = SourceOptions()
aptos, ddr, deepdrid, eyepacs = (SOURCES[name] for name in ("aptos2019", "ddr", "deepdrid", "eyepacs"))
idrid, messidor, messidor2 = (SOURCES[name] for name in ("idrid", "messidor", "messidor2"))


def write(file, text, encoding="utf-8"):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding=encoding)
    return file


def write_pictures(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))


def touch_pictures(folder, names):
    folder.mkdir()
    for name in names:
        (folder / name).touch()


def column(source, name):
    return dict(zip(source.table["id"], source.table[name].astype(object), strict=True))


def graded(source):
    table = source.table[source.table["label"].notna()]
    return dict(zip(table["id"], table["label"], strict=True))


def counts(source, split):
    labels = source.table["label"][source.table["split"] == split]
    return labels.value_counts().sort_index().tolist()


def knows(root):
    """The first source that takes `root` for its own."""
    return next(name for name, source in SOURCES.items() if source.recognise(root))


# APTOS 2019


def test_aptos_as_published(tmp_path):
    write(tmp_path / "train.csv", "\ufeffid_code,diagnosis\r\n000c1434d8d7,2\r\n001639a390f0 ,4\r\nffffffffffff,0\r\n")
    write(tmp_path / "test.csv", "id_code\nabcabcabcabc\n")
    write_pictures(tmp_path / "train_images", "000c1434d8d7.png", "001639a390f0.PNG")
    write_pictures(tmp_path / "test_images", "abcabcabcabc.png")
    assert knows(tmp_path) == "aptos2019"
    source = aptos.load(tmp_path, DEFAULT)
    assert graded(source) == {"000c1434d8d7": 2, "001639a390f0": 4, "ffffffffffff": 0} and source.classes == ICDR
    assert column(source, "file") == {
        "000c1434d8d7": "train_images/000c1434d8d7.png",
        "001639a390f0": "train_images/001639a390f0.PNG",
        "ffffffffffff": "ffffffffffff",
        "test_images/abcabcabcabc": "test_images/abcabcabcabc.png",
    }
    assert set(source.table["split"]) == {""}


def test_aptos_as_repacked_keeps_the_split(tmp_path, refuses):
    for file, name, folder in (
        ("train_1.csv", "00000000000a", "train_images/train_images"),
        ("valid.csv", "00000000000b", "val_images/val_images"),
        ("test.csv", "00000000000c", "test_images/test_images"),
    ):
        write(tmp_path / file, f"id_code,diagnosis\n{name},1\n")
        write_pictures(tmp_path / folder, f"{name}.png")
    assert knows(tmp_path) == "aptos2019"
    assert list(aptos.load(tmp_path, DEFAULT).table["split"]) == ["train", "val", "test"]
    write(tmp_path / "valid.csv", "id,diagnosis\n00000000000b,1\n")
    with refuses("table.missing_column", "valid.csv", "id_code"):
        aptos.load(tmp_path, DEFAULT)


@pytest.mark.parametrize("grade", ["5", "-2", "1.5"])
def test_aptos_refuses_other_grades(tmp_path, refuses, grade):
    write_pictures(tmp_path, "000c1434d8d7.png")
    write(tmp_path / "train.csv", f"id_code,diagnosis\n000c1434d8d6,1\n000c1434d8d7,{grade}\n")
    with refuses("label.value", "train.csv", "row 3", "000c1434d8d7", f"'{grade}'"):
        aptos.load(tmp_path, DEFAULT)


def test_another_table_with_the_columns_of_aptos_is_not_taken_for_it(tmp_path):
    write(tmp_path / "train.csv", "id_code,diagnosis\npatient7,2\n")
    assert knows(tmp_path) == "table"


# EyePACS


def write_eyepacs(root):
    write(root / "trainLabels.csv", "image,level\n10_left,0\n10_right,2\n")
    write_pictures(root / "train", "10_left.jpeg", "10_right.jpeg")
    write_pictures(root / "test", "1_left.jpeg", "2_right.jpeg")
    return root


def test_eyepacs_training_part_alone(tmp_path):
    source = eyepacs.load(write_eyepacs(tmp_path), DEFAULT)
    assert knows(tmp_path) == "eyepacs" and graded(source) == {"10_left": 0, "10_right": 2}
    assert column(source, "group") == {"10_left": "10", "10_right": "10", "test/1_left": "1", "test/2_right": "2"}
    assert column(source, "eye")["10_right"] == "right" and set(source.table["split"]) == {""}


def test_eyepacs_with_the_solution_as_test_part(tmp_path):
    write_eyepacs(tmp_path)
    write(
        tmp_path / "retinopathy_solution.csv",
        "image,level,Usage\n1_left,4,Private\n2_right,1,Public\n3_left,0,Public\n",
    )
    source = eyepacs.load(tmp_path, DEFAULT)
    assert column(source, "split") == {
        "10_left": "train", "10_right": "train", "1_left": "test", "2_right": "test", "3_left": "test",
    }  # fmt: skip
    assert column(source, "flags") == {
        "10_left": "", "10_right": "", "1_left": "private", "2_right": "public", "3_left": "public",
    }  # fmt: skip
    assert column(source, "file")["3_left"] == "3_left" and column(source, "file")["1_left"] == "test/1_left.jpeg"


@pytest.mark.parametrize(
    ("file", "text", "code", "named"),
    [
        ("trainLabels.csv", "image,level\n10_left,7\n", "label.value", "'7'"),
        ("trainLabels.csv", "image,level\nleft10,1\n", "table.image_name", "left10"),
        ("retinopathy_solution.csv", "image,level,Usage\n1_left,1,public\n", "table.value", "'public'"),
    ],
)
def test_eyepacs_refuses(tmp_path, refuses, file, text, code, named):
    write_pictures(tmp_path, "10_left.jpeg")
    write(tmp_path / file, text)
    with refuses(code, file, "row 2", named):
        eyepacs.load(tmp_path, DEFAULT)


# Messidor-1

NAMES = ("20051019_38557_0100_PP", "20051020_43808_0100_PP", "20051020_43832_0100_PP")


def write_xls(
    file, rows, columns=("Image name", "Ophthalmologic department", "Retinopathy grade", "Risk of macular edema ")
):
    file.parent.mkdir(parents=True, exist_ok=True)
    book = xlwt.Workbook()
    sheet = book.add_sheet("Feuil1")
    book.add_sheet("Feuil2")
    for number, row in enumerate([columns, *rows]):
        for place, cell in enumerate(row):
            sheet.write(number, place, cell)
    book.save(str(file))


def test_messidor_as_published(tmp_path):
    write_xls(tmp_path / "Base11" / "Annotation_Base11.xls", [(f"{NAMES[0]}.tif", "Lariboisière", 3, 1)])
    write_xls(tmp_path / "Base34" / "Annotation_Base34.xls", [(f"{name}.tif", "Brest", 1, 0) for name in NAMES[1:]])
    write_pictures(tmp_path / "Base11", f"{NAMES[0]}.tif")
    write_pictures(tmp_path / "Base34", f"{NAMES[1]}.TIF", "20051021_00000_0100_PP.tif")
    assert knows(tmp_path) == "messidor"
    source = messidor.load(tmp_path, DEFAULT)
    assert graded(source) == {NAMES[0]: 3, NAMES[1]: 1, NAMES[2]: 1} and source.classes == MESSIDOR
    assert list(source.table["group"]) == ["20051019", "20051020", "20051020", "20051021"]
    assert list(source.table["file"])[1:3] == [f"Base34/{NAMES[1]}.TIF", f"{NAMES[2]}.tif"]
    warned = " ".join(source.notes[1:])  # of the uncorrected table; the first note names all tables
    assert "Annotation_Base11.xls" in warned and "Base33" not in warned


def test_messidor_takes_the_corrected_table_of_a_base(tmp_path):
    write_pictures(tmp_path, f"{NAMES[0]}.tif")
    write_xls(tmp_path / "Annotation_Base11.xls", [(f"{NAMES[0]}.tif", "x", 3, 1)])
    write_xls(tmp_path / "Annotation_Base11_update20161024.xls", [(f"{NAMES[0]}.tif", "x", 2, 1)])
    source = messidor.load(tmp_path, DEFAULT)
    assert graded(source) == {NAMES[0]: 2} and "Base11" not in " ".join(source.notes[1:])


def test_messidor_tables_saved_as_csv(tmp_path):
    write_pictures(tmp_path / "Base11", f"{NAMES[0]}.tif")
    header = "Image name,Ophthalmologic department,Retinopathy grade,Risk of macular edema \n"
    write(tmp_path / "Annotation_Base11.csv", f"{header}{NAMES[0]}.tif,Lariboisière,2,0\n", "cp1252")
    assert knows(tmp_path) == "messidor" and graded(messidor.load(tmp_path, DEFAULT)) == {NAMES[0]: 2}


def test_messidor_refuses_other_columns_and_grades(tmp_path, refuses):
    write_pictures(tmp_path, f"{NAMES[0]}.tif")
    write_xls(tmp_path / "Annotation_Base11.xls", [(f"{NAMES[0]}.tif", "x", 4, 1)])
    with refuses("label.value", "Annotation_Base11.xls", NAMES[0], "'4'"):
        messidor.load(tmp_path, DEFAULT)
    write_xls(tmp_path / "Annotation_Base11.xls", [(f"{NAMES[0]}.tif", 1)], ("Image name", "grade"))
    with refuses("table.missing_column", "Annotation_Base11.xls", "Retinopathy grade"):
        messidor.load(tmp_path, DEFAULT)


def test_a_text_that_is_called_xls_is_refused(tmp_path, refuses):
    write(tmp_path / "Annotation_Base11.xls", "Image name\tRetinopathy grade\n")
    with refuses("table.damaged", "Annotation_Base11.xls"):
        messidor.load(tmp_path, DEFAULT)


def test_excel_files_need_a_package(tmp_path, refuses, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)  # as if it were not installed
    write_xls(tmp_path / "Annotation_Base11.xls", [(f"{NAMES[0]}.tif", "x", 1, 1)])
    with refuses("package.missing", "Annotation_Base11.xls", "foveal[excel]"):
        messidor.load(tmp_path, DEFAULT)
    (write_deepdrid(tmp_path) / "Online-Challenge1&2-Evaluation" / "Challenge1_labels.xlsx").touch()
    with refuses("package.missing", "Challenge1_labels.xlsx", "foveal[excel]"):
        deepdrid.load(tmp_path, DEFAULT)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            f",image,quality,type,Retinopathy_grade,Risk_of_macular_edema\n0,{NAMES[0]},0,_000,3,1\n1,{NAMES[1]},2,_111,0,0\n",
            ["quality-0 type_000", "quality-2 type_111"],
        ),
        (f"image, Retinopathy_grade\n{NAMES[0]},3\n{NAMES[1]},0\n", ["", ""]),
        (f"Retinopathy_grade,image\n3,{NAMES[0]}\n0,{NAMES[1]}\n", ["", ""]),
    ],
)
def test_messidor_as_the_course_has_it(tmp_path, text, flags):
    write(tmp_path / "Mess1_annotation_train.csv", text)
    write_pictures(tmp_path / "train", f"{NAMES[0]}.png", f"{NAMES[1]}.png", f"{NAMES[2]}.png")
    assert knows(tmp_path) == "messidor"
    source = messidor.load(tmp_path, DEFAULT)
    assert graded(source) == {NAMES[0]: 3, NAMES[1]: 0} and list(source.table["flags"]) == [*flags, ""]
    assert column(source, "group")[NAMES[2]] == "20051020" and source.classes == MESSIDOR


@pytest.mark.parametrize("name", [f"{NAMES[0]}.png", "IDRiD_001.tif"])
def test_a_table_is_taken_for_messidor_only_by_its_names(tmp_path, name):
    write(tmp_path / "train_labels.csv", f"image_fname,diagnosis,id_code\n{name},3,{name}\n")
    assert knows(tmp_path) == "table"


# Messidor-2

HEADER = "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"


def write_messidor2(root, rows):
    write_pictures(
        root / "images", "20051020_43808_0100_PP.jpg", "20051020_43832_0100_PP.jpg", "IM000012.jpg", "IM000113.jpg"
    )
    write(root / "messidor_data.csv", HEADER + rows)
    return root


def test_messidor2_as_published(tmp_path):
    rows = (
        "20051020_43808_0100_PP.png,3,0,1\nim000012.JPG,0,0,1\nIM000113.jpg,,,0\nIM000500.jpg,,,0\nIM000501.jpg,2,0,1\n"
    )
    write_pictures(tmp_path / "images", "IM000501.jpg")
    source = messidor2.load(write_messidor2(tmp_path, rows), DEFAULT)
    assert knows(tmp_path) == "messidor2" and source.classes == ICDR
    assert graded(source) == {"20051020_43808_0100_PP": 3, "im000012": 0, "IM000501": 2}
    assert column(source, "flags") == {
        "20051020_43808_0100_PP": "", "im000012": "", "IM000113": "ungradable", "IM000500": "ungradable",
        "IM000501": "", "20051020_43832_0100_PP": "",
    }  # fmt: skip
    assert list(source.table["group"]) == ["20051020", "IM0000xx", "IM0001xx", "IM0005xx", "IM0005xx", "20051020"]
    files = column(source, "file")
    assert files["im000012"] == "images/IM000012.jpg" and files["IM000500"] == "IM000500.jpg"
    assert any(note.startswith("2 ") and "ungradable" in note for note in source.notes)
    assert any(note.startswith("1 ") for note in source.notes)  # the pool


def test_messidor2_pairs_make_the_groups_when_they_are_there(tmp_path, refuses):
    root = write_messidor2(tmp_path / "set", "20051020_43808_0100_PP.png,3,0,1\n20051020_43832_0100_PP.png,1,0,1\n")
    write(root / "messidor-2.csv", "left;right\n20051020_43808_0100_PP.png;20051020_43832_0100_PP.png\n")
    assert set(messidor2.load(root, DEFAULT).table["group"][:2]) == {"20051020_43808_0100_pp"}
    assert set(messidor2.load(tmp_path, DEFAULT).table["group"][:2]) == {"20051020_43808_0100_pp"}
    write(root / "messidor-2.csv", "links;right\na;b\n")
    with refuses("table.missing_column", "messidor-2.csv", "left"):
        messidor2.load(root, DEFAULT)


@pytest.mark.parametrize(
    ("row", "code", "cell"),
    [("7,0,1", "label.value", "'7'"), ("x,,1", "label.value", "'x'"), ("1,0,2", "table.value", "'2'")],
)
def test_messidor2_refuses_what_its_table_cannot_say(tmp_path, refuses, row, code, cell):
    root = write_messidor2(tmp_path, f"IM000012.jpg,{row}\n")
    with refuses(code, "messidor_data.csv", "row 2", "IM000012.jpg", cell):
        messidor2.load(root, DEFAULT)


# IDRiD

IDRID_TRAIN = (
    "Image name,Retinopathy grade,Risk of macular edema ,,,,,,,,,\r\n"
    "IDRiD_001,3,2,,,,,,,,,\r\nIDRiD_002,0,0,,,,,,,,,\r\n"
)
IDRID_TEST = "Image name ,Retinopathy grade,Risk of macular edema\r\nIDRiD_001,4,0\r\nIDRiD_103,1,0\r\n"


def write_idrid(root, labels="2. Groundtruths", space=" "):
    train, test = (
        f"{letter}. IDRiD_Disease Grading_{part} Labels.csv" for letter, part in (("a", "Training"), ("b", "Testing"))
    )
    write(root / labels / train.replace(" ", space), IDRID_TRAIN)
    write(root / labels / test.replace(" ", space), IDRID_TEST)
    write_pictures(root / "1. Original Images" / "a. Training Set", "IDRiD_001.jpg")
    write_pictures(root / "1. Original Images" / "b. Testing Set", "IDRiD_001.jpg", "IDRiD_002.jpg")
    return root


@pytest.mark.parametrize("above", ["B. Disease Grading", "."])
@pytest.mark.parametrize("labels", ["2. Groundtruths", "."])
def test_idrid_as_published_and_flat(tmp_path, above, labels):
    write_idrid(tmp_path / above, labels)
    assert knows(tmp_path) == "idrid"
    source = idrid.load(tmp_path, DEFAULT)
    assert graded(source) == {"train/IDRiD_001": 3, "train/IDRiD_002": 0, "test/IDRiD_001": 4, "test/IDRiD_103": 1}
    files = column(source, "file")
    assert files["train/IDRiD_001"] == "1. Original Images/a. Training Set/IDRiD_001.jpg"
    assert files["test/IDRiD_001"] == "1. Original Images/b. Testing Set/IDRiD_001.jpg"
    assert files["train/IDRiD_002"] == "1. Original Images/a. Training Set/IDRiD_002"  # not the one of the testing set
    assert list(source.table["split"]) == ["train", "train", "test", "test", ""]


def test_idrid_as_renamed_for_the_web_and_packed_on_a_mac(tmp_path):
    write_idrid(tmp_path / "B", "2-Groundtruths", "_")
    for part in ("Training", "Testing"):
        file = next((tmp_path / "B" / "2-Groundtruths").glob(f"*{part}*"))
        file.rename(file.with_name(file.name[3:]))
        write(file.with_name(f"._{file.name[3:]}"), "\0\5\26\7")
    assert knows(tmp_path) == "idrid" and len(graded(idrid.load(tmp_path, DEFAULT))) == 4


def test_idrid_with_one_part_only_or_a_folder_missing(tmp_path, refuses):
    write_idrid(tmp_path)
    shutil.rmtree(tmp_path / "1. Original Images" / "a. Training Set")
    with refuses("source.missing_folder", "a. Training Set"):
        idrid.load(tmp_path, DEFAULT)
    next((tmp_path / "2. Groundtruths").glob("a*")).unlink()
    assert set(idrid.load(tmp_path, DEFAULT).table["split"]) == {"test", ""}


def test_idrid_refuses_other_columns_and_grades(tmp_path, refuses):
    file = next((write_idrid(tmp_path) / "2. Groundtruths").glob("a*"))
    write(file, "Image,Retinopathy grade\nIDRiD_001,3\n")
    with refuses("table.missing_column", file.name, "Image name"):
        idrid.load(tmp_path, DEFAULT)
    write(file, "Image name,Retinopathy grade\nIDRiD_001,5\n")
    with refuses("label.value", file.name, "row 2", "IDRiD_001", "'5'"):
        idrid.load(tmp_path, DEFAULT)


# DDR


def write_ddr(base):
    write(base / "train.txt", "007-0004-000.jpg 0\n007-0004-100.jpg 5\n\n")
    write(base / "valid.txt", "007-0001-000.jpg 4\n")
    write(base / "test.txt", "007-0009-000.jpg 2\n")
    write_pictures(base / "train", "007-0004-000.jpg", "007-0004-100.JPG", "stray.jpg")
    write_pictures(base / "valid", "007-0001-000.jpg")
    write_pictures(base / "test", "007-0004-000.jpg", "007-0009-000.jpg")
    return base


@pytest.mark.parametrize("place", ["DDR-dataset/DR_grading", "DR_grading", "renamed"])
def test_ddr_as_published(tmp_path, place):
    base = write_ddr(tmp_path / place)
    root = base if place == "renamed" else tmp_path
    assert knows(root) == "ddr"
    source = ddr.load(root, DEFAULT)
    assert graded(source) == {"train/007-0004-000": 0, "valid/007-0001-000": 4, "test/007-0009-000": 2}
    assert column(source, "flags")["train/007-0004-100"] == "ungradable"
    assert list(source.table["split"]) == ["train", "train", "val", "test", "", ""]
    assert list(source.table["file"])[:4] == [
        "train/007-0004-000.jpg", "train/007-0004-100.JPG", "valid/007-0001-000.jpg", "test/007-0009-000.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["007-0004-000.jpg 6", "image,label", "007-0004-000.jpg"])
def test_ddr_refuses(tmp_path, refuses, line):
    write(write_ddr(tmp_path / "DR_grading") / "train.txt", f"007-0004-100.jpg 1\n\n{line}\n")
    with refuses("table.row", "train.txt", "row 3", line):
        ddr.load(tmp_path, DEFAULT)


def test_ddr_needs_the_folder_of_each_list(tmp_path, refuses):
    shutil.rmtree(write_ddr(tmp_path / "DR_grading") / "valid")
    with refuses("source.missing_folder", "valid.txt", tmp_path / "DR_grading" / "valid"):
        ddr.load(tmp_path, DEFAULT)


def test_lists_of_another_kind_are_not_ddr(tmp_path):
    write(tmp_path / "train.txt", "images/a.jpg\nimages/b.jpg\n")
    write_pictures(tmp_path / "train", "a.jpg")
    assert knows(tmp_path) == "folder"


# DeepDRiD

DEEPDRID = (
    "patient_id,image_id,image_path,Overall quality,left_eye_DR_Level,right_eye_DR_Level,patient_DR_Level,Clarity,"
    "Field definition,Artifact\n"
)


def write_deepdrid(root):
    base = root / "regular_fundus_images"
    for part, rows in {
        "training": (
            "1,1_l1,\\regular-fundus-training\\1\\1_l1.jpg,1,2,,4,8,8,4\n"
            "1,1_r1,\\regular-fundus-training\\1\\1_r1.jpg,0,,4,4,8,8,4\n"
            "2,2_l1,\\regular-fundus-training\\2\\2_l1.jpg,0,5,,5,8,8,4\n"
            "56,56_r3,\\regular-fundus-training\\56\\56_r3.jpg,1,1,,1,10,8,1\n"
        ),
        "validation": "265,265_l2,\\regular-fundus-validation\\265\\265_l2.jpg,1,3.0,,3,4,8,10\n",
    }.items():
        folder = base / f"regular-fundus-{part}"
        write(folder / f"regular-fundus-{part}.csv", DEEPDRID + rows)
        names = ("1_l1.jpg", "1_r1.jpg", "2_l1.jpg") if part == "training" else ("265_l2.jpg",)
        write_pictures(folder / "Images" / "1", *names)
    write_pictures(base / "Online-Challenge1&2-Evaluation" / "Images" / "347", "347_l1.jpg", "347_r1.jpg")
    write_pictures(root / "ultra-widefield_images" / "ultra-widefield-training" / "Images" / "1", "1_l1.jpg")
    return base


def test_deepdrid_as_published(tmp_path):
    write_deepdrid(tmp_path)
    assert knows(tmp_path) == "deepdrid"
    source = deepdrid.load(tmp_path, DEFAULT)
    assert graded(source) == {"1_l1": 2, "1_r1": 4, "56_r3": 1, "265_l2": 3}
    assert column(source, "file")["1_l1"] == "regular-fundus-training/Images/1/1_l1.jpg"
    assert column(source, "split")["1_l1"] == "train" and column(source, "split")["265_l2"] == "val"
    assert list(source.table["group"])[:5] == ["1", "1", "2", "56", "265"]
    assert list(source.table["eye"])[:5] == ["left", "right", "left", "", "left"]
    assert list(source.table["flags"])[:5] == ["", "poor-quality", "ungradable poor-quality", "eye-unclear", ""]
    # Two of the test part, and none of the ultra-widefield part.
    assert source.table["label"].isna().sum() == 3 and len(source.table) == 7


def test_deepdrid_with_the_labels_of_its_test_part(tmp_path):
    evaluation = write_deepdrid(tmp_path) / "Online-Challenge1&2-Evaluation"
    write(evaluation / "Challenge1_labels.csv", "image_id,DR_Levels\n347_l1,4\n347_r1,5\n")
    source = deepdrid.load(tmp_path, DEFAULT)
    test = source.table[source.table["split"] == "test"]
    assert list(test["id"]) == ["347_l1", "347_r1"] and list(test["label"].astype(object)) == [4, pd.NA]
    assert list(test["group"]) == ["347", "347"] and list(test["flags"]) == ["", "ungradable"]


@pytest.mark.parametrize(
    ("row", "code", "named"),
    [
        ("1,1_l1,x,1,6,,6,8,8,4", "label.value", "'6'"),
        ("1,1-left,x,1,2,,2,8,8,4", "table.image_name", "1-left"),
    ],
)
def test_deepdrid_refuses(tmp_path, refuses, row, code, named):
    file = write_deepdrid(tmp_path) / "regular-fundus-training" / "regular-fundus-training.csv"
    write(file, DEEPDRID + row + "\n")
    with refuses(code, file.name, "row 2", named):
        deepdrid.load(tmp_path, DEFAULT)


# All of them


@pytest.mark.parametrize(
    ("source", "file", "text", "missing"),
    [
        (aptos, "train.csv", "id,diagnosis\n000c1434d8d7,2\n", ("id_code",)),
        (eyepacs, "trainLabels.csv", "image,grade\n10_left,0\n", ("level",)),
        (messidor2, "messidor_data.csv", "image_id,grade\n", ("adjudicated_dr_grade", "adjudicated_dme")),
        (messidor2, "messidor_data.csv", "id_code,diagnosis\nIM000012.jpg,2\n", ("adjudicated_gradable",)),
        (
            deepdrid, "regular-fundus-training/regular-fundus-training.csv", "patient_id,image_id\n1,1_l1\n",
            ("Overall quality", "left_eye_DR_Level", "right_eye_DR_Level"),
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_missing_columns_are_named_with_the_file(tmp_path, refuses, source, file, text, missing):
    write(tmp_path / file, text)
    with refuses("table.missing_column", file, *missing):
        source.load(tmp_path, DEFAULT)


# The real tables, without their photographs


@pytest.mark.real
def test_the_real_table_of_aptos(real_data, tmp_path):
    shutil.copy(real_data / "label_tables" / "aptos2019" / "train.csv", tmp_path)
    touch_pictures(tmp_path / "train_images", read_rows(tmp_path / "train.csv")["id_code"] + ".png")
    name, source = read_source(tmp_path, "auto", DEFAULT)
    assert name == "aptos2019" and counts(source, "") == [1805, 370, 999, 193, 295]


@pytest.mark.real
def test_the_real_tables_of_idrid(real_data, tmp_path):
    for file in (real_data / "label_tables" / "idrid").iterdir():
        shutil.copy(file, tmp_path)
    for part, count in (("a. Training Set", 413), ("b. Testing Set", 103)):
        touch_pictures(tmp_path / part, [f"IDRiD_{number:03d}.jpg" for number in range(1, count + 1)])
    name, source = read_source(tmp_path, "auto", DEFAULT)
    assert name == "idrid" and counts(source, "train") == [134, 20, 136, 74, 49]
    assert counts(source, "test") == [34, 5, 32, 19, 13] and len(source.table) == 516


@pytest.mark.real
def test_the_real_table_of_messidor(real_data, tmp_path):
    shutil.copy(real_data / "label_tables" / "messidor1" / "train_labels.csv", tmp_path)
    rows = read_rows(tmp_path / "train_labels.csv")
    touch_pictures(tmp_path / "images", rows[next(name for name in rows if "image" in name)])
    name, source = read_source(tmp_path, "auto", DEFAULT)
    assert name == "messidor" and counts(source, "") == [547, 149, 240, 251] and source.table["group"].nunique() == 27


@pytest.mark.real
def test_the_real_table_of_messidor2(real_data, tmp_path):
    shutil.copy(real_data / "messidor2" / "messidor_data.csv", tmp_path)
    touch_pictures(tmp_path / "images", read_rows(tmp_path / "messidor_data.csv")["image_id"])
    name, source = read_source(tmp_path, "auto", DEFAULT)
    assert name == "messidor2" and counts(source, "") == [784, 195, 244, 52, 19]
    assert (source.table["flags"] == "ungradable").sum() == 4


@pytest.mark.real
def test_the_real_table_of_eyepacs(real_data):
    name, source = read_source(real_data / "eyepacs_fullres", "auto", DEFAULT)
    assert name == "eyepacs" and source.table["group"].nunique() == 5 and set(source.table["eye"]) == {"left", "right"}
    assert all((source.root / file).is_file() for file in source.table["file"]) and source.table["label"].notna().all()


@pytest.mark.parametrize("cell", ["NA", "nan", "", "-1"])
def test_a_missing_grade_of_a_published_set_is_no_label(tmp_path, cell):
    def grades_and_flags(source, root):
        loaded = source.load(root, DEFAULT)
        assert "1 row without a label" in loaded.notes
        return list(loaded.table["label"].fillna(-1)[:2]), list(loaded.table["flags"][:2])

    write_pictures(tmp_path / "a", "000c1434d8d6.png", "000c1434d8d7.png")
    write(tmp_path / "a" / "train.csv", f"id_code,diagnosis\n000c1434d8d6,1\n000c1434d8d7,{cell}\n")
    assert grades_and_flags(aptos, tmp_path / "a") == ([1, -1], ["", ""])
    write_pictures(tmp_path / "e", "17_left.jpg", "17_right.jpg")
    write(tmp_path / "e" / "trainLabels.csv", f"image,level\n17_left,2\n17_right,{cell}\n")
    assert grades_and_flags(eyepacs, tmp_path / "e") == ([2, -1], ["", ""])
    root = write_messidor2(
        tmp_path / "m", f"IM000012.jpg,{cell},0,1\nIM000113.jpg,{cell},,0\n20051020_43808_0100_PP.jpg,3,0,{cell}\n"
    )
    table = messidor2.load(root, DEFAULT).table
    assert list(table["label"].fillna(-1)[:3]) == [-1, -1, 3]
    assert list(table["flags"][:3]) == ["", "ungradable", ""]
    file = write_deepdrid(tmp_path / "d") / "regular-fundus-training" / "regular-fundus-training.csv"
    write(file, DEEPDRID + f"1,1_l1,x,1,{cell},{cell},2,8,8,4\n1,1_r1,x,1,,,{cell},8,8,4\n1,1_r2,x,1,,,2,8,8,4\n")
    labels = deepdrid.load(tmp_path / "d", DEFAULT).table.set_index("id")["label"]
    assert pd.isna(labels["1_r1"]) and labels.fillna(-1)["1_r2"] == -1
    write(
        write_ddr(tmp_path / "r" / "DR_grading") / "train.txt", f"007-0004-000.jpg {cell or 'NA'}\n007-0004-100.jpg 5\n"
    )
    table = ddr.load(tmp_path / "r", DEFAULT).table
    assert table["label"][:2].isna().all() and list(table["flags"][:2]) == ["", "ungradable"]


# Packs of others


def test_a_table_of_another_set_in_the_pack_is_not_ignored(tmp_path, refuses):
    ids = [f"{number:012x}" for number in range(3)]
    write_pictures(tmp_path / "resized train 15", "17_left.jpg", "17_right.jpg")
    write_pictures(tmp_path / "resized train 19", *(f"{name}.jpg" for name in ids))
    write(tmp_path / "labels" / "trainLabels15.csv", "image,level\n17_left,0\n17_right,4\n")
    other = tmp_path / "labels" / "trainLabels19.csv"
    write(other, "id_code,diagnosis\n" + "".join(f"{name},{grade}\n" for grade, name in enumerate(ids, 1)))
    with refuses("table.several", other, 3, "trainLabels15.csv", "--dataset table"):
        eyepacs.load(tmp_path, DEFAULT)
    source = SOURCES["table"].load(tmp_path, DEFAULT)
    assert source.classes == ICDR and list(source.table["label"]) == [0, 4, 1, 2, 3]
    assert list(source.table["group"]) == ["17", "17", "", "", ""]
    other.rename(tmp_path / "labels" / "sampleSubmission.csv")  # its grades are made up
    assert column(eyepacs.load(tmp_path, DEFAULT), "label")["17_right"] == 4


def test_eyepacs_resized_by_others(tmp_path):
    rows = "image,level\n17_left,0\n17_right,2\n"
    for folder in ("resized_train", "resized_train_cropped"):
        write_pictures(tmp_path / folder / folder, "17_left.jpeg", "17_right.jpeg")
    write(tmp_path / "trainLabels.csv", rows)
    write(tmp_path / "trainLabels_cropped.csv", ",Unnamed: 0," + rows.replace("\n17", "\n0,0,17"))
    assert knows(tmp_path) == "eyepacs"
    source = eyepacs.load(tmp_path, DEFAULT)
    assert graded(source) == {"17_left": 0, "17_right": 2} and len(source.table) == 2
    assert list(source.table["file"]) == ["resized_train/17_left.jpeg", "resized_train/17_right.jpeg"]
    (tmp_path / "trainLabels.csv").unlink()
    assert eyepacs.load(tmp_path, DEFAULT).root == tmp_path / "resized_train_cropped"
    (tmp_path / "trainLabels_cropped.csv").unlink()
    write_pictures(tmp_path / "resized_test", "1_left.jpeg")
    write(tmp_path / "retinopathy_solution.csv", "image,level,Usage\n1_left,3,Public\n")
    assert graded(eyepacs.load(tmp_path, DEFAULT))["1_left"] == 3


def test_eyepacs_with_the_tables_of_2015_in_a_folder(tmp_path):
    write_pictures(tmp_path / "resized train 15", "17_left.jpg")
    write_pictures(tmp_path / "resized test 15", "1_left.jpg")
    write(tmp_path / "labels" / "trainLabels15.csv", "image,level\n17_left,0\n")
    write(tmp_path / "labels" / "testLabels15.csv", "image,level,Usage\n1_left,3,Public\n")
    assert column(eyepacs.load(tmp_path, DEFAULT), "split") == {"17_left": "train", "1_left": "test"}


def test_aptos_filtered_into_folders_and_with_its_table_in_a_folder(tmp_path):
    ids = [f"{number:012x}" for number in range(5)]
    for name, folder in zip(ids, ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"), strict=True):
        write_pictures(tmp_path / "gaussian_filtered_images" / "gaussian_filtered_images" / folder, f"{name}.png")
    rows = "".join(f"{name},{grade}\n" for grade, name in enumerate(ids))
    write(tmp_path / "train.csv" / "train.csv", "id_code,diagnosis\n" + rows)
    assert knows(tmp_path) == "aptos2019"
    expected = dict(zip(ids, range(5), strict=True))
    assert graded(aptos.load(tmp_path, DEFAULT)) == expected
    (tmp_path / "train.csv" / "train.csv").unlink()
    by_folder = SOURCES["folder"].load(tmp_path, DEFAULT)
    assert by_folder.classes == ICDR and list(by_folder.table["label"]) == [1, 2, 0, 4, 3]


def test_messidor2_as_repacked(tmp_path):
    write_pictures(tmp_path / "messidor-2" / "messidor-2" / "preprocess", "IM000012.jpg")
    header = "id_code,diagnosis,adjudicated_dme,adjudicated_gradable\n"
    write(tmp_path / "messidor_data.csv", header + "IM000012.jpg,2.0,0.0,1.0\n")
    assert knows(tmp_path) == "messidor2" and graded(messidor2.load(tmp_path, DEFAULT)) == {"IM000012": 2}


def test_fgadr_has_no_header_and_its_masks_are_no_photographs(tmp_path, capsys):
    for folder in ("Original_Images", "HardExudate_Masks"):
        write_pictures(tmp_path / folder, *(f"000{n}_1.png" for n in range(5)))
    write(tmp_path / "DR_Seg_Grading_Label.csv", "".join(f"000{n}_1.png,{n}\n" for n in range(5)))
    source = SOURCES["table"].load(tmp_path, DEFAULT)
    assert source.classes == ICDR and list(source.table["label"]) == list(range(5))
    assert "5 pictures" in capsys.readouterr().out and any("FGADR" in note for note in source.notes)


def test_a_table_that_is_too_deep_to_be_read_is_named_as_what_it_is(tmp_path):
    part = tmp_path / "Training_Set" / "Training_Set"
    write_pictures(part / "Training", "1.png", "2.png")
    write(part / "RFMiD_Training_Labels.csv", "ID,Disease_Risk,DR,ARMD\n1,1,1,0\n2,0,0,0\n")
    source = SOURCES["folder"].load(tmp_path, DEFAULT)
    assert source.task == "none" and any("RFMiD," in note for note in source.notes)


def test_tables_of_other_sets_are_named(tmp_path, refuses):
    write_pictures(tmp_path / "Training", "1.png", "2.png")
    for header in ("ID,Disease_Risk,DR,ARMD", "ID,WNL,DR,ARMD"):  # of RFMiD, and of RFMiD 2
        write(tmp_path / "RFMiD_Training_Labels.csv", f"{header}\n1,1,1,0\n2,0,0,0\n")
        source = SOURCES["table"].load(tmp_path, DEFAULT)
        assert source.scale == "none" and any("RFMiD" in note for note in source.notes)
        for scale in ("icdr", "messidor"):
            with refuses("label.scale", "RFMiD", scale, "--scale none"):
                SOURCES["table"].load(tmp_path, SourceOptions(scale=scale))
    write(tmp_path / "full_df.csv", "ID,Left-Fundus,Right-Fundus,N\n0,0_left.jpg,0_right.jpg,1\n")
    with refuses("table.missing_column", "full_df.csv", "ODIR-5K"):
        SOURCES["table"].load(tmp_path / "full_df.csv", DEFAULT)
