"""FHIR: a DiagnosticReport for each study with one Observation per eye (FHIR R4B), checked by fhir.resources.

A file is a transaction that a FHIR server takes as it is. The report and its observations are updates that are found by
an identifier of the study (conditional update), so that a later report replaces the earlier one, unless a person has
given it another status. Another identifier of the report tells what was graded. The status is preliminary: nobody has
reviewed what the grader said. Patients are referred to by the number in the DICOM file, without name or birth date.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fhir.resources.R4B.bundle import Bundle

from foveal.files import write_text
from foveal.predict.model import Model
from foveal.predict.studies import CODES, NOTICE, UNKNOWN_EYE, UNLIKE, Eye, Study, conclusion, uid_of, uuid_of
from foveal.version import VERSION

_URI = "urn:ietf:rfc:3986"
STATUS = "preliminary"


def write_fhir(study: Study, model: Model, folder: Path) -> None:
    """Write FOLDER/STUDY.json."""
    names = {part: uuid_of(study.uid, part).urn for part in ("report", *(eye.side for eye in study.eyes))}
    names["grader"] = uuid_of(VERSION, model.key).urn
    observations = [_observation(eye, study, model, names) for eye in study.eyes]
    entries = [_entry(one) for one in (_device(model, names["grader"]), *observations, _report(study, names))]
    bundle = Bundle.model_validate({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    write_text(folder / f"{study.uid}.json", bundle.model_dump_json(indent=1) + "\n")


def _entry(resource: dict[str, Any]) -> dict[str, Any]:
    name, kind = resource["identifier"][0]["value"], resource["resourceType"]
    known = f"identifier={_URI}|{name}"
    update = {"method": "PUT", "url": f"{kind}?{known}&status={STATUS}"}
    request = {"method": "POST", "url": kind, "ifNoneExist": known} if kind == "Device" else update
    return {"fullUrl": name, "resource": resource, "request": request}


def _device(model: Model, name: str) -> dict[str, Any]:
    return {
        "resourceType": "Device", "identifier": [{"system": _URI, "value": name}],
        "deviceName": [{"name": f"Foveal grader {model.name}", "type": "user-friendly-name"}],
        "version": [{"type": {"text": "software"}, "value": VERSION},
                    {"type": {"text": "digest of the grader"}, "value": model.key}],
    }  # fmt: skip


def _observation(eye: Eye, study: Study, model: Model, names: dict[str, str]) -> dict[str, Any]:
    questions = CODES["questions"]
    observation = {
        "resourceType": "Observation", **_common(study, names[eye.side]),
        "category": [_concept("category", "imaging", "Imaging")],
        "code": _concept("loinc", *questions[eye.side]) if eye.side in questions else {"text": UNKNOWN_EYE},
        "bodySite": _concept("snomed", *CODES["body_sites"][eye.side]),
        "device": {"reference": names["grader"]}, "derivedFrom": [_imaging_study(study)], "note": [{"text": NOTICE}],
    }  # fmt: skip
    if eye.grade is None:
        absent = _concept("absent", "unknown", "Unknown")
        absent["coding"] += _concept("loinc", *CODES["insufficient"])["coding"]
        return {**observation, "dataAbsentReason": {**absent, "text": f"Ungradable: {eye.why}"}}
    value = {**_concept("loinc", *CODES["grades"][eye.grade]), "text": f"{eye.grade} {model.classes[eye.grade]}"}
    share = {"value": round(eye.share, 4), "unit": "1", "system": CODES["systems"]["ucum"], "code": "1"}
    components = [
        {"code": {"text": "Referral advised"}, "valueBoolean": eye.referable},
        {"code": {"text": "Probability of moderate or worse retinopathy"}, "valueQuantity": share},
    ]
    if eye.unlike:
        observation["note"].append({"text": f"{UNLIKE}: {eye.unlike}"})
    return {**observation, "valueCodeableConcept": value, "component": components}


def _report(study: Study, names: dict[str, str]) -> dict[str, Any]:
    common = _common(study, names["report"])
    content = {"system": "urn:dicom:uid", "value": f"urn:oid:{uid_of(study.uid, study.key)}"}
    return {
        "resourceType": "DiagnosticReport", **common, "identifier": [*common["identifier"], content],
        "category": [_concept("section", "IMG", "Diagnostic Imaging")],
        "code": {**_concept("loinc", *CODES["report"]), "text": "Diabetic retinopathy, graded from fundus photographs"},
        "issued": datetime.now(UTC).isoformat(timespec="seconds"),
        "result": [{"reference": names[eye.side]} for eye in study.eyes],
        "imagingStudy": [_imaging_study(study)], "conclusion": conclusion(study),
    }  # fmt: skip


def _common(study: Study, name: str) -> dict[str, Any]:
    """What observations and reports share: identifier, status, patient and, if known, date."""
    patient: dict[str, Any] = {"value": str(study.source.PatientID)}
    if issuer := str(study.source.get("IssuerOfPatientID") or ""):
        patient["assigner"] = {"display": issuer}
    subject = {"type": "Patient", "identifier": patient}
    common: dict[str, Any] = {"identifier": [{"system": _URI, "value": name}], "status": STATUS, "subject": subject}
    if order := str(study.source.get("AccessionNumber") or ""):
        kind = _concept("identifier", "ACSN", "Accession ID")
        common["basedOn"] = [{"type": "ServiceRequest", "identifier": {"type": kind, "value": order}}]
    day = str(study.source.get("AcquisitionDate") or study.source.get("StudyDate") or "")
    return {**common, "effectiveDateTime": f"{day[:4]}-{day[4:6]}-{day[6:]}"} if re.fullmatch(r"\d{8}", day) else common


def _imaging_study(study: Study) -> dict[str, Any]:
    return {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}}


def _concept(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": CODES["systems"][system], "code": code, "display": display}]}
