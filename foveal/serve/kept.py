"""Kept: reviewed photographs and their labels, in a folder that `foveal prepare` reads as it is.

Files are named by the SHA-256 of what was sent; .waiting/ has photographs of the last day without a review. The label
is the name of a class, ungradable, or "" if reviewers disagree. A name from a client never becomes a path. A folder
belongs to one server at a time.
"""

import csv
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import cv2
import pandas as pd
from PIL.JpegImagePlugin import JpegImageFile

from foveal.files import write_bytes, write_text
from foveal.fundus.decode import decode
from foveal.fundus.header import START, orientation_of, reader_of
from foveal.fundus.jpeg import without_headers
from foveal.runs import sole_writer
from foveal.serve.intake import Sent
from foveal.serve.origin import patient_in, sent_as_dicom
from foveal.serve.reviews import Reviews
from foveal.sets.corrections import FORMULA

DAY = 24 * 3600  # seconds that a photograph waits for its review
TABLE = "labels.csv"
COLUMNS = ["image", "label", "patient", "eye", "reviewer", "when"]
WHOLE = "whole:"  # before a folder: files are kept as they were sent
ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2"}  # of formats whose name is not their ending
WHOLE_SIDE = 1 << 30  # px: a JPEG is not reduced


class Kept:
    """The folder; used by many threads."""

    def __init__(self, place: str, classes: list[str]) -> None:
        self.folder, self._whole, self._classes = folder_of(place), place.startswith(WHOLE), classes
        self._waiting, self._lock, self._tidied = self.folder / ".waiting", threading.Lock(), 0.0
        self._rows = {row["image"].partition(".")[0]: row for row in _rows_of(self.folder)}
        self._sole = ExitStack()
        self._sole.enter_context(sole_writer(self.folder, "serve"))

    def close(self) -> None:
        """Let another server write to the folder."""
        self._sole.close()

    def wait(self, sent: Sent, patient: str, eye: str) -> None:
        """Keep a photograph that was graded until it is reviewed, for at most a day; patient: a hash."""
        if sent.sha256 in self._rows:
            return
        data, ending = (sent.data, _ending(sent)) if self._whole else nameless(sent.data, sent.name)
        with self._lock:
            self._tidy()
            write_bytes(self._waiting / f"{sent.sha256}.{patient}.{eye}{ending}", data)

    def label(self, reviews: Reviews, digest: str) -> None:
        """Keep a reviewed photograph that was graded in the last day; without a label if its reviewers disagree."""
        with self._lock:  # also while reading, or an older state could be written last
            row, found = self._rows.get(digest), next(self._waiting.glob(f"{digest}.*"), None)
            if found is not None:
                _, patient, eye, ending = found.name.split(".")
                row = {"image": f"{digest}.{ending}", "patient": patient, "eye": eye}
            if row is None:
                return
            opinions = reviews.of_images([digest])[digest]
            if not row["patient"]:  # sent without a name, or with another one
                patient, eye = patient_in(opinions[-1].name)
                row |= {"patient": patient, "eye": row["eye"] or eye}
            names = {"ungradable" if one.grade is None else self._classes[one.grade] for one in opinions}
            label, reviewers = names.pop() if len(names) == 1 else "", "; ".join(one.reviewer for one in opinions)
            self._rows[digest] = row | {"label": label, "reviewer": reviewers, "when": opinions[-1].when}
            _write(self.folder, self._rows.values())
            if found is not None:  # last, since `catch_up` looks for what still waits
                found.replace(self.folder / row["image"])

    def catch_up(self, reviews: Reviews) -> None:
        """Keep photographs reviewed just before the server was killed."""
        for digest in reviews.images() & {file.name.partition(".")[0] for file in self._waiting.glob("*.*")}:
            self.label(reviews, digest)

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


def forget(folder: Path, meant: Callable[[str, str, str], bool], really: bool) -> int:
    """Delete the photographs of a folder whose digest, time of review and patient are meant; returns how many. A
    photograph that waits for its review has no time of review: its file's time counts."""
    with sole_writer(folder, "serve") if really else nullcontext():  # a server that runs does not hinder counting
        rows = _rows_of(folder)
        gone = [row for row in rows if meant(row["image"].partition(".")[0], row["when"], row["patient"])]
        files = [folder / row["image"] for row in gone]
        for file in (folder / ".waiting").glob("*.*.*.*"):
            digest, patient, _, _ = file.name.split(".")
            when = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
            files += [file] if meant(digest, when, patient) else []
        if really and files:
            for file in files:
                file.unlink(missing_ok=True)
            _write(folder, [row for row in rows if row not in gone])  # last: without their rows, files are not found
    return len(files)


def _rows_of(folder: Path) -> list[dict[str, str]]:
    file = folder / TABLE
    text = pd.read_csv(file, dtype=str, keep_default_na=False) if file.is_file() else pd.DataFrame()
    return [{str(name): value for name, value in row.items()} for row in text.to_dict("records")]


def _write(folder: Path, rows: Iterable[dict[str, str]]) -> None:
    table = pd.DataFrame(rows, columns=COLUMNS)
    formulas = table["reviewer"].str.match(FORMULA) & ~table["reviewer"].str.startswith("'")  # the others are guarded
    table.loc[formulas, "reviewer"] = "'" + table["reviewer"]
    write_text(folder / TABLE, table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL))


def nameless(data: bytes, name: str) -> tuple[bytes, str]:
    """The picture in a file and nothing else, and its ending: a JPEG with the same pixels, or else a PNG."""
    upright = data.startswith(b"\xff\xd8\xff") and orientation_of(JpegImageFile(BytesIO(data))) == 1
    if upright and (bare := without_headers(data)) is not None:
        return bare, ".jpg"
    return cv2.imencode(".png", decode(data, WHOLE_SIDE, name=name).pixels[..., ::-1])[1].tobytes(), ".png"


def _ending(sent: Sent) -> str:
    reader = None if sent_as_dicom(sent) else reader_of(sent.data[:START])
    return ".dcm" if reader is None else ENDINGS.get(reader.format or "", f".{(reader.format or '').lower()}")
