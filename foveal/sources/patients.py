"""Read patients and eyes from the names of pictures and their folders."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources import names as words

# In names of pictures and folders, only words that hardly mean anything else.
_SURE = [word for word in words.EYE_OF if len(word) > 4 or word in ("left", "od", "os") or not word.isascii()]
_PARTS = {name: "|".join(parts) for name, parts in {
    "side": _SURE, "short": [*words.EYE_OF.keys() - {*_SURE, "l", "r"}, "od", "os"], "organ": [words.ORGAN],
    "places": [*words.WORDS["patterns"]["places"], words.ORGAN]}.items()}  # fmt: skip
for _name, _pattern in words.WORDS["names"].items():
    _PARTS[_name] = _pattern % _PARTS
(_FIELD_BEFORE, _NUMBERED, _EYE_LAST, _EYE_FIRST, _EYE_ALONE, _EYE_WORD, _EYE_GLUED, _EYE_MARKED, _SHORT_EYE,
 _LAST_PART, _NUMBER_LAST, *_GLUED_WAYS) = (re.compile(_PARTS[name], re.IGNORECASE) for name in (
        "field_before", "numbered", "eye_last", "eye_first", "eye_alone", "eye_word", "eye_glued", "eye_marked",
        "short_eye", "last_part", "number_last", "glued_last", "glued_first"))  # fmt: skip
_TAILS, _OTHER_PARTS = ([re.compile(way, re.IGNORECASE) for way in words.WORDS["patterns"][name]]
                        for name in ("tails", "other_parts"))  # fmt: skip
MOST_FIELDS, MOST_PAIRED = 10, 0.97


def hashes_of(patient: str) -> set[str]:
    """The values that a server may store for a patient: hashes of the PatientID of DICOM files, or from file names."""
    digest = hashlib.sha256(patient.encode()).hexdigest()[:16]
    return {f"dicom-{digest}", f"name-{digest}"}


def patients_and_eyes(ids: Sequence[str], among: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Patient and eye from names such as `17_left`, `P17_L_2` and `P17/OD`; empty if a name does not tell them.

    among: the names of all pictures, where `ids` are some. A number after the eye, as in left_1, is a patient unless
    such names repeat in several folders. `18L` is the eye of a patient if nine tenths of all names are like it, and so
    is the 1 in `a0_1_L` a field or visit. Equal names in a folder of each eye are one patient. Days and visits are
    dropped; so are years, short days, and numbers of folders, if they go with most patients, and a part of each name
    without which the left and right eyes pair up.
    """
    names = _numbers_first(_without_words(_usual_eyes([*ids, *among])))
    ids, among = names[: len(ids)], names[len(ids) :]
    places = [name.rpartition("/") for name in among or ids]
    stems = [stem.lower() for _, _, stem in places if _EYE_FIRST.fullmatch(stem)]
    are_fields = len(stems) > 1.1 * len(set(stems))  # a tenth, since a few pictures may be there twice
    glued = next((way for way in _GLUED_WAYS if _has_both_eyes(way, places)), None)
    visits = _are_numbered(folder.split("/") for folder, _, stem in places if _EYE_ALONE.fullmatch(stem))
    every = [_patient_and_eye(name, are_fields, visits, glued) for name in among or ids]
    found = [_patient_and_eye(name, are_fields, visits, glued) for name in ids] if among else every
    named = [patient for patient, eye in every if patient and eye]
    for way in _TAILS:
        tailed = [(match["patient"], match["tail"]) for match in map(way.fullmatch, named) if match]
        heads = {head for head, _ in tailed}
        if 10 * (len(tailed) + sum(map(heads.__contains__, named))) >= 9 * len(named) and _are_visits({*tailed}):
            found = [(way.sub(r"\g<patient>", patient) if eye else patient, eye) for patient, eye in found]
            named = [way.sub(r"\g<patient>", patient) for patient in named]
    if part := _other_part({*zip(named, (eye for patient, eye in every if patient and eye), strict=True)}):
        found = [(part.sub(r"\g<patient>", patient) if eye else patient, eye) for patient, eye in found]
        named = [part.sub(r"\g<patient>", patient) for patient in named]
    numbered = [match["patient"] for match in map(_NUMBERED.fullmatch, named) if match]
    if 0 < 9 * len(named) <= 10 * sum(not words.DATE.fullmatch(patient) for patient in numbered):
        found = [(_NUMBERED.sub(r"\g<patient>", patient) if eye else patient, eye) for patient, eye in found]
    both = _below_both_eyes([*ids, *among])
    patients = [patient or both.get(name, ("",))[0] for name, (patient, _) in zip(ids, found, strict=True)]
    return patients, [eye or both.get(name, ("", ""))[1] for name, (_, eye) in zip(ids, found, strict=True)]


def names_note(ids: Sequence[str], patients: Sequence[str], eyes: Sequence[str]) -> str:
    """A note on what was read from names, with an example; empty if nothing was."""
    if parted := _parted(patients):
        what = f"{' and '.join(parted)} count as different patients, as their names say"
        warn(f"{what}: if they are visits of one patient, name the patients in a column of a table")
    known = (each for each in zip(ids, eyes, patients, strict=True) if each[1] and each[2])
    told = next((f"{name} is the {eye} eye of {patient}" for name, eye, patient in known), "")
    return f"patients and eyes from the names: {told}" if told else "patients from the names" * any(patients)


def _patient_and_eye(name: str, are_fields: bool, visits: bool, glued: re.Pattern[str] | None) -> tuple[str, str]:
    """Patient and eye of a name, of which visits are dropped as far as a patient is left."""
    *folders, stem = name.split("/")
    patient = next((folder for folder in reversed(folders) if words.PATIENT.fullmatch(folder)), "")
    for text in dict.fromkeys([*filter(None, (visit.sub("", stem).strip("_-. ") for visit in words.VISITS)), stem]):
        no_number = text != stem and not _EYE_FIRST.fullmatch(stem)  # in 20240105_OD_2, the 2 is no patient
        found = _read_stem(text, folders, patient, are_fields or no_number, visits, glued)
        if found[0] and found[1]:
            break
    return found


def _read_stem(
    stem: str, folders: list[str], patient: str, are_fields: bool, visits: bool, glued: re.Pattern[str] | None
) -> tuple[str, str]:
    if glued and (match := glued.fullmatch(stem)):
        return patient or match["patient"], words.eye_of(match["eye"])
    alone = _EYE_ALONE.fullmatch(stem)
    if alone and not patient and folders:
        counted = not words.eye_of(stem)  # left_17 may be the patient 17, but not in a folder P3
        kept = _without_visits(folders, visits)
        is_grade = not kept[-1].isdecimal() and words.grade_of(kept[-1]) is not None
        is_number = kept != folders or re.fullmatch(r"[A-Za-z]{0,3}[-_ ]?\d+", kept[-1])
        patient = kept[-1] if is_number and not is_grade else ""
        patient = "" if counted and len(patient) < 2 else patient
    if alone and (patient or are_fields or not _EYE_FIRST.fullmatch(stem)):
        return patient, words.eye_of(alone["eye"])
    match = _EYE_LAST.fullmatch(stem)
    if match and len(match["eye"]) == 1 and re.search("(?:90|180|270)$", match["field"]):
        match = None  # x_r90 is turned
    if match and not re.search(r"\d", match["patient"]) and (match["field"] or match["eye"] in "LRlr"):
        match = None  # scan_R2 may be anything
    if match := match or _EYE_FIRST.fullmatch(stem):
        bare = _FIELD_BEFORE.sub("", match["patient"])
        nobody = words.is_wrapper(bare) and not re.search(r"\d", bare)  # IMG_OD
        return patient or bare * (not nobody), words.eye_of(match["eye"])
    if match := _EYE_MARKED.fullmatch(stem):
        return patient, words.eye_of(match["eye"] or match["last"])
    sides = [words.eye_of(folder) for folder in folders if folder.lower() in _SURE]
    return patient, sides[-1] if sides else ""


def _other_part(pairs: set[tuple[str, str]]) -> re.Pattern[str] | None:
    """The way to drop a part of each name, without which both eyes of nearly all are there; None if there is none."""
    for way in _OTHER_PARTS if _both_eyes(pairs) < MOST_PAIRED else ():
        fewer = {(way.sub(r"\g<patient>", patient), eye) for patient, eye in pairs if way.fullmatch(patient)}
        if len(fewer) == len(pairs) and _both_eyes(fewer) >= MOST_PAIRED:
            return way
    return None


def _both_eyes(pairs: set[tuple[str, str]]) -> float:
    """The share of patients of whom there are both eyes; pairs: patient and eye."""
    count = Counter(patient for patient, _ in pairs)
    return sum(eyes > 1 for eyes in count.values()) / max(1, len(count))


def _numbers_first(names: list[str]) -> list[str]:
    """The names, with Site1_left_002 as Site1_002_left if most are like it and the numbers are no fields."""
    different = set(names)
    found = [match for match in map(_NUMBER_LAST.search, different) if match]
    heads, numbers = ({match[part] for match in found} for part in ("head", "number"))
    if 10 * len(found) < 9 * len(different) or len(numbers) <= max(MOST_FIELDS, len(heads)):
        return names
    return [_NUMBER_LAST.sub(r"\g<head>_\g<number>_\g<eye>", name) for name in names]


def _usual_eyes(names: list[str]) -> list[str]:
    """The names, with OS for a short word such as OI, and OD for that of the other eye, if some differ in it alone."""
    found = {name: match for name in names if (match := _SHORT_EYE.fullmatch(name))}
    rests: dict[str, set[str]] = {}
    for match in found.values():
        first = match["head"] in ("", f"{match[0].rpartition('/')[0]}/")  # OI_12
        rests.setdefault(match["eye"].lower(), set()).add((match["head"] + match["tail"] * first).lower())
    usual = dict[str, str]()
    for left, right in ((left, right) for left in rests for right in rests if "os" not in (left, right)):
        if (words.EYE_OF[left], words.EYE_OF[right]) == ("left", "right") and rests[left] & rests[right]:
            usual |= {left: "OS", right: "OD"} if right != "od" or "os" not in rests else {}
    changed = {name: f"{match['head']}{eye}{match['tail']}" for name, match in found.items()
               if (eye := usual.get(match["eye"].lower()))}  # fmt: skip
    return [changed.get(name, name) for name in names]


def _without_words(names: list[str]) -> list[str]:
    """The names, with OD for OD_Topcon if such words are far fewer than folders, and OD_20210301 for OD20210301."""
    plain = [_EYE_GLUED.sub(r"\g<eye>_", name) for name in names]
    found = {name: match for name in plain if (match := _EYE_WORD.fullmatch(name))}
    heads, tails = ({match[part].lower() for match in found.values()} for part in ("head", "word"))
    if len(tails) > max(1, len(heads) // 2):
        return plain
    return [found[name]["head"] + found[name]["eye"] if name in found else name for name in plain]


def read_patients(cells: Sequence[str], where: Path, column: str) -> list[str]:
    """The patients in a column, "" where nobody is named; FovealError for numbers that a program has rounded."""
    plain = ["" if words.is_nobody(cell) else words.plain_number(cell) for cell in cells]
    if rounded := list(filter(words.ROUNDED.fullmatch, plain)):
        what = f"{where}: column '{column}' has {counted(len(rounded), 'rounded number')}, such as {rounded[0]}"
        raise FovealError("table.rounded", what, expected="a name or a number for each patient", fix=words.AS_TEXT)
    return plain


def one_spelling(patients: pd.Series) -> pd.Series:
    """The patients, of whom 002 and 2, P1 and p1, or `a b` and a_b are one: the first spelling stays."""
    spelled, plain = dict[str, str](), list(map(str, patients))
    keys = [" ".join(re.split(r"[\s_]+", name.lower())).lstrip("0") or "0" for name in plain]
    found = [name and spelled.setdefault(key, name) for key, name in zip(keys, plain, strict=True)]
    if joined := sorted({pair for pair in zip(plain, found, strict=True) if pair[0] != pair[1]}):
        warn(f"patients written in two ways count as one: {' and '.join(joined[0][::-1])} ({len(joined)} in all)")
    return pd.Series(found, patients.index, patients.dtype)


def _below_both_eyes(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Patient and eye of names such as left/P002 and right/3/P002; {} if no name is in folders of both eyes."""
    parts = {name: name.split("/") for name in names}
    folders = {folder for *above, _ in parts.values() for folder in above}
    eyes = {folder: words.eye_of(folder) for folder in folders}
    grades = {folder for folder in folders if words.grade_of(folder) is not None}
    ignored = grades if all(folder in grades for folder in folders if folder.isdecimal()) else set()
    places = {}
    for name, (*above, stem) in parts.items():
        told = [eyes[folder] for folder in above if eyes[folder]]
        if len(told) == 1:
            kept = [folder for folder in above if not eyes[folder] and folder not in ignored]
            places[name] = kept, stem, told[0]
    numbered = _are_numbered(kept for kept, *_ in places.values())
    places = {name: (_without_visits(kept, numbered), stem, eye) for name, (kept, stem, eye) in places.items()}
    owned = {("/".join(kept), stem) for kept, stem, _ in places.values() if kept and _owners(kept[-1:])}
    are_patients = _are_visits(owned)  # many folders with few pictures in each
    found = {}
    for name, (kept, stem, eye) in places.items():
        owner = kept and (kept[-1].isdecimal() or (are_patients and _owners(kept[-1:])))
        found[name] = "/".join(kept if owner else [*kept, stem]), eye
    return found if len(set(found.values())) > len({patient for patient, _ in found.values()}) else {}


def _has_both_eyes(way: re.Pattern[str], places: Sequence[tuple[str, str, str]]) -> bool:
    found = [(folder, match) for folder, _, stem in places if (match := way.fullmatch(stem))]
    eyes = {(folder, match["patient"], match["eye"].lower()) for folder, match in found}
    return 10 * len(found) >= 9 * len(places) and len({name[:2] for name in eyes}) < len(eyes)


def _are_visits(pairs: set[tuple[str, str]]) -> bool:
    """Whether the second of pairs are visits of the first, not patients of a site: many have few."""
    return 0 < len(pairs) <= len({head for head, _ in pairs}) ** 2


def _parted(patients: Sequence[str]) -> list[str]:
    """Two patients whose names differ in the last part, if most do, as those of visits would."""
    tails, different = dict[str, dict[str, str]](), dict.fromkeys(patients)
    for match in filter(None, map(_LAST_PART.fullmatch, different)):
        head = match["patient"]
        tails.setdefault(head, {"": head} if head in different else {})[match["tail"]] = match[0]
    several = [list(names.values())[:2] for names in tails.values() if len(names) > 1]
    pairs = {(head, tail) for head, names in tails.items() for tail in names}
    return several[0] if several and 2 * len(several) > len(tails) and _are_visits(pairs) else []


def _owners(folders: Sequence[str]) -> list[str]:
    """The folders that may be of patients, or of visits in them."""
    named = [name for name in folders if name and (name.isdecimal() or words.grade_of(name) is None)]
    return [name for name in named if not (words.is_wrapper(name) or words.part_of(name) or words.eye_of(name))]


def _is_visit(folder: str, number: bool) -> bool:
    """Whether a folder is named like a visit or a day; number: whether a short number is one."""
    return number if folder.isdecimal() and len(folder) < 8 else words.is_date(folder)


def _are_numbered(paths: Iterable[list[str]]) -> bool:
    """Whether numbers at the end of paths of folders are visits: years, or a few that most patients above them have."""
    ends = [(*path[-2:],) for path in map(_owners, paths) if len(path) > 1 and path[-1].isdecimal()]
    pairs = {(head, tail) for head, tail in ends if not _is_visit(head, words.is_date(head))}
    heads, tails = {head for head, _ in pairs}, Counter(tail for _, tail in pairs)
    if not _are_visits(pairs) or all(words.grade_of(head) is not None for head in heads):
        return False
    return all(map(words.is_date, tails)) or 2 * max(tails.values()) > len(heads)


def _without_visits(folders: list[str], numbers: bool) -> list[str]:
    """Folders without the last ones, if they are visits in others; numbers: whether short numbers are, too."""
    while len(_owners(folders)) > 1 and _is_visit(folders[-1], numbers):
        folders = folders[:-1]
    return folders
