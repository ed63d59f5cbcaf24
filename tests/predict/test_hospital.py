"""Reports for hospital systems, read back by programs that did not write them."""

import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.predict.inputs import Photograph
from foveal.predict.opened import open_model
from foveal.predict.studies import CODES, NOTICE, Eye, Study, check_codes, conclusion, plan_studies, studies_of
from foveal.sets.records import open_prepared
from foveal.sources.phantom import draw_phantom

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytest.importorskip("fhir.resources")

PHOTOGRAPHY = "1.2.840.10008.5.1.4.1.1.77.1.5.1"  # Ophthalmic Photography 8 Bit Image Storage
REPORTS = "1.2.840.10008.5.1.4.1.1.88.33"  # Comprehensive SR Storage


def write_dicom(path, number, *, patient, study, eye, **elements):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    pixels = draw_phantom(number % 5, eye or "left", 80, np.random.default_rng(number)).image
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = PHOTOGRAPHY
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.7.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study or 1}.1"
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = patient, "Doe^Jane", "19500101"
    dataset.StudyDate, dataset.IssuerOfPatientID = "20261103", "Clinic of Testing"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Topcon", "NW400"
    if eye:
        dataset.ImageLaterality = {"left": "L", "right": "R"}[eye]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape[:2], 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 7, 0, pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def graded(tmp_path_factory, grader_run):
    """A folder of photographs of three studies and of some that can be in no report, and the folder of reports."""
    folder = tmp_path_factory.mktemp("hospital")
    photographs = folder / "photographs"
    photographs.mkdir()
    write_dicom(photographs / "1.dcm", 1, patient="4711", study="1.2.3", eye="right")
    write_dicom(photographs / "2.dcm", 2, patient="4711", study="1.2.3", eye="right")  # a second field of one eye
    write_dicom(photographs / "3.dcm", 3, patient="4711", study="1.2.3", eye="left")
    write_dicom(photographs / "4.dcm", 4, patient="4712", study="1.2.4", eye="left", PixelData=b"damaged ")
    write_dicom(photographs / "5.dcm", 5, patient="4713", study="1.2.5", eye="")  # nobody knows which eye
    write_dicom(photographs / "6.dcm", 6, patient="4714", study="1.2.6", eye="left")  # a study of two patients
    write_dicom(photographs / "7.dcm", 7, patient="4715", study="1.2.6", eye="left")
    write_dicom(photographs / "8.dcm", 8, patient="", study="1.2.8", eye="left")
    write_dicom(photographs / "9.dcm", 9, patient="4716", study="", eye="left")
    with zipfile.ZipFile(photographs / "more.zip", "w") as archive:
        write_dicom(folder / "IM1", 10, patient="4717", study="1.2.10", eye="left", StudyDate="")
        archive.write(folder / "IM1", "IM1")
    import cv2

    cv2.imwrite(str(photographs / "no_dicom.png"), draw_phantom(3, "left", 80, np.random.default_rng(0)).image)
    reports = folder / "reports"
    names = [photographs, photographs / "more.zip"]
    out = foveal.predict(grader_run, *names, out=folder / "p.csv", fhir=reports, dicom_sr=reports)
    return pd.read_csv(out, dtype={"id": str}).set_index("id"), reports, photographs


def resources(file):
    """The resources of a bundle by kind, read by a client that is independent of the package that wrote them."""
    from fhirclient.models.bundle import Bundle

    found = {}
    for entry in Bundle(json.loads(file.read_text())).entry:
        asked = f"identifier=urn:ietf:rfc:3986|{entry.fullUrl}"
        if entry.resource.resource_type == "Device":
            assert (entry.request.method, entry.request.ifNoneExist) == ("POST", asked)
        else:  # a later report replaces an earlier one that no person has changed
            url = f"{entry.resource.resource_type}?{asked}&status=preliminary"
            assert (entry.request.method, entry.request.url) == ("PUT", url)
        found.setdefault(entry.resource.resource_type, []).append(entry.resource)
    return found


def test_there_is_a_report_of_each_study_that_names_patient_study_and_eye(graded):
    _, reports, _ = graded
    studies = ("1.2.3", "1.2.4", "1.2.5", "1.2.10")
    assert sorted(path.name for path in reports.iterdir()) == sorted(
        f"{study}.{ending}" for study in studies for ending in ("json", "dcm")
    )


def test_fhir_has_an_observation_per_eye_with_the_grade_of_its_worst_photograph(graded):
    rows, reports, photographs = graded
    found = resources(reports / "1.2.3.json")
    [report], [device] = found["DiagnosticReport"], found["Device"]
    right, left = found["Observation"]
    assert [right.code.coding[0].code, left.code.coding[0].code] == ["71491-5", "71490-7"]
    for observation, numbers in ((right, (1, 2)), (left, (3,))):
        of_eye = rows.loc[[f"{photographs}/{number}.dcm" for number in numbers]]
        grade = int(of_eye["grade"].max())
        assert observation.valueCodeableConcept.coding[0].code == CODES["grades"][grade][0]
        assert observation.component[0].valueBoolean == bool(of_eye["referable"].max())
        share = of_eye[["p2", "p3", "p4"]].sum(axis=1).max()
        assert observation.component[1].valueQuantity.value == pytest.approx(share, abs=1e-4)
        assert observation.device.reference == device.identifier[0].value
    for resource in (report, right, left):
        assert resource.status == "preliminary" and resource.as_json()["effectiveDateTime"] == "2026-11-03"
        assert resource.subject.identifier.value == "4711"
        assert resource.subject.identifier.assigner.display == "Clinic of Testing"
    assert [one.reference for one in report.result] == [one.identifier[0].value for one in (right, left)]
    assert report.imagingStudy[0].identifier.value == "urn:oid:1.2.3"
    assert "Doe" not in (reports / "1.2.3.json").read_text()


def test_fhir_says_that_an_eye_is_ungradable(graded):
    _, reports, _ = graded
    [observation] = resources(reports / "1.2.4.json")["Observation"]
    assert observation.valueCodeableConcept is None and observation.component is None
    assert [coding.code for coding in observation.dataAbsentReason.coding] == ["unknown", "LA34400-4"]
    [unknown_day] = resources(reports / "1.2.10.json")["Observation"]
    assert unknown_day.effectiveDateTime is None


def codes_in(dataset):
    """(concept, value) of all coded and numeric items of a structured report."""
    for item in dataset.get("ContentSequence", ()):
        concept = item.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in item else ""
        if item.ValueType == "CODE":
            yield concept, item.ConceptCodeSequence[0].CodeValue
        elif item.ValueType == "TEXT":
            yield concept, item.TextValue
        elif item.ValueType == "NUM":
            yield concept, float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "IMAGE":
            yield "image", item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        yield from codes_in(item)


def test_structured_report(graded):
    rows, reports, photographs = graded
    report = pydicom.dcmread(reports / "1.2.3.dcm")
    assert (report.SOPClassUID, report.StudyInstanceUID, report.PatientID) == (REPORTS, "1.2.3", "4711")
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    found = list(codes_in(report))
    for question, numbers in (("71491-5", (1, 2)), ("71490-7", (3,))):
        grade = int(rows.loc[[f"{photographs}/{number}.dcm" for number in numbers], "grade"].max())
        assert (question, CODES["grades"][grade][0]) in found
        assert all(("image", f"1.2.7.{number}") in found for number in numbers)
    assert [concept for concept, _ in found].count("REFER") == 2
    ungradable = list(codes_in(pydicom.dcmread(reports / "1.2.4.dcm")))
    elements = pydicom.dcmread(reports / "1.2.4.dcm").iterall()
    comments = " ".join(str(element.value) for element in elements if element.keyword == "TextValue")
    assert all(rows.loc[f"{photographs}/4.dcm", column] in comments for column in ("reason", "advice"))
    assert ("71490-7", "LA34400-4") in ungradable and "REFER" not in [concept for concept, _ in ungradable]


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="needs dcmtk")
def test_dcmtk_reads_the_structured_report(graded):
    _, reports, _ = graded
    for name in ("1.2.3.dcm", "1.2.4.dcm", "1.2.5.dcm", "1.2.10.dcm"):
        ran = subprocess.run(["dsrdump", reports / name], capture_output=True, text=True)
        assert ran.returncode == 0 and not ran.stderr, ran.stderr


def identifiers(folder):
    """Of the report of the study 1.2.3: the number of the study, and that of what was graded, which DICOM has, too."""
    [report] = resources(folder / "1.2.3.json")["DiagnosticReport"]
    of_study, of_content = (one.value for one in report.identifier)
    assert of_content == f"urn:oid:{pydicom.dcmread(folder / '1.2.3.dcm').SOPInstanceUID}"
    return of_study, of_content


def test_a_report_is_told_by_what_was_graded(graded, grader_run, refuses, tmp_path):
    _, reports, photographs = graded
    three = [photographs / f"{number}.dcm" for number in (1, 2, 3)]
    changes = {"b": (three[1:], {}), "c": (three, {"tta": "none"}), "d": (three, {"ungradable": ()})}

    def sent(images, folder, **options):
        foveal.predict(grader_run, *images, out=tmp_path / "p.csv", fhir=folder, dicom_sr=folder, **options)
        return identifiers(folder)

    first = sent(three, tmp_path / "a")
    assert first == identifiers(reports) == sent(three[::-1], tmp_path / "a")  # again, in the same folder
    for folder, (images, options) in changes.items():
        of_study, of_content = sent(images, tmp_path / folder, **options)
        assert of_study == first[0] and of_content != first[1]
        before = (tmp_path / "a" / "1.2.3.json").read_bytes()
        (tmp_path / "p.csv").unlink()
        with refuses("output.exists", "1.2.3.json"):
            sent(images, tmp_path / "a", **options)
        assert (tmp_path / "a" / "1.2.3.json").read_bytes() == before and not (tmp_path / "p.csv").exists()
    [_, ours], [_, theirs] = (resources(folder / "1.2.3.json")["Observation"] for folder in (tmp_path / "b", reports))
    assert ours.as_json() == theirs.as_json()


# Of a third photograph: its row, whether it refers the patient, and whether it leaves an unknown eye without a grade.
ANSWERS = {
    "severe": ({"answer": "graded", "grade": 3, "referable": 1, "p3": 1.0, "unlike": "colour"}, True, False),
    "none": ({"answer": "graded", "grade": 0, "referable": 0, "p0": 1.0}, False, False),
    "ungradable": ({"answer": "ungradable", "reason": "not-a-retina: none"}, False, True),
    "unreadable": ({"answer": "unreadable", "reason": "damaged"}, False, True),
}


@pytest.mark.parametrize("elements", [{}, {"PatientID": ""}, {"SOPInstanceUID": ""}, {"SOPInstanceUID": "1.2.7.1"}])
@pytest.mark.parametrize("eye", ["", "left"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_photograph_of_a_study_counts(answer, eye, elements, grader_run, tmp_path):
    for number, side in ((1, "right"), (2, "left")):
        write_dicom(tmp_path / f"{number}.dcm", number, patient="1", study="1.2.3", eye=side)
    write_dicom(tmp_path / "3.dcm", 3, patient="1", study="1.2.3", eye=eye, **elements)
    photographs = [Photograph.at(tmp_path / f"{number}.dcm") for number in (1, 2, 3)]
    row, referred, incomplete = ANSWERS[answer]
    healthy = dict.fromkeys(("p1", "p2", "p3", "p4"), 0.0) | {"reason": "", "advice": "", "unlike": ""}
    rows = [healthy | ANSWERS["none"][0]] * 2 + [healthy | {"p0": 0.0, "grade": "", "referable": ""} | row]
    table = pd.DataFrame(rows).assign(id=[photograph.id for photograph in photographs])
    table.astype(str).to_csv(tmp_path / "p.csv", index=False)
    [study] = studies_of(plan_studies(photographs), {"1.2.3": "key"}, tmp_path / "p.csv")
    # Each known eye has another photograph with a grade.
    assert (study.referred, study.incomplete, study.source.PatientID) == (referred, incomplete and not eye, "1")
    model = open_model(grader_run, "cpu", "auto")
    from foveal.predict.fhir import write_fhir
    from foveal.predict.structured import write_structured

    write_fhir(study, model, tmp_path)
    write_structured(study, model, tmp_path)
    found = resources(tmp_path / "1.2.3.json")
    assert found["DiagnosticReport"][0].conclusion == conclusion(study)
    of_third = found["Observation"][1 if eye else 2]
    assert len(found["Observation"]) == (2 if eye else 3) and all(one.note for one in found["Observation"])
    assert of_third.code.text is None if eye else of_third.code.coding is None
    if answer in ("severe", "none"):
        assert of_third.component[0].valueBoolean is referred
        assert len(of_third.note) == (2 if answer == "severe" else 1)
    codes = list(codes_in(pydicom.dcmread(tmp_path / "1.2.3.dcm")))
    assert ("REFER", "373066001") in codes if referred else ("REFER", "373066001") not in codes
    assert ("image", "1.2.7.3") in codes or elements
    [said] = [text for concept, text in codes if concept == "121077"]
    assert said == conclusion(study) and NOTICE in said
    assert len([text for concept, text in codes if concept == "121106" and "colour" in text]) == (answer == "severe")


def test_tables_have_what_the_header_tells(graded, grader_run, tmp_path):
    """Patient, eye and camera, as those of a server, and in sets that are prepared from the same photographs."""
    rows, _, photographs = graded
    named = rows.loc[[f"{photographs}/{number}.dcm" for number in (1, 2, 3, 4)], ["group", "eye", "camera"]]
    assert named["eye"].tolist() == ["right", "right", "left", "left"] and set(named["camera"]) == {"Topcon NW400"}
    assert named["group"].str.startswith("dicom-").all() and named["group"].nunique() == 2
    inside, other = (rows.loc[f"{photographs}/{name}"].fillna("") for name in ("more.zip/IM1", "no_dicom.png"))
    assert (inside["eye"], inside["camera"]) == ("left", "Topcon NW400") and other["group"] == other["camera"] == ""
    foveal.prepare(photographs, out=tmp_path / "set", size=16, crop="none", fundus="no", unlabelled=-1)
    records = open_prepared(tmp_path / "set").records.set_index("id")
    assert set(records["camera"]) == {"Topcon NW400", ""}
    assert records["camera"].astype(bool).sum() == len(records) - 1


@pytest.mark.parametrize("option", ["fhir", "dicom_sr"])
def test_what_cannot_be_reported_is_refused_before_anything_is_graded(
    option, refuses, graded, grader_run, photographs, tmp_path, monkeypatch
):
    out = tmp_path / "p.csv"
    with refuses("image.no_study"):
        foveal.predict(grader_run, photographs, out=out, **{option: tmp_path / "reports"})
    (tmp_path / "file").touch()
    with refuses("output.unwritable"):
        foveal.predict(grader_run, graded[2], out=out, **{option: tmp_path / "file"})
    monkeypatch.setattr(sys.modules[check_codes.__module__], "SCALE", "other")
    with refuses("run.scale"):
        foveal.predict(grader_run, graded[2], out=out, **{option: tmp_path / "reports"})
    assert not out.exists() and not (tmp_path / "reports").exists()


def eye(side, grade, referable=False):
    return Eye(side=side, grade=grade, referable=referable, share=0.5, why="dark: too dark", lost=int(grade is None))


def test_the_conclusion_is_about_the_patient():
    def concluded(*eyes):
        return conclusion(Study(uid="1", key="1", eyes=list(eyes), headers={}))

    answers = {
        concluded(eye("right", 0), eye("left", 1)),
        concluded(eye("right", 0), eye("left", 2, True)),
        concluded(eye("right", 0), eye("left", None)),
        concluded(eye("right", 0), eye("left", 1), eye("unknown", 2, True)),
        concluded(eye("right", 0)),  # nothing is concluded from one eye
        concluded(eye("right", 3, True), eye("left", 2, True)),
    }
    assert len(answers) == 6
