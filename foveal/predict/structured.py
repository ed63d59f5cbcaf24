"""DICOM SR: a structured report for each study, of template TID 1500, with one measurement group per eye.

The patient and the study are those of the photographs, so that an archive files the report beside them. The report is
preliminary and not verified. Its number depends on what was graded, and how.
"""

import warnings
from itertools import product
from pathlib import Path
from typing import Any

from highdicom import sr
from highdicom.sr import CodedConcept, QualitativeEvaluation
from pydicom.sr.codedict import codes

from foveal.files import replacing
from foveal.predict.model import Model
from foveal.predict.studies import CODES, QUESTIONS, UNKNOWN_EYE, UNLIKE, Eye, Study, conclusion, uid_of
from foveal.version import VERSION

OURS = "99FOVEAL"  # the coding scheme of terms that have no standard code
SERIES = 900  # number of the series of reports in a study
# Elements of a patient and a study that a report must have, if only empty.
_INHERITED = ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber",
              "ReferringPhysicianName")  # fmt: skip


def write_structured(study: Study, model: Model, folder: Path) -> None:
    """Write FOLDER/STUDY.dcm."""
    evidence = [header for headers in study.headers.values() for header in headers]
    for header, name in product(evidence, _INHERITED):
        if name not in header:
            setattr(header, name, "")
    device = sr.DeviceObserverIdentifyingAttributes(uid_of(model.key), "Foveal", "Foveal", model.name[:64])
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        title=codes.DCM.ImagingMeasurementReport,
        procedure_reported=CodedConcept("20067007", "SCT", "Fundus photography"),
        imaging_measurements=[_group(eye, study, model) for eye in study.eyes],
    )
    _tell(content[0], codes.DCM.Conclusion, conclusion(study))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values of the photographs that break the standard
        report = sr.ComprehensiveSR(
            evidence=evidence, content=content[0], series_number=SERIES, instance_number=1, manufacturer="Foveal",
            series_instance_uid=uid_of(study.uid, "series", model.key), sop_instance_uid=uid_of(study.uid, study.key),
            is_complete=True, is_final=False, is_verified=False, software_versions=VERSION,
            series_description="Diabetic retinopathy, graded by software",
        )  # fmt: skip
    with replacing(folder / f"{study.uid}.dcm") as partial:
        report.save_as(partial, enforce_file_format=True)


def _tell(container: Any, name: Any, text: str) -> None:
    container.ContentSequence.append(sr.TextContentItem(name=name, value=text, relationship_type="CONTAINS"))


def _group(eye: Eye, study: Study, model: Model) -> Any:
    side = {"right": codes.SCT.Right, "left": codes.SCT.Left}.get(eye.side)
    measurements = []
    if eye.grade is not None:
        name = CodedConcept("REFERABLE", OURS, "Probability of moderate or worse retinopathy")
        measurements.append(sr.Measurement(name=name, value=round(eye.share, 4), unit=codes.UCUM.NoUnits))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid_of(study.uid, eye.side), identifier=f"{eye.side} eye"),
        finding_sites=[sr.FindingSite(anatomic_location=codes.SCT.Retina, laterality=side)],
        algorithm_id=sr.AlgorithmIdentification(f"Foveal {model.name}"[:64], version=f"{VERSION} {model.key[:16]}"),
        measurements=measurements, qualitative_evaluations=_evaluations(eye),
        source_images=[sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)
                       for header in study.headers[eye.side]],
    )  # fmt: skip
    for comment in filter(None, (eye.why, f"{UNLIKE}: {eye.unlike}" if eye.unlike else "")):
        _tell(group[0], codes.DCM.Comment, comment)
    return group


def _evaluations(eye: Eye) -> list[Any]:
    question, meaning = QUESTIONS.get(eye.side, ("SEVERITY", UNKNOWN_EYE))
    scheme = "LN" if eye.side in QUESTIONS else OURS
    answer, said = CODES["insufficient"] if eye.grade is None else CODES["grades"][eye.grade]
    found = [QualitativeEvaluation(CodedConcept(question, scheme, meaning[:64]), CodedConcept(answer, "LN", said[:64]))]
    if eye.grade is not None:
        refer = codes.SCT.Yes if eye.referable else codes.SCT.No
        found.append(QualitativeEvaluation(CodedConcept("REFER", OURS, "Referral advised"), refer))
    return found
