"""Studies: the answer for each eye of a DICOM study, for the reports that hospital systems read.

Every DICOM file that names a study counts; the reports refer to those that also name their patient and instance. The
headers that are read here, names and birth dates included, go nowhere but into those reports.
"""

import hashlib
import re
import tomllib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.fundus.dicom import header_of
from foveal.predict.inputs import Photograph
from foveal.predict.model import Model
from foveal.readout.predictions import probability_columns
from foveal.readout.scales import REFERABLE_FROM
from foveal.version import VERSION

SCALE, CLASSES = "icdr", 5  # the only grades that have codes
CODES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("codes.toml").read_text(encoding="utf-8"))
QUESTIONS = CODES["questions"]
SIDES, UNKNOWN = {"R": "right", "L": "left"}, "unknown"
UNKNOWN_EYE = "Diabetic retinopathy severity level; the eye is not known"
UNLIKE = "Unlike the photographs that the grader learned from"
NOTICE = "Computed by software and not reviewed. Research use; not a medical device."
SHOWN = 3  # names of photographs that are left out
_UID = re.compile(r"[0-9.]{1,64}")
_OTHERS, _NO_UIDS = "not DICOM files", "no valid UIDs of study, series and instance"
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


class Eye(NamedTuple):
    """One eye of a study, or all photographs whose eye is not known; the worst photograph decides.

    grade: 0 to 4; None if no photograph was graded, for the reason `why`. share: the probability that it is referable.
    unlike: in what its photographs are unlike those that the grader learned from. lost: how many have no grade.
    """

    side: str
    grade: int | None
    referable: bool
    share: float
    why: str
    unlike: str = ""
    lost: int = 0


class Study(NamedTuple):
    """A study with its eyes: right, left, unknown. key: a digest of what was graded, and how.

    headers: of the photographs of each eye that a report can refer to, pydicom datasets.
    """

    uid: str
    key: str
    eyes: list[Eye]
    headers: dict[str, list[Any]]

    @property
    def source(self) -> Any:
        """The header of one photograph, for what all of them share."""
        return next(header for headers in self.headers.values() for header in headers)

    @property
    def referred(self) -> bool:
        """Whether a photograph is referable."""
        return any(eye.referable for eye in self.eyes)

    @property
    def incomplete(self) -> bool:
        """Whether an eye has no graded photograph, or a photograph of an unknown eye has no grade."""
        graded = {eye.side for eye in self.eyes if eye.grade is not None}
        return not {*QUESTIONS} <= graded or any(eye.lost for eye in self.eyes if eye.side not in QUESTIONS)


class Member(NamedTuple):
    """A photograph of a study. lacks: why a report cannot refer to it, although its answer counts; else ""."""

    photograph: Photograph
    side: str
    digest: str
    lacks: str


def uuid_of(*parts: str) -> uuid.UUID:
    """A number that is the same whenever the parts are."""
    return uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("foveal", *parts)))


def uid_of(*parts: str) -> str:
    """The same number as a DICOM UID (PS3.5, B.2)."""
    return f"2.25.{uuid_of(*parts).int}"


def conclusion(study: Study) -> str:
    """What the photographs of a study mean for the patient: the worst decides, and whatever is unknown is said."""
    missing = [side for side in QUESTIONS if side not in {eye.side for eye in study.eyes}]
    strange = [eye.side for eye in study.eyes if eye.unlike]
    said = [f"Referral advised: {_eyes(eye.side for eye in study.eyes if eye.referable)}."] if study.referred else []
    said += ["Incomplete: this is not a negative result."] if study.incomplete and not study.referred else []
    said += ["No referable retinopathy found."] if not (study.referred or study.incomplete) else []
    said += [f"Photographs without a grade: {eye.lost} of {_eyes([eye.side])}." for eye in study.eyes if eye.lost]
    said += [f"No photograph known to show {' or '.join(f'the {side} eye' for side in missing)}."] if missing else []
    said += [f"{UNLIKE}: {_eyes(strange)}."] if strange else []
    return " ".join([*said, NOTICE])


def _eyes(sides: Iterable[str]) -> str:
    return " and ".join("an eye that is not known" if side == UNKNOWN else f"the {side} eye" for side in sides)


def check_codes(model: Model, option: str) -> None:
    """FovealError if the grader's classes have no codes in these reports."""
    if (model.scale, len(model.classes)) != (SCALE, CLASSES):
        what = f"{option}: {model.name} has the classes {', '.join(model.classes)} (scale '{model.scale}')"
        raise FovealError("run.scale", what, expected=f"the five grades of the scale {SCALE}, which have LOINC codes")


def plan_studies(photographs: Sequence[Photograph]) -> dict[str, list[Member]]:
    """The photographs of each study that can have a report; warns of the others. FovealError if none is DICOM."""
    members, patients = defaultdict[str, list[Member]](list), defaultdict[str, set[str]](set)
    left_out, known = defaultdict[str, list[str]](list), set[str]()
    for photograph in photographs:
        header, digest = _opened(photograph)
        study = "" if header is None else str(header.get("StudyInstanceUID", ""))
        if header is None or not _UID.fullmatch(study):
            left_out[_OTHERS if header is None else _NO_UIDS].append(photograph.id)
            continue
        name = str(header.get("SOPInstanceUID", ""))
        named = all(_UID.fullmatch(str(header.get(each, ""))) for each in _NEEDED)
        lacks = "" if named and header.get("PatientID") else "no patient (PatientID)" if named else _NO_UIDS
        lacks = lacks or "a copy of another file" * (name in known)
        if digest in known:
            left_out[lacks].append(photograph.id)
            continue
        known |= {digest, name}
        side = SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality") or ""), UNKNOWN)
        members[study].append(Member(photograph=photograph, side=side, digest=digest, lacks=lacks))
        patients[study] |= {str(header.PatientID)} if header.get("PatientID") else set()
    if len(left_out[_OTHERS]) == len(photographs):
        what = f"none of the {len(photographs)} photographs is a DICOM file"
        raise FovealError("image.no_study", what, fix="name the DICOM files of the camera or archive")
    for uid, found in list(members.items()):
        several = "their study belongs to several patients" * (len(patients[uid]) > 1)
        if several or all(member.lacks for member in found):
            for member in members.pop(uid):
                left_out[several or member.lacks].append(member.photograph.id)
    for reason, names in filter(all, left_out.items()):
        first = ", ".join(names[:SHOWN]) + " …" * (len(names) > SHOWN)
        warn(f"{len(names)} of {len(photographs)} photographs are in no report: {reason} ({first})")
    return members


def key_of(members: Sequence[Member], model: Model, ungradable: Sequence[str]) -> str:
    """A digest of the photographs of a study and of how they are graded."""
    parts = [VERSION, model.key, *sorted(ungradable), *sorted(member.digest for member in members)]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def studies_of(plan: dict[str, list[Member]], keys: dict[str, str], out: Path) -> Iterator[Study]:
    """The studies of a plan, one at a time, with the answers in the table `out`."""
    rows = pd.read_csv(out, dtype=str, keep_default_na=False, lineterminator="\n").set_index("id")
    for uid, members in plan.items():
        parts = {side: [one for one in members if one.side == side] for side in (*QUESTIONS, UNKNOWN)}
        eyes = [_eye(side, rows.loc[[one.photograph.id for one in own]]) for side, own in parts.items() if own]
        headers = {side: [header_of(one.photograph.source()) for one in own if not one.lacks]
                   for side, own in parts.items()}  # fmt: skip
        yield Study(uid=uid, key=keys[uid], eyes=eyes, headers=headers)


def _eye(side: str, rows: pd.DataFrame) -> Eye:
    graded = rows[rows["answer"] == "graded"]
    if not len(graded):
        why = "; ".join(sorted({f"{row.reason} {row.advice}".strip() for row in rows.itertuples()}))
        return Eye(side, grade=None, referable=False, share=float("nan"), why=why, lost=len(rows))
    shares = graded[probability_columns(rows)[REFERABLE_FROM[SCALE] :]].astype(float).sum(axis=1)
    grade, referable = int(graded["grade"].astype(int).max()), bool((graded["referable"] == "1").any())
    unlike, lost = sorted(set(" ".join(graded.get("unlike", [])).split())), len(rows) - len(graded)
    return Eye(side, grade, referable, share=float(shares.max()), why="", unlike=", ".join(unlike), lost=lost)


def _opened(photograph: Photograph) -> tuple[Any, str]:
    """The header of a DICOM file, pydicom, and the digest of the file; other files have the header None."""
    try:
        source = photograph.source()
    except FovealError:  # a damaged member of an archive: its row in the table says so
        return None, ""
    header = header_of(source)
    data = b"" if header is None else source if isinstance(source, bytes) else source.read_bytes()
    return header, hashlib.sha256(data).hexdigest()
