"""Patients whose names or folders hold visits, days and times are one patient each; headers count more than names."""

import re

import cv2
import numpy as np
import pytest

from foveal.sources.names import eye_of
from foveal.sources.patients import names_note, patients_and_eyes
from foveal.sources.registry import read_source
from foveal.sources.source import SourceOptions


def patients(names):
    return set(patients_and_eyes(names)[0])


def pairs(name, visits, numbers=range(500, 506)):
    """Names of both eyes of several patients at each visit."""
    return [name.format(p=p, v=v, e=e) for p in numbers for v in visits for e in ("OD", "OS")]


@pytest.mark.parametrize(
    ("name", "visits"),
    [
        ("{p}_20230101_{v}_Color_{e}_001", (100107, 235959)),
        ("{p}_202301{v}103007_Color_{e}_007", ("01", "22")),
        ("{p}_2023-01-{v}T10-30-07_{e}", ("01", "22")),
        ("{p}_{v}_{e}", (2019, 2020, 2021)),
        ("{p}{v}_{e}", ("", "_2020")),
        ("{p} {v} {e}", ("01.01.2023", "13.01.2023")),
        ("{p}_{v}_{e}", ("01-01-2023", "07-Jun-2023", "01012024")),
        ("{p}_{v}_{e}", ("month12", "baseline", "m12", "fu2", "followup", "week 3", "6months")),
        ("{v}_{p}_{e}", (230101, 240312)),
        ("{v}_{p}_{e}", (20230101, 20240312)),
        ("{p}_{e}_{v}", (20230101, 20240312)),
        ("{p}/{v}/{e}", ("V1", "V2")),
        ("{p}/{v}/{e}", (20230101, "2023-05-07")),
        ("{p}/{v}/{e}", (2022, 2023)),
        ("{p}/{v}/{e}_1", (1, 2)),
        ("{p}/{v}/{e}/IM0001", (2022, 2023)),
        ("{p}/{e}/IM000{v}", (1, 2, 3)),
        ("{p}/{e}/{v}", (1, 2)),
        ("{p}/{v}_{e}", (20230101, 20240312)),
    ],
)
def test_days_times_and_visits_are_no_patients(name, visits):
    assert patients(pairs(name, visits)) == {str(number) for number in range(500, 506)}


def test_visits_in_folders_of_names():
    people = [f"Smith{number}" for number in range(6)]
    assert patients(pairs("{p}/{v}/{e}", (1, 2), people)) == set(people)
    assert patients(pairs("{p}/{e}/IM{v}", (1, 2), people)) == set(people)
    assert patients(pairs("images/{p}/V1/{e}", (1,), people)) == set(people)


@pytest.mark.parametrize(
    ("name", "visits", "numbers", "expected"),
    [
        ("site{p}_{v}_{e}", range(2000, 2050), (1, 2), {f"site{s}_{n}" for s in (1, 2) for n in range(2000, 2050)}),
        ("site{p}_M{v}_{e}", range(10, 40), (1, 2), {f"site{s}_M{n}" for s in (1, 2) for n in range(10, 40)}),
        ("site{p}/{v}/{e}", range(20), (1, 2), set(map(str, range(20)))),
        ("{p}/{v}/{e}", range(3, 20), (2022, 2023), set(map(str, range(3, 20)))),
        ("site{p}/{e}/P{v}", range(20), (1, 2), {f"site{s}/P{n}" for s in (1, 2) for n in range(20)}),
        ("{p}_{e}", ("",), range(1990, 2010), set(map(str, range(1990, 2010)))),
        ("{p}/{e}", ("",), range(1990, 2010), set(map(str, range(1990, 2010)))),
        ("V{p}_{e}", ("",), range(1, 4), {"V1", "V2", "V3"}),
        ("20230101_{p}_{e}", ("",), (1001, 100107), {"1001", "100107"}),
    ],
)
def test_numbers_of_patients_are_no_visits(name, visits, numbers, expected):
    assert patients(pairs(name, visits, numbers)) == expected


def test_names_that_may_hold_visits_are_a_warning(capsys):
    for visits, warned in ((("_xa", "_xb"), True), (("", "_xb"), True), (("",), False)):
        names = pairs("{p}{v}_{e}", visits)
        names_note(names, *patients_and_eyes(names))
        assert ("warning" in capsys.readouterr().out) == warned
    sites = pairs("site{p}_{v}_{e}", range(1, 40), (1, 2))
    names_note(sites, *patients_and_eyes(sites))
    assert "warning" not in capsys.readouterr().out


def write_dicom(file, patient, study=""):
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.dataset.FileDataset(str(file), {}, file_meta=meta, preamble=bytes(128))
    data.PatientID, data.StudyInstanceUID = patient, study
    data.save_as(file)


def test_the_patient_of_a_header_counts_more_than_that_of_a_name_but_less_than_a_column(tmp_path):
    for number, patient in enumerate(("A", "A", "B", "B")):
        write_dicom(tmp_path / f"{number}_OD.dcm", patient)
    cv2.imwrite(str(tmp_path / "0_OS.png"), np.zeros((8, 8, 3), np.uint8))  # without a header
    table = read_source(tmp_path, "auto", SourceOptions())[1].table.set_index("id")
    groups = table["group"]
    assert groups["0_OD"] == groups["1_OD"] == groups["0_OS"] != groups["2_OD"] == groups["3_OD"]
    assert all(groups.str.startswith("dicom-")) and table["eye"]["0_OS"] == "left"
    rows = "".join(f"{number}_OD,{number % 2},{'' if number == 3 else number}\n" for number in range(4))
    (tmp_path / "labels.csv").write_text("image,grade,patient\n" + rows)
    groups = read_source(tmp_path, "auto", SourceOptions())[1].table.set_index("id")["group"]
    assert list(groups[:3]) == ["0", "1", "2"] and groups["3_OD"].startswith("dicom-")


def test_a_patient_that_all_headers_name_is_nobody(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / f"{number}_OD.dcm", "ANONYMOUS")
    assert list(read_source(tmp_path, "auto", SourceOptions())[1].table["group"]) == ["0", "1", "2"]


@pytest.mark.parametrize("placeholder", ["0", "ANONYMOUS"])
def test_where_all_headers_name_the_same_patient_each_study_is_one(placeholder, tmp_path, capsys):
    for number in range(24):
        write_dicom(tmp_path / f"IM{number:06d}.dcm", placeholder, f"1.2.{number // 2}" if number < 22 else "")
    groups = list(read_source(tmp_path, "auto", SourceOptions())[1].table["group"])
    assert "warning" in capsys.readouterr().out and placeholder not in groups
    assert groups[:22:2] == groups[1:22:2] and len(set(groups[:22])) == 11 and "" not in groups[:22]
    assert groups[22:] == ["", ""]


EYES = ("OD", "OS")


@pytest.mark.parametrize(
    "names",
    [
        [f"{100 + 2 * n + k:05d}_{n:03d}_{e}" for n in range(30) for k, e in enumerate(EYES)],  # a running number
        [f"P{n:03d}_grade{n % 5 if k else 0}_{e}" for n in range(30) for k, e in enumerate(EYES)],
        [f"{n % 5 if k else 0}_{n:03d}_{e}" for n in range(30) for k, e in enumerate(EYES)],  # a grade
        [f"P{n:03d}V{1 + k}{e}" for n in range(30) for k, e in enumerate(EYES)],
        [f"{n:03d}T{v}_{e}" for n in range(30) for v in (1, 2) for e in EYES],
        [f"Site{n % 3}_{e}_{n:03d}" for n in range(30) for e in EYES],
        [f"2023_{e}_{n:03d}" for n in range(30) for e in EYES],
    ],
)
def test_other_parts_of_names_are_no_patients(names):
    found, eyes = patients_and_eyes(names)
    people = {(re.findall(r"(?<!\d)\d{3}(?!\d)", name)[0], patient) for name, patient in zip(names, found, strict=True)}
    assert len(people) == len(set(found)) == 30 and "" not in found and set(eyes) == {"left", "right"}
    assert patients_and_eyes(names[:6], among=names)[0] == found[:6]


def test_parts_that_tell_patients_apart_stay():
    sites = [f"{site}_{n:03d}_{e}" for site in (1, 2) for n in range(30) for e in EYES]
    assert len(patients(sites)) == 60
    fields = [f"P{n}_{e}_{field}" for n in range(30) for e in EYES for field in (1, 2, 3)]
    assert patients(fields) == {f"P{n}" for n in range(30)}


def test_spellings_of_a_patient_are_one_in_names_and_in_several_tables(tmp_path):
    for name in ("P002_OS", "p002_OD", "3_OS", "000003_OD"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    groups = read_source(tmp_path, "auto", SourceOptions())[1].table.set_index("id")["group"]
    assert groups["P002_OS"] == groups["p002_OD"] != groups["3_OS"] == groups["000003_OD"]
    (tmp_path / "train.csv").write_text("image,grade,patient\nP002_OS,0,A7\n3_OS,1,A8\n")
    (tmp_path / "test.csv").write_text("image,grade,patient\np002_OD,0,a7\n000003_OD,1,A9\n")
    groups = read_source(tmp_path, "auto", SourceOptions())[1].table.set_index("id")["group"]
    assert groups["P002_OS"] == groups["p002_OD"] and groups.nunique() == 3


def test_eyes_in_a_column_of_patients_are_not_part_of_them(tmp_path):
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((8, 8, 3), np.uint8))
    for ends in (("-L", "-R"), ("_OD", "_OS")):
        rows = [f"{number},{number},P00{number // 2}{ends[number % 2]}" for number in range(4)]
        (tmp_path / "labels.csv").write_text("\n".join(["image,grade,patient", *rows]))
        assert list(read_source(tmp_path, "auto", SourceOptions())[1].table["group"]) == ["P000"] * 2 + ["P001"] * 2


def test_a_patient_that_very_many_headers_name_is_nobody(tmp_path):
    for number in range(21):
        write_dicom(tmp_path / f"IM{number:06d}.dcm", "ANONYMOUS")
    assert set(read_source(tmp_path, "auto", SourceOptions())[1].table["group"]) == {""}


@pytest.mark.parametrize("left", ["OI", "OG", "OE", "oi"])
@pytest.mark.parametrize("name", ["P{p}_{e}", "{e}_{p}", "P{p}/{e}", "{p}{e}", "P{p}_{e}_1"])
def test_the_left_eye_has_other_words_beside_od(left, name):
    names = [name.format(p=p, e=e) for p in range(500, 530) for e in ("OD", left)]
    found, eyes = patients_and_eyes(names)
    assert len(set(found)) == 30 and "" not in found and eyes == ["right", "left"] * 30
    assert patients_and_eyes(names[1:2], among=names) == ([found[1]], ["left"])


@pytest.mark.parametrize(
    ("left", "right"), [("izq", "der"), ("LA", "RA"), ("sin", "dex"), ("sx", "dx"), ("sol", "sag")]
)
def test_short_words_of_both_eyes_are_read_if_they_pair_up(left, right):
    assert patients_and_eyes([f"17_{left}", f"17_{right}"]) == (["17", "17"], ["left", "right"])
    assert patients_and_eyes([f"17_{left}", f"18_{right}"])[1] == ["", ""]


def test_oe_beside_both_usual_words_is_no_eye():
    assert patients_and_eyes(["12_OS", "12_OD", "12_OE"])[1] == ["left", "right", ""]


@pytest.mark.parametrize(
    "name",
    ["240891_RightEye", "240891_OD_good", "240891_OD_CFP", "240891_right_resized", "240891_ojoDerecho",
     "240891_OD_macula_512x512", "right_eye_240891", "240891_01.03.24_OD", "240891_24-03-01_OD"],
)  # fmt: skip
def test_words_after_an_eye_are_no_obstacle(name):
    assert patients_and_eyes([name]) == (["240891"], ["right"])


@pytest.mark.parametrize("cell", ["левый", "vänster", "LeftEye", "ojo izquierdo"])
def test_words_of_eyes_with_accents_are_known_in_cells(cell):
    assert eye_of(cell) == "left"


@pytest.mark.parametrize(
    ("names", "patient", "eyes"),
    [
        (("17/V1/OD_Topcon", "17/V1/OS_Topcon", "18/V1/OD_Topcon", "18/V2/OS_Topcon"), "17 17 18 18", "right left"),
        (("OD_Topcon", "OS_Topcon"), "", "right left"),
        (("right_Canon AF", "left_Canon"), "", "right left"),
        (("2023/OD_Mueller", "2023/OS_Weber"), "", "right left"),
        (("img_r", "img_l"), "", "right left"),
        (("P17/img_R", "P17/img_L"), "P17 P17", "right left"),
        (("IMG_OD2", "IMG_OS2", "scan OD1"), "", "right left right"),
        (("OG_Topcon", "OD_Topcon"), "", "left right"),
        (("17/OD20210301", "17/OS20210301"), "17 17", "right left"),
        (("17_OD20210301", "17_OS20220301"), "17 17", "right left"),
        (("img_r", "scan_r", "copy_l"), "", ""),
        (("scan_R2", "od4821xk", "method_2", "odd_Topcon", "osteo_7", "pos2", "OE_Topcon"), "", ""),
    ],
)
def test_marks_of_eyes_before_other_words(names, patient, eyes):
    found, sides = patients_and_eyes(names)
    assert found == (patient.split() or [""] * len(names))
    assert sides == ((eyes.split() or [""]) * len(names))[: len(names)]
