"""Read names: patients and eyes, parts of a data set, grades and missing labels in words."""

import difflib
import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal.console import warn
from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.cards import CLASSES, ICDR

WORDS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PARTS: dict[str, str] = WORDS["parts"]
_EYE_OF = {word: eye for eye, words in WORDS["eyes"].items() for word in words.split()}
_ORGAN = WORDS["patterns"]["organ"]
# In names of pictures and folders, only words that hardly mean anything else.
_SIDE = "|".join(word for word in _EYE_OF if len(word) > 4 or word in ("left", "od", "os") or not word.isascii())
_PLACES = "|".join([*WORDS["patterns"]["places"], _ORGAN])
_FIELD_WORD = "(?:f|field|img|image|view|photo)"
_FIELD_PART = rf"[_\-. ]+(?:{_PLACES}|(?:{_FIELD_WORD}[_\-. ]?)?\(?\d{{1,3}}\)?)"
_FIELD = rf"(?:{_FIELD_WORD}?\d{{1,3}})?(?:{_FIELD_PART}){{0,3}}"
_FIELD_BEFORE = re.compile(rf"(?:[_\-. ]+(?:{_PLACES}|{_FIELD_WORD}[_\-. ]?\d{{1,3}}))+$", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<patient>.*\d)[_\-. ]0?\d$")  # a0_1, whose eye comes next
_EYE = rf"(?:[_\-. ]+(?:(?:{_ORGAN})[_\-. ]+)?|(?<=\d))(?P<eye>{_SIDE}|(?<=[_\-. ])[LR]|(?<=\d[_\-. ])[LR]E)"
_EYE_LAST = re.compile(rf"(?P<patient>.+?){_EYE}(?P<field>{_FIELD})", re.IGNORECASE)
_EYE_FIRST = re.compile(rf"(?P<eye>{_SIDE})[_\-. ]+(?P<patient>.*\d.*)", re.IGNORECASE)
_EYE_ALONE = re.compile(rf"(?P<eye>{_SIDE}|[LR]){_FIELD}", re.IGNORECASE)
# 18L and L18 may be anything, unless most names are like it and there are both eyes of someone.
_GLUED = (r"(?P<patient>.*\d)(?P<eye>[LR])", r"(?P<eye>[LR])(?P<patient>\d+)")
_GLUED_WAYS = [re.compile(rf"{way}{_FIELD}", re.IGNORECASE) for way in _GLUED]
PATIENT, DATE, FOLD, MASKS, UNGRADABLE, _VISIT = (
    re.compile(WORDS["patterns"][name], re.IGNORECASE)
    for name in ("patient", "date", "fold", "masks", "ungradable", "visit")
)


def _flat(words: str) -> str:
    """In lower case, without accents and the Turkish i without a dot."""
    plain = unicodedata.normalize("NFKD", words.casefold()).replace("ı", "i")
    return "".join(sign for sign in plain if not unicodedata.combining(sign))


_SPELLINGS = ("No DR", "Mild", "Moderate", "Severe", "Proliferative DR", "Proliferative", *ICDR)
_GRADE_OF = {_flat(word): grade for grade, words in enumerate(WORDS["grades"]) for word in words.split()}
ETDRS = set(WORDS["etdrs"].split())
_WRAPPERS, _DISEASE, _COUNTERS = (set(WORDS[name].split()) for name in ("wrappers", "disease", "counters"))


def part_of(name: str) -> str:
    """train, val or test for the folder of a part, such as train_images or Testing Set; "" for others."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _WRAPPERS]
    return PARTS.get(words[0], "") if len(words) == 1 else ""


def is_date(name: str) -> bool:
    """Whether a folder is named like a day, month, week or year, such as 2024-03-01, March 2024 or week 12."""
    words = re.findall("[a-z]+", name.lower())
    months = len(words) == 1 and len(words[0]) > 2 and f" {words[0]}" in f" {WORDS['months']}"
    return months or bool(DATE.fullmatch(name))


def is_wrapper(name: str) -> bool:
    """Whether a folder name such as images says nothing about the pictures in it."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    return bool(words) and words <= _WRAPPERS


def hashes_of(patient: str) -> set[str]:
    """The values that a server may store for a patient: hashes of the PatientID of DICOM files, or from file names."""
    digest = hashlib.sha256(patient.encode()).hexdigest()[:16]
    return {f"dicom-{digest}", f"name-{digest}"}


def patients_and_eyes(ids: Sequence[str], among: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Patient and eye from names such as `17_left`, `P17_L_2` and `P17/OD`; empty if a name does not tell them.

    among: the names of all pictures, where `ids` are some. A number after the eye, as in left_1, is a patient unless
    such names repeat in several folders. `18L` is the eye of a patient if nine tenths of all names are like it, and so
    is the 1 in `a0_1_L` a field or visit. Equal names in a folder of each eye are one patient.
    """
    places = [name.rpartition("/") for name in among or ids]
    stems = [stem.lower() for _, _, stem in places if _EYE_FIRST.fullmatch(stem)]
    are_fields = len(stems) > 1.1 * len(set(stems))  # a tenth, since a few pictures may be there twice
    glued = next((way for way in _GLUED_WAYS if _has_both_eyes(way, places)), None)
    found, every = ([_patient_and_eye(name, are_fields, glued) for name in names] for names in (ids, among or ids))
    named = [patient for patient, eye in every if patient and eye]
    numbered = [match for match in map(_NUMBERED.fullmatch, named) if match and not DATE.fullmatch(match["patient"])]
    if numbered and 10 * len(numbered) >= 9 * len(named):
        found = [(_NUMBERED.sub(r"\g<patient>", patient) if eye else patient, eye) for patient, eye in found]
    both = _below_both_eyes([*ids, *among])
    patients = [patient or both.get(name, ("",))[0] for name, (patient, _) in zip(ids, found, strict=True)]
    return patients, [eye or both.get(name, ("", ""))[1] for name, (_, eye) in zip(ids, found, strict=True)]


def _below_both_eyes(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Patient and eye of names such as left/P002 and right/3/P002; {} if no name is in folders of both eyes."""
    parts = {name: name.split("/") for name in names}
    folders = {folder for *above, _ in parts.values() for folder in above}
    eyes, grades = {folder: eye_of(folder) for folder in folders}, {f for f in folders if grade_of(f) is not None}
    ignored = grades if all(folder in grades for folder in folders if folder.isdecimal()) else set()
    found = {}
    for name, (*above, stem) in parts.items():
        told = [eyes[folder] for folder in above if eyes[folder]]
        if len(told) == 1:
            kept = [folder for folder in above if not eyes[folder] and folder not in ignored]
            found[name] = "/".join([*kept, stem]), told[0]
    return found if len(set(found.values())) > len({patient for patient, _ in found.values()}) else {}


def names_note(ids: Sequence[str], patients: Sequence[str], eyes: Sequence[str]) -> str:
    """A note on what was read from names, with an example; empty if nothing was."""
    known = (each for each in zip(ids, eyes, patients, strict=True) if each[1] and each[2])
    told = next((f"{name} is the {eye} eye of {patient}" for name, eye, patient in known), "")
    return f"patients and eyes from the names: {told}" if told else "patients from the names" * any(patients)


def eye_of(cell: str) -> str:
    """left or right, as a table may say it: in a usual language or by an abbreviation; "" for anything else."""
    words = re.findall(r"[^\W_]+", re.sub(rf"\b(?:{_ORGAN})\b|\u773c|\.", "", _flat(cell)))
    return _EYE_OF.get(words[0], "") if len(words) == 1 else ""


def _has_both_eyes(way: re.Pattern[str], places: Sequence[tuple[str, str, str]]) -> bool:
    """Whether nine tenths of the names are like this, and some patient has a left and a right eye."""
    found = [(folder, match) for folder, _, stem in places if (match := way.fullmatch(stem))]
    eyes = {(folder, match["patient"], match["eye"].lower()) for folder, match in found}
    return 10 * len(found) >= 9 * len(places) and len({name[:2] for name in eyes}) < len(eyes)


def _patient_and_eye(name: str, are_fields: bool, glued: re.Pattern[str] | None) -> tuple[str, str]:
    *folders, stem = name.split("/")
    patient = next((folder for folder in reversed(folders) if PATIENT.fullmatch(folder)), "")
    if glued and (match := glued.fullmatch(stem)):
        return patient or match["patient"], eye_of(match["eye"])
    alone = _EYE_ALONE.fullmatch(stem)
    if alone and not patient and folders:
        counted = not eye_of(stem)  # left_17 may be the patient 17, but not in a folder P3
        is_grade = not folders[-1].isdecimal() and grade_of(folders[-1]) is not None
        patient = folders[-1] if re.fullmatch(r"[A-Za-z]{0,3}[-_ ]?\d+", folders[-1]) and not is_grade else ""
        patient = "" if counted and len(patient) < 2 else patient
    if alone and (patient or are_fields or not _EYE_FIRST.fullmatch(stem)):
        return patient, eye_of(alone["eye"])
    match = _EYE_LAST.fullmatch(stem)
    if match and len(match["eye"]) == 1 and re.search("(?:90|180|270)$", match["field"]):
        match = None  # x_r90 is turned
    if match and not re.search(r"\d", match["patient"]) and (match["field"] or match["eye"] in "LRlr"):
        match = None  # scan_R2 may be anything
    match = match or _EYE_FIRST.fullmatch(stem)
    if match:
        bare = _FIELD_BEFORE.sub("", match["patient"])
        without_visit = _VISIT.sub("", bare).strip("_-. ")
        return patient or without_visit or bare, eye_of(match["eye"])
    sides = [eye_of(folder) for folder in folders if re.fullmatch(_SIDE, folder, re.IGNORECASE)]
    return patient, sides[-1] if sides else ""


def plain_number(cell: str) -> str:
    """A cell as text: '2.0', '2,0' and ' 2' read as '2'."""
    return re.sub(r"^(-?\d+)[.,]0+$", r"\1", cell.strip())


def plain_label(cell: str) -> str:
    """A label as text: '2.0', '02' and ' 2' read as '2'. Names of pictures and patients keep their zeros."""
    return re.sub(r"^0+(?=\d+$)", "", plain_number(cell))


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no label or name: empty, NA, nan, -1, unknown."""
    return plain_number(cell).lower() in WORDS["unlabelled"]


def grade_of(name: str) -> int | None:
    """The ICDR grade that a class name means, 0-4; None if it is not a usual name, or could mean two."""
    flat = re.sub(rf"{WORDS['patterns']['non']}[\W_]*prolif[^\W\d_]*|非增[殖生][性期]?", " npdr ", _flat(name))
    flat = re.sub("(糖尿病性?)?视网膜病变", " dr ", flat)
    words = re.findall(r"[\u4e00-\u9fff]+|[^\W\d_\u4e00-\u9fff]+|\d+", flat)
    words = [str(WORDS["roman"].index(word)) if word in WORDS["roman"] else word for word in words]
    named = {_GRADE_OF[word] for word in words if word in _GRADE_OF}
    strange = {word for word in words if not word.isdigit()} - _GRADE_OF.keys() - _DISEASE - _COUNTERS
    if strange or len(named) > 1 or re.match(r"\s*-\s*\d", name):
        return None
    numbers = [word for word in words if word.isdigit()]
    counted = len(numbers) == 1 and int(numbers[0]) <= 4 and not named and set(words) <= _COUNTERS | {"dr", *numbers}
    return named.pop() if named else int(numbers[0]) if counted else None


def name_classes(
    values: set[str], scale: str = "auto", places: Mapping[str, Sequence[str]] | None = None
) -> tuple[dict[str, int], tuple[str, ...], str, str]:
    """(label of each value, class names in label order, scale, note).

    "icdr" and "messidor" place every value on that scale, and keep classes without images; "auto" takes values for ICDR
    that are three of 0-4, with 4, or of R0-R4, with R4, or usual names of grades. Others keep their names, in order.
    FovealError for values that have no place, or are hardly but mistyped grades; places: where each value is.
    """
    numbers = all(value.isdecimal() for value in values)
    names, meant = CLASSES.get(scale, ICDR), "messidor" if scale == "messidor" else "icdr"
    scottish = {"R4"} <= values <= {"R0", "R1", "R2", "R3", "R4"}  # in England R3 is proliferative, and there is no R4
    placed = {value: grade_of(value[scottish:]) for value in values}
    _warn_of_numbers(placed)
    if meant == "messidor":
        placed = {value: int(value) if value in ("0", "1", "2", "3") else None for value in values}
    grades = {value: grade for value, grade in placed.items() if grade is not None}
    strange = sorted(values - set(grades))
    named = {grade for value, grade in grades.items() if not value.isdecimal()}
    known = {_flat(name): name for name in (*_SPELLINGS, *grades)}
    near = {value: _mistyped(_flat(value), known) for value in strange}
    mistyped = bool(named) and all(near.values())
    if strange and (scale in CLASSES or (scale == "auto" and (mistyped or len(named) >= 3 >= len(strange) + 1))):
        asked = "the ICDR scale" if scale == "auto" else f"--scale {scale}"
        rows = {value: (places or {}).get(value, ()) for value in strange[:10]}
        told = [f"{v!r}" + f" in {counted(len(at), 'row')} ({', '.join(at[:3])})" * bool(at) for v, at in rows.items()]
        meant = "".join(f"{value!r} may mean {known[found[0]]!r}; " for value, found in near.items() if found)
        what = f"{asked} has no grade for {', '.join(told)}"
        fix = f"{meant}rename them, empty them, or give --scale none"
        raise FovealError("label.scale", what, expected=f"0-{len(names) - 1}, or {', '.join(names)}", fix=fix)
    if values and (scale in CLASSES or (scale == "auto" and not strange and _is_icdr(grades, numbers or scottish))):
        order = ", ".join(f"{value} = {grade}" for value, grade in sorted(grades.items(), key=lambda item: item[1]))
        note = f"the labels {', '.join(sorted(values))}" if numbers else order
        note += f" are on the {'ICDR' if meant == 'icdr' else scale} scale"
        absent = [name for grade, name in enumerate(names) if grade not in grades.values()]
        said = {word for value in values for word in re.findall(r"[^\W\d_]+", _flat(value))}
        if 0 not in grades.values() and not said & _GRADE_OF.keys():
            warn(f"no image has grade 0 ({names[0]}): if the labels are numbered from 1, subtract 1 from all of them")
        note += f"; no image of {', '.join(absent)}" if absent else ""
        return grades, names, meant, f"{note}; prepare --scale none if they mean something else"
    ordered = sorted(values, key=int) if numbers else sorted(values)
    by_severity = not strange and not numbers and len(set(grades.values())) == len(grades)
    healthy_first = len(values) == 2 and list(grades.values()) == [0]  # No_DR before DR
    if scale == "auto" and (by_severity or healthy_first):
        ordered = sorted(values, key=lambda value: grades.get(value, 4))  # mild before moderate, whatever the disease
    note = ""
    if scale == "auto" and numbers and not values <= {"0", "1"} and values <= set("01234"):
        note = f"{', '.join(ordered)} are treated as separate classes: give --scale icdr if they are ICDR grades"
        note += ", or messidor if they are Messidor's" * ("4" not in values)
    elif scale == "auto" and values <= ETDRS and not values <= {"10", "12", "20", "60", "90"}:
        note = f"{', '.join(ordered)} are read as levels of the ETDRS scale, in this order, not as ICDR grades, which "
        note += "are the levels 10, 20, 35-47, 53 and 61-85: --classes merges them"
    elif scale == "auto" and by_severity and len(values) > 2:
        note = f"{', '.join(ordered)} may be grades of the ICDR scale: give --scale icdr, or none if they are not"
    elif scale == "auto" and not numbers and len(values) > 2:
        note = f"the classes {', '.join(ordered)} are in alphabetical order, because not all are known grades"
        note += ": if they are grades, rename them (No DR, Mild, …) and give --scale icdr"
    return {value: number for number, value in enumerate(ordered)}, tuple(ordered), "none", note


def _warn_of_numbers(placed: Mapping[str, int | None]) -> None:
    """Warn if classes such as "2 severe" have a word for one grade and the number of another."""
    apart = {}
    for value, grade in placed.items():
        numbers = re.findall(r"\d+", value)
        if grade is not None and len(numbers) == 1 and value not in numbers:
            apart[value] = int(numbers[0]) - grade
    if len(set(apart.values())) > 1:  # if all are one apart, the numbers count from 1
        told = ", ".join(f"{value!r} is grade {placed[value]}" for value in sorted(apart) if apart[value])
        warn(f"numbers and words of classes disagree, and the words count: {told}")


def _mistyped(word: str, known: Iterable[str]) -> list[str]:
    """The known word that this one is probably a typo of, in a list; first letter, digits and rough length agree."""
    near = difflib.get_close_matches(word, known, 1, 0.8)
    alike = [one for one in near if one[0] == word[0] and abs(len(one) - len(word)) <= 2]
    return [one for one in alike if re.findall(r"\d", one) == re.findall(r"\d", word)]


def _is_icdr(grades: dict[str, int], numbers: bool) -> bool:
    """Whether values that can all be placed are meant as ICDR grades, and not as those of another disease."""
    found = set(grades.values())
    if numbers:
        return 4 in found and len(found) >= 3
    said = any(re.search(r"dr\b|retinopat|rd\b|prolif", value.lower().replace("_", " ")) for value in grades)
    return len(found) >= 4 or (said and len(found) >= 2)
