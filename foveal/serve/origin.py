"""Origin: the patient, the eye and the camera of a photograph, from the header of its file or from its name."""

import hashlib
from io import BytesIO
from pathlib import Path

from PIL import Image

from foveal.fundus.dicom import camera_name, number_and_date, origin_in_header
from foveal.fundus.header import COMPLAINTS, START, is_dicom, reader_of
from foveal.serve.intake import Sent
from foveal.sources.patients import patients_and_eyes
from foveal.sources.source import without_ending

MAKE, MODEL = 271, 272  # EXIF tags


def origin_of(sent: Sent) -> dict[str, str]:
    """patient (a hash), eye (left or right) and camera of a readable photograph; "" if neither file nor name tells."""
    patient, eye, camera = origin_in_header(BytesIO(sent.data)) if sent_as_dicom(sent) else ("", "", _camera(sent.data))
    if not patient and not eye:
        patient, eye = patient_in(sent.name)
    return {"patient": patient, "eye": eye, "camera": camera}


def printed_of(sent: Sent) -> dict[str, str]:
    """number (of the patient) and date, as a DICOM file has them, for the sheet alone; "" for what is not there."""
    number, date = number_and_date(BytesIO(sent.data)) if sent_as_dicom(sent) else ("", "")
    return {"number": number, "date": date}


def sent_as_dicom(sent: Sent) -> bool:
    """Whether a photograph is a DICOM file."""
    return is_dicom(sent.data[:START], Path(sent.name).suffix.lower())


def patient_in(name: str) -> tuple[str, str]:
    """patient (a hash) and eye in the name of a file, as in 17_left.jpg; "" for what it does not contain."""
    (patient,), (eye,) = patients_and_eyes([without_ending(name)])
    return f"name-{hashlib.sha256(patient.encode()).hexdigest()[:16]}" if patient else "", eye


def _camera(data: bytes) -> str:
    reader = reader_of(data[:START])
    try:
        exif = {} if reader is None else Image.Image.getexif(reader(BytesIO(data)))
    except COMPLAINTS:  # the photograph may be fine although its EXIF block is damaged
        return ""
    make, model = (" ".join(str(exif.get(tag) or "").replace("\0", " ").split()) for tag in (MAKE, MODEL))
    return camera_name(make, model)
