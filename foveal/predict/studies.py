"""Studies: the answer for each eye of a DICOM study, for the reports that hospital systems read.

A photograph takes part if it is a DICOM file that names its patient, study and instance, and the eye. The headers that
are read here, names and birth dates included, go nowhere but into those reports.
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.fundus.dicom import header_of
from foveal.predict.inputs import Photograph
from foveal.predict.model import Model
from foveal.readout.predictions import probability_columns
from foveal.readout.scales import REFERABLE_FROM

SCALE, CLASSES = "icdr", 5  # the only grades that have codes
CODES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("codes.toml").read_text(encoding="utf-8"))
GRADES, INSUFFICIENT, QUESTIONS = CODES["grades"], CODES["insufficient"], CODES["questions"]
SIDES = {"R": "right", "L": "left"}
SHOWN = 3  # names of photographs that are left out
_UID = re.compile(r"[0-9.]{1,64}")
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True, kw_only=True)
class Eye:
    """One eye of a study; its worst photograph decides, and ungradable ones count only if all are.

    grade: 0 to 4; None if no photograph was graded, for the reason `why`. share: the probability that it is referable.
    unlike: in what its photographs are unlike those that the grader learned from.
    """

    side: str
    grade: int | None
    referable: bool
    share: float
    why: str
    unlike: str = ""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study with its eyes, right before left. headers: of the photographs of each eye, pydicom datasets."""

    uid: str
    patient: str
    eyes: list[Eye]
    headers: dict[str, list[Any]]

    @property
    def source(self) -> Any:
        """The header of one photograph, for what all of them share."""
        return next(iter(self.headers.values()))[0]

    def uuid_name(self, part: str, grader: str) -> str:
        """A name that is the same whenever this grader answers this study, so that systems know a repeated report."""
        return f"foveal/{grader}/{self.uid}/{part}"


def check_codes(model: Model, option: str) -> None:
    """FovealError if the grader's classes have no codes in these reports."""
    if (model.scale, len(model.classes)) != (SCALE, CLASSES):
        what = f"{option}: {model.name} has the classes {', '.join(model.classes)} (scale '{model.scale}')"
        raise FovealError("run.scale", what, expected=f"the five grades of the scale {SCALE}, which have LOINC codes")


def check_dicom(photographs: Sequence[Photograph], option: str) -> None:
    """FovealError if none of the photographs is a DICOM file."""
    if not any(_header(photograph) is not None for photograph in photographs):
        what = f"{option}: none of the {len(photographs)} photographs is a DICOM file"
        raise FovealError("image.no_study", what, fix="name the DICOM files of the camera or archive")


def studies_of(photographs: Sequence[Photograph], out: Path) -> Iterator[Study]:
    """The studies of the photographs, one at a time, with the answers in the table `out`; warns of those left out."""
    members, patients = defaultdict[str, list[Photograph]](list), defaultdict[str, set[str]](set)
    left_out, known = dict[str, list[str]](), set[str]()
    for photograph in photographs:
        header = _header(photograph)
        reason = _lacks(header) or ("a copy of another file" * (str(header.SOPInstanceUID) in known))
        if reason:
            left_out.setdefault(reason, []).append(photograph.id)
            continue
        known.add(str(header.SOPInstanceUID))
        members[header.StudyInstanceUID].append(photograph)
        patients[header.StudyInstanceUID].add(str(header.PatientID))
    for uid in [uid for uid, names in patients.items() if len(names) > 1]:
        names_of = [photograph.id for photograph in members.pop(uid)]
        left_out.setdefault("their study belongs to several patients", []).extend(names_of)
    for reason, names in left_out.items():
        first = ", ".join(names[:SHOWN]) + " …" * (len(names) > SHOWN)
        warn(f"{len(names)} of {len(photographs)} photographs are in no report: {reason} ({first})")
    rows = pd.read_csv(out, dtype=str, keep_default_na=False, lineterminator="\n").set_index("id")
    for uid, found in members.items():
        yield _study(uid, {photograph.id: _header(photograph) for photograph in found}, rows)


def _study(uid: str, headers: dict[str, Any], rows: pd.DataFrame) -> Study:
    by_side = defaultdict[str, list[str]](list)
    for name, header in headers.items():
        by_side[_side(header)].append(name)
    sides = [side for side in QUESTIONS if side in by_side]
    return Study(
        uid=uid, patient=str(next(iter(headers.values())).PatientID),
        eyes=[_eye(side, rows.loc[by_side[side]]) for side in sides],
        headers={side: [headers[name] for name in by_side[side]] for side in sides},
    )  # fmt: skip


def _eye(side: str, rows: pd.DataFrame) -> Eye:
    graded = rows[rows["answer"] == "graded"]
    if not len(graded):
        why = "; ".join(sorted({f"{row.reason} {row.advice}".strip() for row in rows.itertuples()}))
        return Eye(side=side, grade=None, referable=False, share=float("nan"), why=why)
    shares = graded[probability_columns(rows)[REFERABLE_FROM[SCALE] :]].astype(float).sum(axis=1)
    grade, referable = int(graded["grade"].astype(int).max()), bool((graded["referable"] == "1").any())
    return Eye(side=side, grade=grade, referable=referable, share=float(shares.max()), why="",
               unlike=", ".join(sorted(set(" ".join(graded.get("unlike", [])).split()))))  # fmt: skip


def _header(photograph: Photograph) -> Any:
    try:
        return header_of(photograph.source())
    except FovealError:  # a damaged member of an archive: its row in the table says so
        return None


def _side(header: Any) -> str:
    return SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality") or ""), "")


def _lacks(header: Any) -> str:
    """Why a photograph can be in no report; "" if it can."""
    if header is None:
        return "not DICOM files"
    if not all(_UID.fullmatch(str(header.get(name, ""))) for name in _NEEDED):
        return "no valid UIDs of study, series and instance"
    if not str(header.get("PatientID") or ""):
        return "no patient (PatientID)"
    return "" if _side(header) else "no eye (ImageLaterality)"
