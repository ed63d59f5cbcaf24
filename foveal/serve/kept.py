"""Kept: reviewed photographs and their labels, in a folder that `foveal prepare` reads as it is.

FOLDER/DIGEST.jpg, .png   named by the SHA-256 of what was sent, without EXIF, comments and DICOM elements
FOLDER/labels.csv         image, label (name of the class, or ungradable), patient (a hash), eye, reviewer, when
FOLDER/.waiting/          photographs that were graded in the last day, and not reviewed yet

A name from a client never becomes a path. One server writes to a folder at a time.
"""

import csv
import hashlib
import threading
import time
from io import BytesIO
from pathlib import Path

import cv2
import pandas as pd
from PIL.JpegImagePlugin import JpegImageFile

from foveal.files import write_bytes, write_text
from foveal.fundus.decode import decode
from foveal.fundus.dicom import patient_and_eye
from foveal.fundus.header import START, is_dicom, orientation_of, reader_of
from foveal.fundus.jpeg import without_headers
from foveal.serve.intake import Sent
from foveal.sets.corrections import label_of
from foveal.sources.names import patients_and_eyes
from foveal.sources.source import without_ending

DAY = 24 * 3600  # seconds that a photograph waits for its review
COLUMNS = ["image", "label", "patient", "eye", "reviewer", "when"]
WHOLE = "whole:"  # before a folder: files are kept as they were sent
ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2"}  # of formats whose name is not their ending
WHOLE_SIDE = 1 << 30  # px: a JPEG is not reduced


class Kept:
    """The folder; used by many threads."""

    def __init__(self, place: str, classes: list[str]) -> None:
        self.folder, self._whole, self._classes = folder_of(place), place.startswith(WHOLE), classes
        self._waiting, self._lock, self._tidied = self.folder / ".waiting", threading.Lock(), 0.0
        self._table = self.folder / "labels.csv"
        text = pd.read_csv(self._table, dtype=str, keep_default_na=False) if self._table.is_file() else pd.DataFrame()
        self._rows = {str(row["image"]).partition(".")[0]: row for row in text.to_dict("records")}

    def wait(self, sent: Sent) -> None:
        """Keep a photograph that was graded until it is reviewed, for at most a day."""
        if sent.sha256 in self._rows:
            return
        patient, eye = _patient_and_eye(sent)
        data, ending = (sent.data, _ending(sent)) if self._whole else nameless(sent.data, sent.name)
        with self._lock:
            self._tidy()
            write_bytes(self._waiting / f"{sent.sha256}.{patient}.{eye}{ending}", data)

    def label(self, digest: str, label: int | None, reviewer: str, when: str) -> None:
        """Keep a reviewed photograph for good; nothing happens if it was not graded here in the last day."""
        with self._lock:
            row, found = self._rows.get(digest), next(self._waiting.glob(f"{digest}.*"), None)
            if found is not None:
                _, patient, eye, ending = found.name.split(".")
                row = {"image": f"{digest}.{ending}", "patient": patient, "eye": eye}
            if row is None:
                return
            name = "ungradable" if label is None else self._classes[label]
            self._rows[digest] = row | {"label": name, "reviewer": reviewer, "when": when}
            self._write()
            if found is not None:  # last, since `catch_up` looks for what still waits
                found.replace(self.folder / row["image"])

    def catch_up(self, reviews: pd.DataFrame) -> None:
        """Keep what was reviewed when the server was killed. reviews: all of them, as text, oldest first."""
        waiting = {file.name.partition(".")[0] for file in self._waiting.glob("*.*")}
        for digest, *row in reviews[["file_sha256", "new", "who", "when"]].to_numpy().tolist():
            if digest in waiting:
                self.label(digest, label_of(row[0], self._classes), row[1], row[2])

    def _write(self) -> None:
        table = pd.DataFrame(self._rows.values(), columns=COLUMNS)
        write_text(self._table, table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL))

    def _tidy(self) -> None:
        """Delete what has waited too long; looks at most once a minute."""
        if time.monotonic() - self._tidied > 60:
            self._waiting.mkdir(exist_ok=True)
            for file in self._waiting.iterdir():
                if time.time() - file.stat().st_mtime > DAY:
                    file.unlink(missing_ok=True)
            self._tidied = time.monotonic()


def folder_of(place: str) -> Path:
    """The folder of --keep-images."""
    return Path(place.removeprefix(WHOLE)).expanduser()


def nameless(data: bytes, name: str) -> tuple[bytes, str]:
    """The picture in a file and nothing else, and its ending: a JPEG with the same pixels, or else a PNG."""
    upright = data.startswith(b"\xff\xd8\xff") and orientation_of(JpegImageFile(BytesIO(data))) == 1
    if upright and (bare := without_headers(data)) is not None:
        return bare, ".jpg"
    pixels = decode(data, WHOLE_SIDE, name=name).pixels
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes(), ".png"


def _ending(sent: Sent) -> str:
    reader = None if is_dicom(sent.data[:START], Path(sent.name).suffix.lower()) else reader_of(sent.data[:START])
    return ".dcm" if reader is None else ENDINGS.get(reader.format or "", f".{(reader.format or '').lower()}")


def _patient_and_eye(sent: Sent) -> tuple[str, str]:
    """A hash of the patient and the eye, from the header of a DICOM file or from the name."""
    if _ending(sent) == ".dcm" and any(found := patient_and_eye(BytesIO(sent.data))):
        return found
    (patient,), (eye,) = patients_and_eyes([without_ending(sent.name)])
    return f"name-{hashlib.sha256(patient.encode()).hexdigest()[:16]}" if patient else "", eye
