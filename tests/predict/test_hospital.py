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
from foveal.predict.fhir import conclusion
from foveal.predict.studies import GRADES, Eye, Study, check_codes
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
        assert entry.request.ifNoneExist.endswith(entry.fullUrl)
        found.setdefault(entry.resource.resource_type, []).append(entry.resource)
    return found


def test_there_is_a_report_of_each_study_that_names_patient_study_and_eye(graded):
    _, reports, _ = graded
    studies = ("1.2.3", "1.2.4", "1.2.10")
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
        assert observation.valueCodeableConcept.coding[0].code == GRADES[grade][0]
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
        assert (question, GRADES[grade][0]) in found
        assert all(("image", f"1.2.7.{number}") in found for number in numbers)
    assert [concept for concept, _ in found].count("REFER") == 2
    ungradable = list(codes_in(pydicom.dcmread(reports / "1.2.4.dcm")))
    assert ("71490-7", "LA34400-4") in ungradable and "REFER" not in [concept for concept, _ in ungradable]


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="needs dcmtk")
def test_dcmtk_reads_the_structured_report(graded):
    _, reports, _ = graded
    for name in ("1.2.3.dcm", "1.2.4.dcm", "1.2.10.dcm"):
        ran = subprocess.run(["dsrdump", reports / name], capture_output=True, text=True)
        assert ran.returncode == 0 and not ran.stderr, ran.stderr


def test_the_same_answer_has_the_same_numbers(graded, grader_run, tmp_path):
    """A report that is written, and sent, again replaces the first one."""
    _, reports, photographs = graded
    foveal.predict(grader_run, photographs / "3.dcm", out=tmp_path / "p.csv", fhir=tmp_path, dicom_sr=tmp_path)
    again, before = (pydicom.dcmread(folder / "1.2.3.dcm") for folder in (tmp_path, reports))
    assert again.SOPInstanceUID == before.SOPInstanceUID
    [ours], [_, theirs] = (resources(folder / "1.2.3.json")["Observation"] for folder in (tmp_path, reports))
    assert ours.as_json() == theirs.as_json()


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
    return Eye(side=side, grade=grade, referable=referable, share=0.5, why="dark: too dark")


def test_the_conclusion_is_about_the_patient():
    def concluded(*eyes):
        return conclusion(Study(uid="1", patient="1", eyes=list(eyes), headers={eye.side: [] for eye in eyes}))

    answers = {
        concluded(eye("right", 0), eye("left", 1)),
        concluded(eye("right", 0), eye("left", 2, True)),
        concluded(eye("right", 0), eye("left", None)),
        concluded(eye("right", 0)),  # nothing is concluded from one eye
        concluded(eye("right", 3, True), eye("left", 2, True)),
    }
    assert len(answers) == 5
