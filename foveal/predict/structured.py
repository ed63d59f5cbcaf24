"""DICOM SR: a structured report for each study, of template TID 1500, with one measurement group per eye.

The patient and the study are those of the photographs, so that an archive files the report beside them. The report is
preliminary and not verified. Its numbers depend only on the study and the grader.
"""

import uuid
import warnings
from pathlib import Path
from typing import Any

from foveal.files import replacing
from foveal.predict.model import Model
from foveal.predict.studies import GRADES, INSUFFICIENT, QUESTIONS, Eye, Study
from foveal.version import VERSION

OURS = "99FOVEAL"  # the coding scheme of terms that have no standard code
SERIES = 900  # number of the series of reports in a study
# Elements of a patient and a study that a report must have, if only empty.
_INHERITED = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip


def write_structured(study: Study, model: Model, folder: Path) -> Path:
    """Write FOLDER/STUDY.dcm and return its path."""
    from highdicom.sr import ComprehensiveSR, MeasurementReport
    from pydicom.sr.codedict import codes

    evidence = [header for headers in study.headers.values() for header in headers]
    for header in evidence:
        for name in _INHERITED:
            if name not in header:
                setattr(header, name, "")
    content = MeasurementReport(
        observation_context=_observer(model),
        procedure_reported=_code("20067007", "SCT", "Fundus photography"),
        imaging_measurements=[_group(eye, study, model) for eye in study.eyes],
        title=codes.DCM.ImagingMeasurementReport,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values of the photographs that break the standard
        report = ComprehensiveSR(
            evidence=evidence, content=content[0], series_number=SERIES, instance_number=1, manufacturer="Foveal",
            series_instance_uid=_uid(study, "series", model.key), sop_instance_uid=_uid(study, "report", model.key),
            is_complete=True, is_final=False, is_verified=False, software_versions=VERSION,
            series_description="Diabetic retinopathy, graded by software",
        )  # fmt: skip
    path = folder / f"{study.uid}.dcm"
    with replacing(path) as partial:
        report.save_as(partial, enforce_file_format=True)
    return path


def _uid(study: Study, part: str, grader: str) -> str:
    """A UID made from a UUID (DICOM PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, study.uuid_name(part, grader)).int}"


def _observer(model: Model) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'foveal/{model.key}').int}"
    device = DeviceObserverIdentifyingAttributes(
        uid=uid, name="Foveal", manufacturer_name="Foveal", model_name=model.name[:64]
    )
    context = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return ObservationContext(observer_device_context=context)


def _group(eye: Eye, study: Study, model: Model) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    side = codes.SCT.Right if eye.side == "right" else codes.SCT.Left
    measurements = []
    if eye.grade is not None:
        name = _code("REFERABLE", OURS, "Probability of moderate or worse retinopathy")
        measurements.append(sr.Measurement(name=name, value=round(eye.share, 4), unit=codes.UCUM.NoUnits))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=_uid(study, eye.side, model.key), identifier=f"{eye.side} eye"),
        finding_sites=[sr.FindingSite(anatomic_location=codes.SCT.Retina, laterality=side)],
        algorithm_id=sr.AlgorithmIdentification(
            name=f"Foveal {model.name}"[:64], version=f"{VERSION} {model.key[:16]}"
        ),
        measurements=measurements,
        qualitative_evaluations=_evaluations(eye),
        source_images=[
            sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)
            for header in study.headers[eye.side]
        ],
    )


def _evaluations(eye: Eye) -> list[Any]:
    from highdicom.sr import QualitativeEvaluation
    from pydicom.sr.codedict import codes

    question, meaning = QUESTIONS[eye.side]
    answer, said = INSUFFICIENT if eye.grade is None else GRADES[eye.grade]
    found = [QualitativeEvaluation(_code(question, "LN", meaning[:64]), _code(answer, "LN", said[:64]))]
    if eye.grade is not None:
        refer = codes.SCT.Yes if eye.referable else codes.SCT.No
        found.append(QualitativeEvaluation(_code("REFER", OURS, "Referral advised"), refer))
    return found


def _code(value: str, scheme: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)
