"""Names, labels and folders as people have them: the right reading, or a refusal that names what is wrong."""

import shutil
import unicodedata
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest

from foveal.predict.cohort import cohort_set
from foveal.predict.inputs import list_photographs
from foveal.sources.archive import unpacked
from foveal.sources.cards import ICDR
from foveal.sources.classes import name_classes
from foveal.sources.matching import Matcher
from foveal.sources.names import grade_of, part_of
from foveal.sources.patients import patients_and_eyes
from foveal.sources.registry import SOURCES, read_source
from foveal.sources.source import SourceOptions
from foveal.sources.tables import has_columns, has_labels, read_rows

DEFAULT = SourceOptions()
PIXELS = cv2.imencode(".png", np.full((8, 8, 3), 128, np.uint8))[1].tobytes()


def pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PIXELS)


def load(root, text=None, dataset="auto", **options):
    if text is not None:
        (root / "labels.csv").write_text(text)
    return read_source(root, dataset, SourceOptions(**options))[1]


def labels(source):
    return dict(zip(source.table["id"], source.table["label"].astype(object), strict=True))


@pytest.mark.parametrize(
    ("names", "patient", "eyes"),
    [
        (("P002_L", "P002_R"), "P002", ("left", "right")),
        (("17_left_1", "17_left_2"), "17", ("left", "left")),
        (("17_OD_macula", "17_OS_F2"), "17", ("right", "left")),
        (("a/P017/OD", "b/P017/OS_2"), "P017", ("right", "left")),
        (("left_17", "right_17"), "17", ("left", "right")),
        (("patient 3/left/a", "patient 3/right/b"), "patient 3", ("left", "right")),
        (("17 L", "17OD"), "17", ("left", "right")),
        (("Doe/OD_1", "Doe/OS_1", "Roe/OD_1"), "", ("right", "left", "right")),
        (
            ("17_2023-11-05_OD", "20240105_17_OS", "OD_17_20231105", "17_V2_OS"),
            "17",
            ("right", "left", "right", "left"),
        ),
        (("DR0/L1", "DR4/R2"), "", ("left", "right")),
        (("left/0/a", "right/3/b"), "", ("left", "right")),
        (("IMG_OD", "Image_OS", "photo_left"), "", ("right", "left", "left")),
        (("17_Left_Eye", "17_right_fundus", "17_LE"), "17", ("left", "right", "left")),
        (("scan_R2", "IM0001"), "", ("", "")),
        (("x00_r90", "x01_r180"), "", ("", "")),
        (("bright", "copyright"), "", ("", "")),
        (("20051020_43808_0100_PP", "IDRiD_001"), "", ("", "")),
        (("a0_OS_mac", "a0_OD_disc", "a0-OD-onh", "a0 OS optic disc"), "a0", ("left", "right", "right", "left")),
        (("a0_OS_mac_1", "a0_OD_macula_centered", "a0_OD_field_2 (2)"), "a0", ("left", "right", "right")),
        (("a0_mac_OS", "a0_f2_R", "OD_a0_disc", "a0_field 2_LE"), "a0", ("left", "right", "right", "left")),
        (("a0_1_L", "a0_2_L", "a0_1_R", "a0_02_R"), "a0", ("left", "left", "right", "right")),
    ],
)
def test_patients_and_eyes_in_names(names, patient, eyes):
    assert patients_and_eyes(names) == ([patient] * len(names), list(eyes))


@pytest.mark.parametrize(
    "folders", ["left right", "OS OD", "L R", "a/left a/right", "left/0 right/3", "2/Links 1/Rechts"]
)
def test_equal_names_in_a_folder_of_each_eye_are_one_patient(folders):
    left, right = folders.split()
    patients, eyes = patients_and_eyes([f"{left}/IMG_7", f"{right}/IMG_7", f"{left}/IMG_8", "IMG_7"])
    assert eyes == ["left", "right", "left", ""] and patients[0] == patients[1] != patients[2] and not patients[3]


def test_a_graded_eye_and_one_of_the_pool_are_one_patient(tmp_path):
    pictures(tmp_path, *(f"{side}/P{number}.png" for side in ("left", "right") for number in range(3)))
    table = load(tmp_path, "image,grade\nleft/P0,1\nleft/P1,0\nright/P1,0\n").table.set_index("id")
    groups, eyes = table["group"], table["eye"]
    assert groups["left/P0"] == groups["right/P0"] != groups["left/P1"] == groups["right/P1"]
    assert groups["left/P2"] == groups["right/P2"] != "" and eyes["left/P0"] == "left" and eyes["right/P0"] == "right"


def test_an_eye_that_differs_from_the_name_is_told_once_and_the_table_counts(tmp_path, capsys):
    pictures(tmp_path, *(f"P{number}_{side}.png" for number in range(3) for side in "LR"))
    rows = "image,eye,grade\nP0_L,L,1\nP0_R,L,0\nP1_L,R,0\nP1_R,R,0\nP2_L,,0\n"
    eyes = load(tmp_path, rows).table.set_index("id")["eye"]
    assert eyes[["P0_R", "P1_L", "P2_L"]].tolist() == ["left", "right", "left"]
    (told,) = (line for line in capsys.readouterr().out.replace("\n", " ").split("warning: ") if "P0_R" in line)
    assert "P1_L" not in told and " 2 " in told


def test_names_in_folders_of_eyes_and_patients_are_those_of_their_patients():
    names = [f"{number}/{side}/img1" for number in (2, 3, 17) for side in ("left", "right")]
    assert patients_and_eyes(names)[0] == ["2", "2", "3", "3", "17", "17"]
    assert patients_and_eyes(["left/IMG_1", "right/IMG_2"]) == (["", ""], ["left", "right"])


def test_a_number_before_the_eye_is_a_patient_where_the_numbers_go_on():
    names = [f"site{site}_{number}_{eye}" for site in (1, 2) for number in range(1, 40) for eye in "LR"]
    assert patients_and_eyes(names)[0] == [name[:-2] for name in names]


@pytest.mark.parametrize(("left", "right"), ["\u5de6\u53f3", ("\u5de6\u773c", "\u53f3\u773c")])
@pytest.mark.parametrize("patient", ["78", "\u5f20\u4e09"])
def test_eyes_in_chinese(left, right, patient):
    assert patients_and_eyes([f"{patient}_{left}", f"{patient}_{right}"]) == ([patient] * 2, ["left", "right"])


@pytest.mark.parametrize(
    ("words", "grade"),
    [
        ("0|DR0|grade 0|No DR|no_dr|NoDR|Normal|healthy|no apparent retinopathy|Keine DR|sin retinopatia|0_No_DR", 0),
        ("1|Mild|mild NPDR|1 - Mild|leve|leicht|L\u00e9g\u00e8re|mild non-proliferative DR|RDNP leve", 1),
        ("2|Moderate|MODERATE_NPDR|moderada|m\u00e4\u00dfig|Mod\u00e9r\u00e9e|\u4e2d\u5ea6", 2),
        ("3|Severe|severe nonproliferative|grave|schwer|class 3|severe_npdr", 3),
        ("4|Proliferative|Proliferate_DR|PDR|RDP|proliferativa|Proliferative Diabetic Retinopathy|4_PDR", 4),
        ("DR yok|Absente|aucune RD|\u65e0\u7cd6\u5c3f\u75c5\u89c6\u7f51\u819c\u75c5\u53d8|0\u7ea7", 0),
        ("I|Grade I|\u8f7b\u5ea6\u975e\u589e\u6b96\u6027\u7cd6\u5c3f\u75c5\u89c6\u7f51\u819c\u75c5\u53d8|Hafif", 1),
        ("A\u011e\u0131r|A\u011fIR|\u91cd\u5ea6\u975e\u589e\u751f\u671f|\u2162|Stage III", 3),
        ("\u589e\u6b96\u671f|\u589e\u751f\u671f\u7cd6\u5c3f\u75c5\u89c6\u7f51\u819c\u75c5\u53d8|IV|Proliferatif", 4),
        ("unauff\u00e4llig|sem RD|Brak|Ingen DR|ei DR|No signs of DR|normal fundus", 0),
        ("milde nichtproliferative DR|n\u00e3o proliferativa leve|\u0142agodna|ikke-proliferativ let|liev\u00e4", 1),
        ("m\u00e4\u00dfige nichtproliferative DR|mittelschwere NPDR|mittelgradig|umiarkowana|m\u00e5ttlig", 2),
        ("schwere nichtproliferative DR|n\u00e3o proliferativa grave|ci\u0119\u017cka|sv\u00e6r|vaikea", 3),
        ("\u65e0\u660e\u663e\u89c6\u7f51\u819c\u75c5\u53d8", 0),
        ("5|10|NPDR|DR|referable|severe PDR|mild glaucoma|R2|no mild|V|Type II", None),
    ],
)
def test_usual_names_of_grades(words, grade):
    assert {word: grade_of(word) for word in words.split("|")} == dict.fromkeys(words.split("|"), grade)


def test_moderate_is_referable_wherever_it_stands_in_the_alphabet(tmp_path):
    names = ("Mild", "Moderate", "No_DR", "Proliferate_DR", "Severe")
    pictures(tmp_path, *(f"{name}/{number}.png" for name in names for number in range(2)))
    source = load(tmp_path)
    assert source.classes == ICDR and source.scale == "icdr" and source.task == "grading"
    assert [labels(source)[f"{name}/0"] for name in names] == [1, 2, 0, 4, 3]
    plain = load(tmp_path, scale="none")
    assert plain.classes == names and plain.scale == "none"


@pytest.mark.parametrize(
    "values", ["0 1 2 4", "0 2 3 4", "0 1 3 4", "0 2 4", "0 3 4", "2 3 4", "R0 R1 R2 R3 R4", "R0 R2 R4"]
)
def test_a_scale_keeps_the_classes_that_no_image_has(values):
    values = set(values.split())
    assert name_classes(values)[:3] == ({value: int(value[-1]) for value in values}, ICDR, "icdr")


@pytest.mark.parametrize("values", ["0 2", "0 4", "0 1 2", "0 2 3", "0 1 2 3"])
def test_numbers_that_may_be_grades_are_classes_of_their_own_and_said_to_be(tmp_path, capsys, values):
    _, classes, scale, note = name_classes(set(values.split()))
    assert classes == tuple(values.split()) and scale == "none" and "--scale icdr" in note
    assert name_classes(set(values.split()), "icdr")[1:3] == (ICDR, "icdr")
    assert not name_classes(set(values.split()), "none")[3] and not name_classes({"0", "1"})[3]
    pictures(tmp_path, *(f"{value}/{number}.png" for value in values.split() for number in range(3)))
    assert load(tmp_path).classes == classes
    assert "warning" in capsys.readouterr().out


def test_the_scales_of_england_and_of_the_etdrs_are_no_icdr(tmp_path, refuses):
    levels = ("10", "20", "35", "53", "65")
    pictures(tmp_path, *(f"{level}/{number}.png" for level in levels for number in range(3)))
    source = load(tmp_path)
    assert source.classes == levels and source.scale == "none" and any("ETDRS" in note for note in source.notes)
    assert "ETDRS" not in name_classes({"10", "20", "30"})[3]
    english = {"R0", "R1", "R2", "R3"}  # R3 is proliferative
    assert (
        name_classes(english)[1:3] == (("R0", "R1", "R2", "R3"), "none") and "--scale icdr" in name_classes(english)[3]
    )
    with refuses("label.scale", "'R3'"):
        name_classes(english, "icdr")


@pytest.mark.parametrize(("healthy", "ill"), [("No_DR", "DR"), ("normal", "glaucoma"), ("healthy", "AMD")])
def test_of_two_classes_the_healthy_one_is_first(tmp_path, healthy, ill):
    pictures(tmp_path, *(f"{name}/{name}{number}.png" for name in (healthy, ill) for number in range(3)))
    source = load(tmp_path, dataset="folder")
    assert source.classes == (healthy, ill) and source.scale == "none"


@pytest.mark.parametrize(
    "pair",
    [
        "non-RDR|RDR",
        "DR-|DR+",
        "nein|ja",
        "Nicht_überweisen|überweisen",
        "no|yes",
        "false|true",
        "negative|Positive",
        "neg|dr",
        "Non_Glaucoma|Glaucoma",
        "no_referable|referable",
        "control|AMD",
        "normal|abnormal",
        "absent|Present",
        "нет|да",
        "无青光眼|青光眼",
        "ohne_Glaukom|Glaukom",
        "nonreferable|Referable",
    ],
)
def test_of_two_classes_the_one_that_says_absent_is_first(pair):
    absent, present = pair.split("|")
    for scale in ("auto", "none"):
        assert name_classes({present, absent}, scale)[:2] == ({absent: 0, present: 1}, (absent, present))


def test_a_single_folder_is_a_grade_only_if_the_scale_is_asked_for(tmp_path):
    pictures(tmp_path, *(f"no_dr/{number}.png" for number in range(3)))
    assert load(tmp_path, dataset="folder").table["label"].isna().all()
    asked = load(tmp_path, dataset="folder", scale="icdr")
    assert list(asked.table["label"]) == [0, 0, 0] and asked.classes == ICDR
    (tmp_path / "no_dr").rename(tmp_path / "3")  # a patient, perhaps
    assert load(tmp_path, dataset="folder", scale="icdr").table["label"].isna().all()


@pytest.mark.parametrize("pair", ["cat|dog", "left|right", "glaucoma|healthyish", "AMD|NoonanDisease", "no|none"])
def test_other_pairs_of_classes_are_in_alphabetical_order(pair):
    assert name_classes(set(pair.split("|")))[1] == tuple(pair.split("|"))


def test_one_name_that_cannot_be_placed_is_refused_and_severity_orders_the_rest(refuses):
    with refuses("label.scale", "'Moderete'"):
        name_classes({"No_DR", "Mild", "Moderete", "Severe", "Proliferate_DR"})
    assert name_classes({"No", "Moderate", "Mild"})[1:3] == (("No", "Mild", "Moderate"), "none")
    chinese = {"无DR": 0, "轻度NPDR": 1, "中度NPDR": 2, "重度NPDR": 3, "PDR": 4}
    assert name_classes(set(chinese))[0] == chinese
    assert name_classes({"0", "1", "2", "3"})[2] == "none"  # Messidor's scale, or ICDR without a proliferative eye


@pytest.mark.parametrize(
    ("grades", "bad"), [("0 1 2 3 4 99", "99"), ("0 1 2 3 4 5", "5"), ("0 1 2 3 4 6", "6"), ("0 1 2 9 4 3", "9")]
)
def test_other_numbers_beside_grades_are_refused_in_tables_and_folders(tmp_path, refuses, grades, bad):
    names = [f"p{number}" for number in range(18)]
    pictures(tmp_path / "table", *(f"{name}.png" for name in names))
    rows = "".join(f"{name},{grade}\n" for name, grade in zip(names, 3 * grades.split(), strict=True))
    with refuses("label.value", f"'{bad}'"):
        load(tmp_path / "table", f"image,grade\n{rows}")
    pictures(tmp_path / "folders", *(f"{grade}/{number}.png" for grade in grades.split() for number in range(3)))
    with refuses("label.value", f"'{bad}'"):
        load(tmp_path / "folders")
    assert load(tmp_path / "folders", scale="none").scale == "none"


def test_classes_in_numbers_are_not_grades_with_strangers(tmp_path):
    pictures(tmp_path, *(f"{label}/{number}.png" for label in range(10) for number in range(3)))
    assert load(tmp_path).classes == tuple("0123456789")


@pytest.mark.parametrize("stray", ['"blurry', '"blurry\nd4,1,', '"a" b'])
def test_a_stray_quotation_mark_loses_no_row(tmp_path, refuses, stray):
    pictures(tmp_path, *(f"d{number}.png" for number in range(6)))
    rows = [f"d{number},{number % 2},note" for number in range(6)]
    rows[2], rows[4] = f"d2,0,{stray}", 'd4,0,ok"'
    with refuses("table.damaged", "labels.csv, line 4"):
        load(tmp_path, "\n".join(["image,grade,note", *rows]) + "\n")
    rows[2], rows[4] = 'd2,0,"two\nlines, of 5"" each"', 'd4,0,5" wide'
    table = load(tmp_path, "\n".join(["image,grade,note", *rows]) + "\n").table
    assert len(table) == 6 and table["label"].notna().all()


def test_accents_of_a_mac_are_those_of_a_table(tmp_path):
    pictures(tmp_path, *(unicodedata.normalize("NFD", f"été{number}.png") for number in range(3)))
    text = "".join(unicodedata.normalize("NFC", f"été{number},{number}\n") for number in range(3))
    assert load(tmp_path, f"image,grade\n{text}").table["label"].notna().all()


def test_names_that_the_scale_does_not_have_are_listed(tmp_path, refuses):
    pictures(tmp_path, "a.png", "b.png", "c.png")
    text = "image,grade\na,Mild\nb,drusen\nc,No DR\n"
    with refuses("label.scale", "--scale icdr", "'drusen'"):
        load(tmp_path, text, scale="icdr")
    assert load(tmp_path, text).classes == ("Mild", "No DR", "drusen")


@pytest.mark.parametrize("others", [["No DR", "Mild", "Severe"], ["No DR", "Mild"]])
def test_a_mistyped_grade_is_named_with_its_rows_and_the_nearest_spelling(tmp_path, refuses, others):
    grades = [*others, "Moderte", *others, "Moderte"]
    pictures(tmp_path, *(f"{number}.png" for number in range(len(grades))))
    rows = [f"{number},{grade}" for number, grade in enumerate(grades)]
    places = [f"row {row} of labels.csv" for row, grade in enumerate(grades, 2) if grade == "Moderte"]
    with refuses("label.scale", "'Moderte' in 2 rows", *places, "'Moderate'"):
        load(tmp_path, "\n".join(["image,grade", *rows]))
    assert load(tmp_path, scale="none").classes == tuple(sorted(set(grades)))


@pytest.mark.parametrize("label", ["stage 5", "halbschwere NPDR", "Moderate-to-severe"])
def test_another_grade_is_never_suggested(tmp_path, refuses, label):
    rows = ["No DR", "stage 1", "schwere NPDR", "stage 4", "Moderate", label]
    pictures(tmp_path, *(f"{number}.png" for number in range(len(rows))))
    with refuses("label.scale", label) as caught:
        load(tmp_path, "\n".join(["image,grade", *(f"{k},{grade}" for k, grade in enumerate(rows))]), scale="icdr")
    assert not any(grade in caught.value.fix for grade in ("stage 4", "'schwere", "Severe", "'Moderate'"))
    assert name_classes({"normal", "NPDR", "PDR"})[2] == "none"


@pytest.mark.parametrize("grades", ["1234", ["I", "II", "III", "IV"]])
def test_grades_that_may_be_counted_from_one_are_a_warning(capsys, grades):
    assert name_classes({*grades})[2] == "icdr" and "warning" in capsys.readouterr().out
    name_classes({"0", *"234"})
    name_classes({"Mild", "Moderate", "Severe", "PDR"})
    assert "warning" not in capsys.readouterr().out


def test_numbers_of_other_grades_than_their_words_are_a_warning(capsys):
    assert name_classes({"0 no DR", "1 mild", "2 severe", "4 proliferative DR"})[0]["2 severe"] == 3
    assert "'2 severe' is grade 3" in capsys.readouterr().out
    name_classes({"1 No DR", "2 Mild", "3 Moderate", "4 Severe", "5 Proliferative DR"})
    assert "warning" not in capsys.readouterr().out


HOT = ["image", "grade_0", "grade_1", "grade_2", "grade_3", "grade_4"]


@pytest.mark.parametrize(
    ("header", "row", "classes"),
    [
        (HOT, "1,0,0,0,0", ICDR),
        (["image", "male", *HOT[1:]], "1,1.0,0.0,0.0,0.0,0.0", ICDR),
        (["image", "No_DR", "Mild", "Moderate", "Severe", "Proliferative_DR"], "True,False,False,False,False", ICDR),
        (["image", "normal", "glaucoma", "cataract"], "1,0,0", ("cataract", "glaucoma", "normal")),
    ],
)
def test_a_column_for_each_class_is_read(tmp_path, header, row, classes):
    number = len(header) - 1 - ("male" in header)
    pictures(tmp_path, *(f"{place}.png" for place in range(number)))
    first, cells = row.split(",")[:-number], row.split(",")[-number:]
    turned = [[f"{place}", *first, *cells[-place:], *cells[:-place]] if place else ["0", *first, *cells]
              for place in range(number)]  # fmt: skip
    source = load(tmp_path, "\n".join(",".join(cells) for cells in [header, *turned]))
    names = header[-number:]
    expected = range(5) if classes == ICDR else [classes.index(name) for name in names]
    assert source.classes == classes and list(source.table["label"]) == list(expected)


@pytest.mark.parametrize(
    "header",
    ["patient,left_image,right_image,left_grade,right_grade", "ID,Image OS,Image OD,Grade OS,Grade OD",
     "pid,left eye,right eye,left_diagnosis,right_diagnosis", "n,L_file,R_file,level_left_eye,level_right_eye"],
)  # fmt: skip
def test_a_row_for_both_eyes_is_read_and_errors_name_its_number(tmp_path, refuses, header):
    pictures(tmp_path, *(f"{n}{side}.png" for n in range(4) for side in ("a", "b")))
    rows = [f"P{n},{n}a.png,{n}b.png,{n},{4 - n}" for n in range(4)] + ["P9,,0c.png,,2"]
    pictures(tmp_path, "0c.png")
    table = load(tmp_path, "\n".join([header, *rows])).table.set_index("id")
    assert len(table) == 9 and table["label"].to_dict() == {
        **{f"{n}a": n for n in range(4)}, **{f"{n}b": 4 - n for n in range(4)}, "0c": 2,
    }  # fmt: skip
    assert {name: table["eye"][name] for name in ("1a", "1b", "0c")} == {"1a": "left", "1b": "right", "0c": "right"}
    assert table["group"]["1a"] == table["group"]["1b"] != "" and table["group"].nunique() == 5
    with refuses("label.value", "'9' in row 5"):
        load(tmp_path, "\n".join([header, *rows[:3], "P3,3a.png,3b.png,3,9", rows[4]]))
    with refuses("table.missing_column", "left_image"):
        load(
            tmp_path, "\n".join(["patient,left_image,right_image,grade", *(row[:-2] for row in rows)]), dataset="table"
        )


def test_missing_and_ungradable_labels_are_counted(tmp_path):
    cells = ["0", "1.0", '"2,0"', "03", "4", "NA", "nan", "", "-1", "None", "ungradable", "Poor quality"]
    pictures(tmp_path, *(f"{number}.png" for number in range(len(cells))))
    source = load(tmp_path, "image,grade\n" + "".join(f"{number}.png,{cell}\n" for number, cell in enumerate(cells)))
    assert list(source.table["label"].dropna()) == [0, 1, 2, 3, 4] and source.classes == ICDR
    assert list(source.table["flags"])[-2:] == ["ungradable", "ungradable"]
    assert any("5 rows" in note and "2 rows" in note for note in source.notes)


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        ("0 1 2 3 4 moderte 0", "'moderte' in row 7"),
        ("0 1 2 3 4 1.5 0", "'1.5' in row 7"),
        ("0 1 2 3 4 -2 0", "'-2' in row 7"),
        ("0 1 2 3 4 5 0", "'5' in row 7"),
        ("a b a b a b 7", "'7' in row 8"),
    ],
)
def test_impossible_labels_are_named_with_their_rows(tmp_path, refuses, cells, named):
    pictures(tmp_path, *(f"{number}.png" for number in range(7)))
    with refuses("label.value", "labels.csv", named):
        load(tmp_path, "image,grade\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells.split())))


def test_a_column_with_a_value_for_each_picture_is_no_label(tmp_path, refuses):
    pictures(tmp_path, *(f"p{number}.png" for number in range(12)))
    text = "image,grade\n" + "".join(f"p{number},visit{number}\n" for number in range(12))
    with refuses("label.classes", "--label-column", 12):
        load(tmp_path, text)
    assert len(load(tmp_path, text, scale="none").classes) == 12


@pytest.mark.parametrize(
    ("names", "files", "hint"),
    [
        (("p7.0", "p8.0", "p9.0"), ("p007", "p008", "p009"), "leading zeros, and without .0"),
        (("train/a", "train/b", "train/c"), ("a", "b", "c"), "folder"),
        (("a-1", "a-2", "a-3"), ("a_1", "a_2", "a_3"), "signs"),
        (("a.raw", "b.raw", "c.raw"), ("a", "b", "c"), "ending"),
        (("u", "v", "w"), ("a", "b", "c"), "delete the rows"),
        (("2.0E+10", "2.1e+10", "3E+10"), ("20000000001", "21000000002", "30000000003"), "as text"),
    ],
)
def test_a_table_that_matches_no_picture_says_what_would_match(tmp_path, refuses, names, files, hint):
    pictures(tmp_path, *(f"{name}.png" for name in files))
    with refuses("table.unmatched", "labels.csv", "0 of 3", *map(repr, names), f"'{files[2]}.png'", hint):
        load(tmp_path, "image,grade\n" + "".join(f"{name},1\n" for name in names))


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("0.0", "7.0", "12.0"), ("0000", "0007", "0012")),
        (("0", "7", "012"), ("0000", "0007", "12")),
        (("a\\0", "\\b\\1"), ("x/a/0", "x/b/1")),
        (("data/x/a/0", "data/x/b/0"), ("a/0", "b/0")),
        (("0.png", "1"), ("0", "b/1", "b/0")),
    ],
)
def test_names_that_lost_zeros_or_have_other_folders_match_where_it_is_clear(tmp_path, names, files):
    pictures(tmp_path, *(f"{name}.png" for name in files))
    table = load(tmp_path, "image,grade\n" + "".join(f"{name},1\n" for name in names)).table
    assert list(table["file"][: len(names)]) == [f"{name}.png" for name in files[: len(names)]]


@pytest.mark.parametrize(("name", "files"), [("7.0", "007 0007"), ("0.png", "a/0 b/0"), ("a/0", "x/a/0 y/a/0")])
def test_names_that_could_be_several_pictures_are_refused_with_all_of_them(tmp_path, refuses, name, files):
    pictures(tmp_path, *(f"{file}.png" for file in files.split()))
    with refuses("table.ambiguous_image", repr(name), *(tmp_path / f"{file}.png" for file in files.split())):
        load(tmp_path, f"image,grade\n{name},1\n")


def test_a_byte_of_zero_is_named_with_its_line(tmp_path, refuses):
    with refuses("table.damaged", "labels.csv, line 3"):
        pictures(tmp_path, "a.png")
        load(tmp_path / "labels.csv" if (tmp_path / "labels.csv").write_text("image,grade\na,1\na\x000,1\n") else "")


@pytest.mark.parametrize(
    ("cells", "eyes"),
    [
        ("rechts LINKS Auge_rechts", "right left right"),
        ("derecho izquierda ojo_izquierdo", "right left left"),
        ("Droit gauche \u0153il_gauche", "right left left"),
        ("O.D. os OI", "right left left"),
        ("\u53f3\u773c \u5de6 RE", "right left right"),
        ("direito Sinistra r", "right left right"),
    ],
)
def test_eyes_in_words(tmp_path, cells, eyes):
    pictures(tmp_path, "0.png", "1.png", "2.png")
    rows = "".join(f"{n},{cell.replace('_', ' ')},1\n" for n, cell in enumerate(cells.split()))
    assert list(load(tmp_path, "image,laterality,grade\n" + rows).table["eye"]) == eyes.split()


def test_eyes_that_cannot_be_read_are_named(tmp_path, capsys):
    pictures(tmp_path, "0.png", "1.png", "2.png")
    for cells, read in (("1 2 1", False), ("R L both", True)):
        rows = "".join(f"{n},{cell},1\n" for n, cell in enumerate(cells.split()))
        table = load(tmp_path, "image,eye,grade\n" + rows).table
        assert any(table["eye"]) == read
        assert all(f"'{cell}'" in capsys.readouterr().out for cell in [cells.split()[-1]])


@pytest.mark.parametrize("names", ["18{}", "{}18", "18{}_2", "p18{}"])
def test_eyes_beside_numbers_are_read_if_all_names_are_like_it(names):
    both = [names.format(eye) for eye in "LR"]
    assert patients_and_eyes(both)[1] == ["left", "right"] and len({*patients_and_eyes(both)[0]}) == 1
    assert patients_and_eyes([both[0]], both)[1] == ["left"]
    assert patients_and_eyes([*both, "scan"])[0] == [""] * 3
    assert patients_and_eyes([*5 * both, "scan"])[1] == [*5 * ["left", "right"], ""]


@pytest.mark.parametrize(
    "text",
    [
        "a 0\n{}",
        "a.png 0\nb b.png 1\n",
        "a.png\t0\nb b.png\t1\n",
        "image label\na 0\nb b 1\n",
        "image,label\na,0\nb b,1\n",
    ],
)
def test_labels_in_a_text_file(tmp_path, capsys, text):
    pictures(tmp_path, "a.png", "b b.png")
    (tmp_path / "labels.txt").write_text(text)
    (tmp_path / "README.txt").write_text("taken in a clinic\n")
    read = "{" not in text
    assert load(tmp_path).classes == (("0", "1") if read else ())
    assert "labels.txt" in capsys.readouterr().out
    if read:
        assert labels(load(tmp_path / "labels.txt")) == {"a": 0, "b b": 1}


def test_labels_that_are_not_read_are_named_with_what_is(tmp_path, capsys, refuses):
    (tmp_path / "labels.json").write_text("{}")
    with refuses("source.no_pictures", "labels.json", ".csv"):
        load(tmp_path)
    with refuses("source.unknown", "labels.json", ".csv"):
        load(tmp_path / "labels.json")
    pictures(tmp_path, "a.png")
    load(tmp_path)
    assert "labels.json" in capsys.readouterr().out


def test_fewer_than_nine_tenths_of_the_names_are_refused(tmp_path, refuses):
    pictures(tmp_path, *(f"{number}.png" for number in range(18)))
    text = "image,grade\n" + "".join(f"{number},{number % 2}\n" for number in range(20))
    assert len(load(tmp_path, text).table) == 20
    with refuses("table.unmatched", "18 of 21"):
        load(tmp_path, text + "20,1\n")


@pytest.mark.parametrize(
    "folder",
    [
        "C:\\data\\aptos\\photos\\",
        "/mnt/data/aptos/photos/",
        "/mnt/elsewhere/",
        "\\\\server\\share\\aptos\\photos\\",
        "//server/share/",
        "photos\\",
        "HERE/photos/",
        "./photos/",
    ],
)
def test_paths_of_another_system(tmp_path, folder):
    pictures(tmp_path, "photos/a.png", "photos/b.png")
    folder = folder.replace("HERE", str(tmp_path))
    source = load(tmp_path, f"image,grade\n{folder}a.png,0\n{folder}b.png,1\n")
    assert list(source.table["file"]) == ["photos/a.png", "photos/b.png"]


def test_a_table_may_name_pictures_outside_its_folder(tmp_path):
    pictures(tmp_path, "photos/a.png", "photos/b.png")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "x.csv").write_text("image,grade\na.png,0\nb.png,1\n")
    assert set(load(tmp_path / "tables" / "x.csv").table["file"]) == {"photos/a.png", "photos/b.png"}
    assert set(load(tmp_path).table["file"]) == {"photos/a.png", "photos/b.png"}


def test_of_absolute_paths_elsewhere_only_the_named_pictures_are_read(tmp_path):
    pictures(tmp_path, "a/b/1.png", "a/2.png", "a/other.png", "home/private/3.png", "home/labels/x.txt")
    file = tmp_path / "home" / "labels" / "labels.csv"
    file.write_text(f"image,grade\n{tmp_path}/a/b/1.png,0\n{tmp_path}/a/2.png,1\n")
    source = load(file)
    assert sorted(source.table["file"]) == ["2.png", "b/1.png"] and source.root == tmp_path / "a"
    assert labels(source) == {"2": 1, "b/1": 0}


def test_beside_the_folder_of_a_table_only_folders_with_its_names_are_read(tmp_path):
    pictures(tmp_path, "images/a.png", "images/b.png", "images/more.png", "private/c.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "x.csv").write_text("image,grade\na,0\nb,1\n")
    assert sorted(load(tmp_path / "labels" / "x.csv").table["file"]) == [f"images/{n}.png" for n in ("a", "b", "more")]


def test_a_patient_column_is_recognised_and_unknown_patients_are_not_one_person(tmp_path):
    pictures(tmp_path, *(f"{name}.png" for name in "abcd"))
    source = load(tmp_path, "image,Patient ID,Eye,grade\na,7,OD,0\nb,7.0,os,1\nc,NA,right,1\nd,,?,0\n")
    assert list(source.table["group"]) == ["7", "7", "", ""] and list(source.table["eye"]) == [
        "right",
        "left",
        "right",
        "",
    ]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ("P017/a P017/b P017/c P018/a P018/b P018/c", "patients"),
        ("2019-01-02/a 2019-01-02/b 2019-01-02/c 20200101/a 20200101/b 20200101/c", "dates"),
        ("train/a train/b train/c extra/x extra/y extra/z test/a test/b test/c", "parts"),
        ("smith/a smith/b jones/a jones/b", "one or two"),
        ("fold0/a fold0/b fold0/c fold1/a fold1/b fold1/c", "parts"),
        ("2023/10/a 2023/10/b 2023/10/c 2023/11/a 2023/11/b 2023/11/c", "numbers"),
        ("101/a 101/b 101/c 102/a 102/b 102/c", "numbers"),
        ("March/a March/b March/c Apr_2024/a Apr_2024/b Apr_2024/c", "dates"),
        ("visit1/a visit1/b visit1/c visit2/a visit2/b visit2/c", "dates"),
        ("1.2.840.1/a 1.2.840.1/b 1.2.840.1/c 1.2.840.2/a 1.2.840.2/b 1.2.840.2/c", "patients"),
    ],
)
def test_folders_that_are_no_classes_are_refused(tmp_path, refuses, files, kind):
    pictures(tmp_path, *(f"{name}.png" for name in files.split()))
    with refuses("source.shape", tmp_path, kind, "--unlabelled", "--scale none"):
        load(tmp_path)
    pool = load(tmp_path, unlabelled=-1)
    assert pool.classes == () and pool.table["label"].isna().all() and len(pool.table) == len(files.split())
    people = {name.partition("/")[0] for name in files.split()}
    assert set(pool.table["group"]) == (people if kind == "patients" else {""})
    assert len(load(tmp_path, scale="none").classes) == len({name.rpartition("/")[0] for name in files.split()})


def test_the_interpretation_of_folders_is_printed_with_counts_and_the_option(tmp_path, capsys):
    pictures(tmp_path, *(f"{name}/{number}.png" for name in ("normal", "cataract") for number in range(3)))
    load(tmp_path)
    said = capsys.readouterr().out
    assert "normal (3), cataract (3)" in said and "--unlabelled" in said


@pytest.mark.parametrize(
    "path", ["{part}/images/{grade}", "{part}_images/{grade}", "top/{part}/{grade}/P01", "{grade}/{part}"]
)
def test_nested_folders(tmp_path, path):
    places = [path.format(part=part, grade=grade) for part in ("train", "test") for grade in range(5)]
    pictures(tmp_path, *(f"{place}/{number}.png" for number, place in enumerate(places)))
    source = load(tmp_path)
    assert source.classes == ICDR and sorted(source.table["label"]) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert dict(source.table["split"].value_counts()) == {"train": 5, "test": 5}


def test_parts_without_classes_are_a_pool(tmp_path):
    pictures(tmp_path, "train_images/a.png", "train_images/b.png", "test_images/c.png")
    assert load(tmp_path).classes == () and part_of("Testing Set") == "test" and part_of("train glaucoma") == ""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_of_any_encoding(tmp_path, encoding, separator):
    text = "image,grade,clinic\na,1,Lariboisi\u00e8re\nb,0\n".replace(",", separator)
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    rows = read_rows(tmp_path / "x.csv")
    assert rows.to_dict("list") == {"image": ["a", "b"], "grade": ["1", "0"], "clinic": ["Lariboisi\u00e8re", ""]}


def test_columns_are_found_in_large_tables_and_not_in_other_files(tmp_path, refuses):
    file = tmp_path / "x.csv"
    for start in ("id", "idx"):  # of the two, one has a letter across the end of what is read of a large file
        file.write_text(f"{start},grade\n" + "\u00e8" * (1 << 16), encoding="utf-8")
        assert has_columns(file, (start, "grade"))
    file.write_bytes(b"id,grade\n\x81\x8d")
    assert has_columns(file, ("id", "grade"))
    file.write_bytes(b"\x89\x81\x8d\n")
    assert not has_columns(file, ("id",))
    with refuses("table.encoding", file):
        read_rows(file)


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("gb18030", "患者,眼别,等级,图像,左,右,无,轻度,中度,重度,增殖性"),
        ("big5", "患者,眼別,等級,影像,左,右,無,輕度,中度,重度,增殖性"),
        ("shift_jis", "患者,眼,グレード,画像,左,右,なし,軽度,中等度,重度,増殖"),
        ("cp1252", "Größe,Œdème,Légère,à,n°,“Sévère”,ßa,été,d’où,Ñandú,5 µm"),
    ],
)
def test_tables_in_other_encodings(tmp_path, encoding, words):
    columns = words.split(",")
    file = tmp_path / "x.csv"
    file.write_bytes(f"{words}\n{words}\n".encode(encoding))
    assert read_rows(file).to_dict("list") == {column: [column] for column in columns}
    file.write_bytes("".join(f"{word}\n" for word in ("id", columns[0], columns[2])).encode(encoding))
    assert list(read_rows(file)["id"]) == [columns[0], columns[2]]


@pytest.mark.parametrize(
    ("encoding", "words", "named"),
    [
        ("euc_kr", "환자,왼쪽,등급", "euc_kr"),
        ("cp1251", "Пациент,Глаз,Степень", ""),
        ("utf-8", "été,眼别等级图像,轻度\udcff", "utf-8"),
    ],
)
def test_an_encoding_that_cannot_be_told_is_refused(tmp_path, refuses, encoding, words, named):
    file = tmp_path / "x.csv"
    file.write_bytes(f"{words}\n{words}\n".encode(encoding, "surrogateescape"))
    with refuses("table.damaged" if named == "utf-8" else "table.encoding", file, named):
        read_rows(file)


def test_a_table_without_a_header(tmp_path):
    pictures(tmp_path, "0000_1.png", "0001_2.png")
    source = load(tmp_path, "0000_1.png,2\n0001_2.png,0\n")
    assert labels(source) == {"0000_1": 1, "0001_2": 0} and source.classes == ("0", "2")


def test_a_csv_in_a_folder_of_its_name_and_tables_of_parts(tmp_path):
    pictures(tmp_path, "p/a.png", "p/b.png", "p/c.png")
    for part, rows in (("train", "a,0\nb,1\n"), ("test", "c,1\n")):
        (tmp_path / f"{part}.csv").mkdir()
        (tmp_path / f"{part}.csv" / f"{part}.csv").write_text("image,grade\n" + rows)
    source = load(tmp_path)
    assert list(source.table["split"]) == ["test", "train", "train"] and SOURCES["table"].recognise(tmp_path)


def test_of_several_tables_the_one_with_labels_is_read(tmp_path, refuses):
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "cameras.csv").write_text("clinic,camera\nx,y\n")
    assert labels(load(tmp_path, "image,grade\na,1\nb,0\n")) == {"a": 1, "b": 0}
    (tmp_path / "second.csv").write_text("image,grade\na,0\nb,0\n")
    with refuses("table.several", "labels.csv", "second.csv"):
        load(tmp_path)


def test_tables_of_several_folders_are_read_together(tmp_path, refuses, capsys):
    pictures(tmp_path, "one/a.png", "one/b.png", "two/c.png", "two/more/d.png", "two/more/e.png")
    (tmp_path / "one.csv").write_text("image,grade\na,1\nb,0\n")
    (tmp_path / "two").joinpath("labels.csv").write_text("id_code,diagnosis\nc,2\n")
    (tmp_path / "elsewhere.csv").write_text("image,grade\nx,1\ny,0\n")
    assert labels(load(tmp_path)) == {"a": 1, "b": 0, "two/c": 2, "two/more/d": pd.NA, "two/more/e": pd.NA}
    assert "elsewhere.csv" in capsys.readouterr().out.replace("\n", "")
    (tmp_path / "two" / "more" / "same.csv").write_text("image,grade\nd,3\nc,2\n")
    pictures(tmp_path, "two/c.png")
    assert labels(load(tmp_path))["two/more/d"] == 3
    deep = tmp_path / "a" / "b" / "c" / "x.csv"
    deep.parent.mkdir(parents=True)
    deep.write_text("image,grade\nd,3\ne,1\n")
    assert labels(load(tmp_path))["e"] == 1
    deep.write_text("image,grade\nd,4\ne,1\n")
    with refuses("table.several", deep, 1):
        load(tmp_path)
    deeper = deep.parent / "d" / "x.csv"
    deeper.parent.mkdir()
    deep.rename(deeper)
    with refuses("table.several", deeper, 1):
        load(tmp_path)


@pytest.mark.parametrize("title", ["Export of ward 7", "# by Doe; 2024", "Ward,7\n\nDoe,2024"])
def test_names_of_columns_below_a_title_are_refused_with_their_line(tmp_path, refuses, title):
    pictures(tmp_path, "17.png", "18.png")
    (tmp_path / "labels.csv").write_text(f"{title}\nimage,grade\n17,1\n18,0\n")
    for source in (tmp_path, tmp_path / "labels.csv"):
        with refuses("table.title", "labels.csv", f"line {title.count(chr(10)) + 2}", "image, grade"):
            read_source(source, "auto", DEFAULT)


def test_an_excel_sheet_beside_the_pictures(tmp_path):
    xlwt = pytest.importorskip("xlwt")
    pictures(tmp_path, "17.png", "18.png")
    book = xlwt.Workbook()
    sheet = book.add_sheet("x")
    for row, cells in enumerate((("image", "grade"), (17, 1), (18, 0.0))):
        for column, cell in enumerate(cells):
            sheet.write(row, column, cell)
    book.save(str(tmp_path / "labels.xls"))
    assert labels(load(tmp_path)) == {"17": 1, "18": 0}


def test_a_row_without_a_name_is_refused(tmp_path, refuses):
    pictures(tmp_path, "a.png")
    with refuses("table.image_name", "labels.csv", "row 3"):
        load(tmp_path, "image,grade\na,1\n,0\n")
    assert pd.isna(labels(load(tmp_path, "image,grade\na,NA\n"))["a"])


def test_dicom_headers_tell_patient_and_eye_but_not_the_number(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    for name, patient, tag, side in (
        ("a", "4711", "ImageLaterality", "L"),
        ("b", "4711", "Laterality", "R"),
        ("c", "", "", ""),
    ):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data = pydicom.dataset.FileDataset(str(tmp_path / f"{name}.dcm"), {}, file_meta=meta, preamble=bytes(128))
        data.PatientID, data.PatientName = patient, "Doe^Jane"
        if tag:
            setattr(data, tag, side)
        data.save_as(tmp_path / f"{name}.dcm")
    (tmp_path / "d.dcm").write_bytes(b"no DICOM")
    table = load(tmp_path).table
    assert list(table["eye"]) == ["left", "right", "", ""] and list(table["group"])[2:] == ["", ""]
    first, second = table["group"][:2]
    assert first == second and first.startswith("dicom-") and "4711" not in table.to_csv()


def test_a_repair_that_changes_nothing_is_not_advised(tmp_path, refuses):
    matcher = Matcher([tmp_path / "a\\b.png"], tmp_path)
    with refuses("table.unmatched", tmp_path) as told:
        matcher.match(["a\\b.png"], tmp_path / "t.csv")
    assert "17.0" not in str(told.value)


@pytest.mark.parametrize(
    "names",
    [
        ("DR yok", "Hafif", "Orta", "Şiddetli", "Proliferatif"),
        ("Geen DR", "Lichte", "Matige", "Ernstige", "Proliferatieve DR"),
        ("нет", "лёгкая", "умеренная", "тяжёлая", "пролиферативная"),
        ("なし", "軽症", "中等症", "重症", "増殖"),
        ("없음", "경증", "중등도", "중증", "증식성"),
        ("Absence de RD", "Légère", "Modérée", "Sévère", "Proliférante"),
    ],
)
def test_grades_in_other_languages_are_in_the_order_of_severity(names):
    labels, classes, scale, _ = name_classes(set(names))
    assert [labels[name] for name in names] == [0, 1, 2, 3, 4] and (len(classes), scale) == (5, "icdr")


@pytest.mark.parametrize(
    "names", [("Mild", "Moderate", "Severe"), ("Mild", "Moderate", "Odd", "Strange", "Wild", "Bad")]
)
def test_names_that_may_be_grades_are_told(names):
    _, classes, scale, note = name_classes(set(names))
    assert len(classes) == len(names) and scale == "none" and "--scale icdr" in note


def write_sheets(file, sheets):
    xlwt = pytest.importorskip("xlwt")
    book = xlwt.Workbook()
    for name, rows in sheets.items():
        sheet = book.add_sheet(name)
        for row, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                sheet.write(row, column, cell)
    book.save(str(file))


LABELLED = [("image", "grade"), ("a", 1), ("", ""), ("b", 0)]


@pytest.mark.parametrize("first", [[], [("hello",)], [("column", "meaning"), ("image", "a file"), ("grade", "0-4")]])
def test_the_sheet_with_labels_is_read_and_others_are_named(tmp_path, capsys, first):
    pictures(tmp_path, "a.png", "b.png")
    write_sheets(tmp_path / "labels.xls", {"Notes": first, "Labels": LABELLED})
    assert labels(load(tmp_path)) == {"a": 1, "b": 0}
    assert ("'Notes'" in capsys.readouterr().out) == bool(first)


def test_labels_in_several_sheets_are_refused_and_so_is_a_workbook_without_them(tmp_path, refuses):
    pictures(tmp_path, "a.png", "b.png")
    write_sheets(tmp_path / "labels.xls", {"OD": LABELLED, "OS": LABELLED})
    for place in (tmp_path, tmp_path / "labels.xls"):
        with refuses("table.sheets", "labels.xls", "'OD'", "'OS'"):
            load(place)
    write_sheets(tmp_path / "labels.xls", {"Notes": [("hello",)], "Labels": [("image", "verdict"), ("a", 1)]})
    with refuses("table.missing_column", "labels.xls", "'Labels'"):
        load(tmp_path / "labels.xls")


@pytest.mark.parametrize("codes", ["7 8 9", "77 88 99", "6 7 8 9"])
def test_codes_beside_grades_are_refused_however_many(tmp_path, refuses, codes):
    cells = [*"01234", *codes.split()]
    pictures(tmp_path, *(f"{cell}/{number}.png" for cell in cells for number in range(3)))
    with refuses("label.value", tmp_path, *(f"'{code}'" for code in codes.split())):
        load(tmp_path)


@pytest.mark.parametrize("values", ["0 2 5", " ".join(map(str, range(10)))])
def test_other_numbers_are_classes_with_a_warning(tmp_path, capsys, values):
    pictures(tmp_path, *(f"{value}/{number}.png" for value in values.split() for number in range(4)))
    assert len(load(tmp_path).classes) == len(values.split()) and "warning" in capsys.readouterr().out
    load(tmp_path, scale="none")
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["masks", "annotations", "lesion masks", "Segmentations"])
def test_masks_in_folders_of_classes_are_left_out(tmp_path, capsys, name):
    pictures(tmp_path, *(f"{kind}/{grade}/{grade}.png" for kind in ("images", name) for grade in range(5)))
    source = load(tmp_path)
    assert len(source.table) == 5 and all(source.table["file"].str.startswith("images/"))
    assert "warning" in capsys.readouterr().out
    assert len(load(tmp_path / name).table) == 5  # nothing else is there


@pytest.mark.parametrize("start", ["gs://b/x/", "https://host//x/images/", "//data//x/"])
def test_ids_of_addresses_are_those_of_the_files(tmp_path, start):
    pictures(tmp_path, "x/img_0.png", "x/img_1.png")
    source = load(tmp_path, f"image,grade\n{start}img_0.png,0\n{start}img_1.png,1\n")
    assert set(source.table["file"]) == {"x/img_0.png", "x/img_1.png"}
    assert {name.rpartition("/")[2] for name in source.table["id"]} == {"img_0", "img_1"}
    assert not any(sign in name for name in source.table["id"] for sign in (":", "//", "x/x"))


def test_hidden_folders_are_told(tmp_path, capsys):
    pictures(tmp_path, "a.png", ".export/b.png")
    assert list(load(tmp_path).table["id"]) == ["a"] and ".export" in capsys.readouterr().out


def test_the_evaluation_set_of_rfmid_is_a_part():
    assert part_of("Evaluation_Set") == "val"


def test_turkish_and_icelandic_tables(tmp_path):
    for encoding, words in (("cp1254", ["Ağca", "Şahin", "Çelik"]), ("cp1252", ["Þórður", "Guðrún", "Ýmir"])):
        (tmp_path / "x.csv").write_bytes("\n".join(["image", *words]).encode(encoding))
        assert list(read_rows(tmp_path / "x.csv")["image"]) == words


def test_spaces_in_names_of_patients_do_not_matter_and_empty_cells_are_a_warning(tmp_path, capsys):
    people = ["Smith John", "Smith  John", "smith_john", "Smith", "", "Doe"]
    pictures(tmp_path, *(f"{number}.png" for number in range(6)))
    rows = "".join(f"{number},{number % 2},{name}\n" for number, name in enumerate(people))
    groups = load(tmp_path, f"image,grade,patient\n{rows}").table["group"]
    assert list(groups) == ["Smith John"] * 3 + ["Smith", "", "Doe"] and "row 6" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    ["record_id", "study_id", "ptid", "pat_id", "Subject No.", "patient name", "id_paciente", "Pat.-Nr."],
)  # fmt: skip
def test_more_names_of_patient_columns(tmp_path, name):
    pictures(tmp_path, *(f"{number}.png" for number in range(4)))
    rows = "".join(f"{number},{number % 2},{number // 2}\n" for number in range(4))
    assert list(load(tmp_path, f"image,grade,{name}\n{rows}").table["group"]) == ["0", "0", "1", "1"]


@pytest.mark.parametrize(
    ("header", "eyes"),
    [
        ("Dateiname;Patientennummer;Seite;Diagnose", "links rechts"),
        ("Bildname;Patienten-Nr.;Auge;Schweregrad", "LA RA"),
        ("nom du fichier;numéro patient;côté;gravité", "gauche droit"),
        ("Nombre de archivo;ID paciente;Lateralidad;Gravedad", "izquierdo derecho"),
        ("nome file;ID paziente;occhio;gravità", "sinistro destro"),
        ("nome do arquivo;prontuário;olho;gravidade", "esquerdo direito"),
        ("bestandsnaam;patientnummer;oog;graad", "links rechts"),
        ("图像;病人ID;眼睛;诊断", "左眼 右眼"),
        ("Imagen;Nº historia;Ojo;Diagnóstico", "OI OD"),
        ("Bild;Patient;Auge;Befund", "links rechts"),
        ("imagem;paciente;olho;classificação", "OE OD"),
    ],
)
def test_headings_in_other_languages(tmp_path, header, eyes):
    pictures(tmp_path, *(f"{number}.png" for number in range(10)))
    rows = "".join(f"{number};{100 + number // 2};{eyes.split()[number % 2]};{number % 5}\n" for number in range(10))
    (tmp_path / "labels.csv").write_text(f"{header}\n{rows}", encoding="utf-8")
    assert has_labels(tmp_path / "labels.csv")
    table = load(tmp_path).table
    assert list(table["label"]) == [number % 5 for number in range(10)]
    assert list(table["group"]) == [str(100 + number // 2) for number in range(10)]
    assert list(table["eye"]) == ["left", "right"] * 5


def test_of_two_headings_for_a_grade_the_one_that_says_more_counts(tmp_path):
    pictures(tmp_path, *(f"{number}.png" for number in range(5)))
    rows = "".join(f"{number}.png,{number},{(number + 1) % 5},{number // 2}\n" for number in range(5))
    table = load(tmp_path, f"Datei,Schweregrad,Stadium,Foto\n{rows}").table
    assert list(table["label"]) == [0, 1, 2, 3, 4]


def test_numbers_of_records_that_do_not_repeat_are_no_patients(tmp_path):
    pictures(tmp_path, "5_left.png", "5_right.png")
    table = load(tmp_path, "record_id,image,grade\n1,5_left,0\n2,5_right,1\n").table
    assert list(table["group"]) == ["5", "5"]


@pytest.mark.parametrize("cell", ["U", "CNG", "Cannot grade", "cannot be graded", "insufficient quality"])
def test_more_words_for_ungradable(tmp_path, cell):
    pictures(tmp_path, *(f"{number}.png" for number in range(6)))
    rows = "".join(f"{number},{grade}\n" for number, grade in enumerate([*"01234", cell]))
    assert load(tmp_path, f"image,grade\n{rows}").table["flags"][5] == "ungradable"


@pytest.mark.parametrize("cell", [".", "-9", "-99", "-999", "-9.0"])
def test_more_codes_for_missing(tmp_path, cell):
    pictures(tmp_path, *(f"{number}.png" for number in range(6)))
    rows = "".join(f"{number},{grade}.0e+00\n" for number, grade in enumerate("01234")) + f"5,{cell}\n"
    source = load(tmp_path, f"image,choice\n{rows}")
    assert source.classes == ICDR and list(source.table["label"])[:5] == [0, 1, 2, 3, 4]
    assert pd.isna(source.table["label"][5]) and not source.table["flags"][5]


def test_german_grades_accents_of_columns_and_folders_of_fractions(tmp_path):
    assert [grade_of(word) for word in ("milde NPDRP", "PDRP", "keine DRP")] == [1, 4, 0]
    pictures(tmp_path / "a", "0.png", "1.png")
    assert labels(load(tmp_path / "a", "image,Diagn\u00f3stico\n0,1\n1,0\n")) == {"0": 1, "1": 0}
    pictures(tmp_path / "b", *(f"{grade}.0/{grade}.png" for grade in range(5)))
    assert load(tmp_path / "b").classes == ICDR


def test_empty_rows_are_skipped_and_the_others_keep_their_numbers(tmp_path, refuses):
    pictures(tmp_path, *(f"{number}.png" for number in range(6)))
    rows = [f"{number},{number % 5}" for number in range(6)]
    text = "\n".join(["image,grade", rows[0], ",", " , ", *rows[1:], ","])
    assert list(load(tmp_path, text).table["label"]) == [0, 1, 2, 3, 4, 0]
    with refuses("label.value", "'7' in row 9"):
        load(tmp_path, text.replace("5,0", "5,7"))


def test_lists_of_paths_and_grades_are_not_those_of_ddr(tmp_path):
    pictures(tmp_path, *(f"images/{number}.png" for number in range(6)))
    for part, numbers in (("train", range(5)), ("val", range(5, 6))):
        (tmp_path / f"{part}.txt").write_text("".join(f"images/{number}.png {number % 5}\n" for number in numbers))
    source = load(tmp_path)
    assert list(source.table["split"]) == ["train"] * 5 + ["val"] and source.classes == ICDR


def test_labels_0_and_1_of_a_cohort_are_grades_with_a_warning(tmp_path, capsys, grader_run, write_phantoms):
    run, told = shutil.copytree(grader_run, tmp_path / "run"), []
    for highest in (1, 2):
        folder = tmp_path / f"to{highest}"
        write_phantoms(folder / "photos", 10)
        files = sorted((folder / "photos").rglob("*.png"))
        rows = "".join(f"{file.name},{number % (highest + 1)}\n" for number, file in enumerate(files))
        (folder / "labels.csv").write_text(f"image,grade\n{rows}")
        capsys.readouterr()
        assert cohort_set(run, folder / "labels.csv").card["scale"] == "icdr"
        told.append(capsys.readouterr().out.count("warning"))
    assert told == [2, 1]  # one is about unknown patients


@pytest.mark.parametrize(
    ("folders", "kind"),
    [
        ([f"{n:03d}" for n in range(1, 41)], "numbers"),
        ([str(n) for n in range(1, 11)], "numbers"),
        ([f"Eye {n}" for n in range(1, 13)], "numbers"),
        (["001", "002", "003", "004"], "numbers"),
        ([f"{day:02d}.03.24" for day in range(1, 10)], "dates"),
        ([f"24-03-{day:02d}" for day in range(1, 10)], "dates"),
        ([f"2024_01_{day} Clinic" for day in range(11, 21)], "dates"),
        ([f"{day}.1.2024 Clinic" for day in range(11, 21)], "dates"),
        ([f"Case {letter}" for letter in "ABCDE"], "patients"),
        (["100CANON", "101CANON", "misc"], "camera"),
    ],
)
def test_folders_of_patients_days_and_cameras_are_no_classes(tmp_path, refuses, folders, kind):
    pictures(tmp_path, *(f"{folder}/a{number}.png" for folder in folders for number in range(4)))
    with refuses("source.shape", tmp_path, kind, "--unlabelled", "--scale none"):
        load(tmp_path)
    assert len(load(tmp_path, scale="none").classes) == len(folders)


@pytest.mark.parametrize(
    "folders",
    [
        [f"DCIM/10{n}CANON" for n in range(3)],
        [f"10{n}_PANA" for n in range(3)],
        ["Export_0", "Export_1"],
        ["New folder", "New folder (2)"],
    ],
)
def test_folders_of_cards_and_programs_are_a_pool_or_hold_classes(tmp_path, folders):
    pictures(tmp_path, *(f"{folder}/{n}.png" for n, folder in enumerate(folders * 4)))
    assert load(tmp_path).classes == ()
    pictures(tmp_path / "deeper", *(f"{folder}/{grade}/{grade}.png" for folder in folders for grade in range(5)))
    assert load(tmp_path / "deeper").classes == ICDR


@pytest.mark.parametrize("folders", ["0 1 2 3 4 5 6 7 8 9", "1 2 3", "00 01 02 03 04", "class1 class2", "R1 R2"])
def test_folders_of_classes_with_numbers_are_read(tmp_path, folders):
    pictures(tmp_path, *(f"{folder}/{number}.png" for folder in folders.split() for number in range(4)))
    assert len(load(tmp_path).classes) == len(folders.split())


@pytest.mark.parametrize("folders", ["0 1 2 3 4 other", "mild other 2 3 4"])
def test_another_word_beside_folders_of_numbers_is_refused_as_in_a_table(tmp_path, refuses, folders):
    pictures(tmp_path, *(f"{folder}/{number}.png" for folder in folders.split() for number in range(4)))
    with refuses("label.value", tmp_path, "'other'", "--scale none"):
        load(tmp_path)
    assert len(load(tmp_path, scale="none").classes) == len(folders.split())


@pytest.mark.parametrize(
    "names",
    [
        "NoDR|MildDR|ModerateDR|SevereDR|ProliferativeDR",
        "NoDR|MildNPDR|ModerateNPDR|SevereNPDR|PDR",
        "nodr|milddr|moderatedr|severedr|proliferativedr",
        "NoRetinopathy|MildNonProliferativeDR|ModerateNonProliferativeDR|SevereNonproliferative|ProliferativeRetinopathy",
        "Sin retinopatía aparente|Leve|Moderado|Severo|Proliferativo",
        "keine|leichtgradig|moderat|hochgradig|proliferativ",
        "無明顯視網膜病變|輕度|中度|重度|增殖性",
        "無|輕度非增殖性糖尿病視網膜病變|中度非增殖性|嚴重非增殖性|增殖期",
        "網膜症なし|軽症非増殖網膜症|中等症非増殖網膜症|重症非増殖網膜症|増殖網膜症",
        "異常なし|軽度非増殖糖尿病網膜症|中等度|重度|増殖糖尿病網膜症",
        "정상|경도 비증식성|중등도 비증식성|고도 비증식성|증식성",
        "없음|경도비증식성|중등도 비증식성 당뇨망막병증|중증|증식성 당뇨망막병증",
        "Bình thường|Không tăng sinh nhẹ|Không tăng sinh vừa|Không tăng sinh nặng|Tăng sinh",
        "Không|Nhẹ|Trung bình|Nặng|Tăng sinh",
        "Tidak ada|NPDR ringan|NPDR sedang|NPDR berat|Proliferatif",
        "سليم|خفيف غير تكاثري|متوسط غير تكاثري|شديد غير تكاثري|تكاثري",
        "Χωρίς|Ήπια μη παραγωγική|Μέτρια μη παραγωγική|Σοβαρή μη παραγωγική|Παραγωγική",
        "कोई नहीं|हल्का|मध्यम|गंभीर|प्रोलिफेरेटिव",
    ],
)
def test_joined_names_and_those_of_other_languages_are_on_the_scale(names):
    assert [grade_of(name) for name in names.split("|")] == [0, 1, 2, 3, 4]
    assert name_classes(set(names.split("|")))[1:3] == (ICDR, "icdr")


@pytest.mark.parametrize("name", ["nonpdr", "node", "drusen", "NoRDR", "001", "milddme", "diabetes", "DR"])
def test_words_that_hold_a_grade_only_by_chance_are_none(name):
    assert grade_of(name) is None


def test_of_two_pictures_whose_names_differ_in_case_the_exact_one_is_meant(tmp_path):
    pictures(tmp_path, "x/a0.jpg", "x/A0.jpg", "x/b0.jpg")
    source = load(tmp_path, "image,grade\nx/A0.jpg,2\nx/a0.jpg,1\nb0,0\n")
    assert dict(zip(source.table["file"], source.table["label"], strict=True)) == {
        "x/A0.jpg": 2, "x/a0.jpg": 1, "x/b0.jpg": 0}  # fmt: skip
    assert Matcher([tmp_path / "x/a0.jpg", tmp_path / "x/A0.jpg"], tmp_path).find("A0") == [tmp_path / "x/A0.jpg"]


@pytest.mark.parametrize(
    ("files", "rows", "how"),
    [("photos/IMG_{:05d}.jpg", "IMG_{}", "zeros"), ("photos/a{}_resized.jpg", "a{}", "resized")],
)
def test_usual_differences_of_names_are_told(tmp_path, refuses, files, rows, how):
    pictures(tmp_path, *(files.format(number) for number in range(1, 10)))
    text = "\n".join(["image,grade", *(f"{rows.format(number)},{number % 5}" for number in range(1, 10))])
    with refuses("table.unmatched", how, 9):
        load(tmp_path, text)


def test_pictures_beside_the_folder_that_is_read_are_counted(tmp_path, capsys):
    for folder in ("resized_train", "resized_train_cropped"):
        pictures(tmp_path / folder, "17_left.jpeg", "17_right.jpeg")
    (tmp_path / "trainLabels.csv").write_text("image,level\n17_left,0\n17_right,2\n")
    assert len(load(tmp_path).table) == 2
    assert "resized_train_cropped (2)" in capsys.readouterr().out
    pictures(tmp_path / "whole", "A. Segmentation/x.jpg")
    base = tmp_path / "whole" / "B. Disease Grading"
    pictures(base / "1. Original Images" / "a. Training Set", "IDRiD_001.jpg")
    (base / "2. Groundtruths").mkdir()
    table = base / "2. Groundtruths" / "a. IDRiD_Disease Grading_Training Labels.csv"
    table.write_text("Image name,Retinopathy grade\nIDRiD_001,2\n")
    load(tmp_path / "whole")
    assert "A. Segmentation (1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("Normal normal Normal NORMAL DR dr DR", ("Normal", "DR")),
        ("yes Yes Yes NO No No", ("No", "Yes")),
        ("glaucoma_suspect glaucoma__suspect Glaucoma_suspect glaucoma_suspect other", ("glaucoma suspect", "other")),
    ],
)
def test_labels_that_differ_in_case_and_spaces_are_one_class(tmp_path, capsys, names, classes):
    words = [name.replace("_", " ") for name in names.split()]
    pictures(tmp_path / "a", *(f"{number}.png" for number in range(len(words))))
    rows = [f"{number},{word}" for number, word in enumerate(words)]
    source = load(tmp_path / "a", "\n".join(["image,label", *rows]))
    told = [line for line in capsys.readouterr().out.splitlines() if f"as '{classes[0]}'" in line]
    expected = [[" ".join(name.split()).lower() for name in classes].index(" ".join(w.split()).lower()) for w in words]
    assert source.classes == classes and list(source.table["label"]) == expected and len(told) == 1
    pictures(tmp_path / "b", *(f"{word}/{number}-{more}.png" for number, word in enumerate(words) for more in range(3)))
    assert load(tmp_path / "b").classes == classes


def test_spellings_of_several_tables_are_one_class(tmp_path):
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    (tmp_path / "train.csv").write_text("image,label\na,Glaucoma\nb,Normal\nd,Glaucoma\n")
    (tmp_path / "more.csv").write_text("image,label\nc,GLAUCOMA\na,glaucoma\n")
    assert load(tmp_path).classes == ("Normal", "Glaucoma")


@pytest.mark.parametrize("row", ["missing1.jpg,other", "Total,other"])
def test_rows_without_a_picture_make_no_class(tmp_path, capsys, row):
    pictures(tmp_path, *(f"{number}.png" for number in range(20)))
    rows = "".join(f"{number},{('DR', 'Normal')[number % 2]}\n" for number in range(20))
    source = load(tmp_path, f"image,label\n{rows}{row}\n")
    assert source.classes == ("Normal", "DR") and list(source.table["label"][:20]) == [1, 0] * 10
    assert source.table["label"].isna().sum() == 1 and "row 22" in capsys.readouterr().out


def test_a_row_without_a_picture_adds_no_number_to_the_classes(tmp_path):
    pictures(tmp_path, *(f"{number}.png" for number in range(20)))
    rows = "".join(f"{number},{number % 2}\n" for number in range(20))
    assert load(tmp_path, f"image,label\n{rows}Total,70\n").classes == ("0", "1")


@pytest.mark.parametrize("cell", ["4.20E+09", "4,2e+09", "4.20123E+12"])
def test_rounded_numbers_of_patients_are_refused(tmp_path, refuses, cell):
    pictures(tmp_path, "a.png", "b.png")
    with refuses("table.rounded", "labels.csv", "'patient'", cell):
        load(tmp_path, f'image,label,patient\na,0,"{cell}"\nb,1,"{cell}"\n')
    assert list(load(tmp_path, "image,label,patient\na,0,1E5\nb,1,1E6\n").table["group"]) == ["1E5", "1E6"]


@pytest.mark.parametrize("cell", ["Anonymous", "ANONYM", "unbekannt", "anónimo", "unknown", "n/a", "-", "k.A.", "None"])
def test_words_for_an_unknown_patient_are_nobody(tmp_path, cell):
    pictures(tmp_path, "17_left.png", "17_right.png", "18_left.png")
    rows = f"image,label,patient\n17_left,0,{cell}\n17_right,1,{cell}\n18_left,1,%s\n"
    assert list(load(tmp_path, rows % "P3").table["group"]) == ["", "", "P3"]
    assert list(load(tmp_path, rows % cell).table["group"]) == ["17", "17", "18"]


@pytest.mark.parametrize("folder", [
    "@eaDir/a.png", "thumbs", "Thumbnails", "$RECYCLE.BIN", "lost+found", ".Trash-1000", "#recycle", "@Recycle",
    "System Volume Information", "__MACOSX",
])  # fmt: skip
def test_folders_of_systems_are_no_classes(tmp_path, capsys, folder):
    for name in ("DR", "Normal", f"{folder}", f"DR/{folder}"):
        pictures(tmp_path, *(f"{name}/{number}.png" for number in range(3)))
    source = load(tmp_path)
    assert source.classes == ("Normal", "DR") and len(source.table) == 6 and folder[:6] in capsys.readouterr().out
    pictures(tmp_path / "tmp", "a/snapshot/x.png", "recycle/y.png")
    assert len(load(tmp_path / "tmp", unlabelled=-1).table) == 2


SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def write_workbook(file, rows):
    """An Excel file with one sheet, from the XML of the cells of each row."""
    link = f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r1" Type="{LINKS}/%s" Target="%s"/></Relationships>'
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("_rels/.rels", link % ("officeDocument", "xl/workbook.xml"))
        book.writestr("xl/_rels/workbook.xml.rels", link % ("worksheet", "worksheets/sheet1.xml"))
        sheets = '<sheets><sheet name="Labels" sheetId="1" r:id="r1"/></sheets>'
        book.writestr("xl/workbook.xml", f'<workbook xmlns="{SHEET}" xmlns:r="{LINKS}">{sheets}</workbook>')
        cells = "".join(f"<row>{row}</row>" for row in rows)
        book.writestr(
            "xl/worksheets/sheet1.xml", f'<worksheet xmlns="{SHEET}"><sheetData>{cells}</sheetData></worksheet>'
        )


def test_formulas_without_values_are_refused(tmp_path, refuses):
    text = '<c r="{}" t="inlineStr"><is><t>{}</t></is></c>'.format
    head = text("A1", "image") + text("B1", "grade")
    pictures(tmp_path, "a.png", "b.png")
    for value in ("", "<v></v>", "<v/>"):
        rows = [head, text("A2", "a") + f'<c r="B2"><f>2+0</f>{value}</c>', text("A3", "b") + '<c r="B3"><v>1</v></c>']
        write_workbook(tmp_path / "labels.xlsx", rows)
        for place in (tmp_path, tmp_path / "labels.xlsx"):
            with refuses("table.formulas", "labels.xlsx", "B2"):
                load(place)
    empty = '<c r="C2" t="str"><f>""</f><v></v></c>'  # a program has computed that it is empty
    rows = [
        head,
        text("A2", "a") + '<c r="B2"><f>2+0</f><v>2</v></c>' + empty,
        text("A3", "b") + '<c r="B3"><v>1</v></c>',
    ]
    write_workbook(tmp_path / "labels.xlsx", rows)
    assert labels(load(tmp_path / "labels.xlsx")) == {"a": 1, "b": 0}


@pytest.mark.parametrize(
    "cell",
    ["nicht beurteilbar", "Nicht auswertbar", "unbeurteilbar", "no valorable", "non \u00e9valuable", "non valutabile"],
)
def test_ungradable_in_other_languages(tmp_path, cell):
    pictures(tmp_path, *(f"{number}.png" for number in range(7)))
    rows = "".join(f"{number},{grade}\n" for number, grade in enumerate([*"01234", cell, "k.A."]))
    source = load(tmp_path, f"image,grade\n{rows}")
    assert list(source.table["flags"][5:]) == ["ungradable", ""] and source.table["label"].count() == 5


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "utf-8", "gbk", "ascii"])
def test_names_in_archives_of_any_encoding(tmp_path, encoding):
    words = {"gbk": ["\u5de6\u773c\u7167\u7247", "\u5f20\u4e09"], "ascii": ["a", "b"]}.get(
        encoding, ["M\u00fcller", "Jos\u00e9"]
    )
    raw = [word.encode(encoding) for word in words]
    signs = [sign * len(name) for sign, name in zip("xy", raw, strict=True)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in [*(f"{sign}_00.png" for sign in signs), "\u00e4\u5de6.png"]:  # the last one with the flag of UTF-8
            archive.writestr(name, PIXELS)
        archive.writestr("labels.csv", f"image,label\n{words[0]}_00,1\n{words[1]}_00,0\n".encode())
    data = (tmp_path / "a.zip").read_bytes()
    for sign, name in zip(signs, raw, strict=True):  # as old programs write them
        data = data.replace(f"{sign}_00.png".encode(), name + b"_00.png")
    (tmp_path / "a.zip").write_bytes(data)
    names = {*(f"{word}_00" for word in words), "\u00e4\u5de6"}
    with unpacked(tmp_path / "a.zip", tmp_path / "out") as root:
        assert labels(load(root)).items() >= {f"{words[0]}_00": 1, f"{words[1]}_00": 0}.items()
        assert set(load(root).table["id"]) == names
    assert {photograph.id.rpartition("/")[2] for photograph in list_photographs([tmp_path / "a.zip"])} == {
        f"{name}.png" for name in names
    }
