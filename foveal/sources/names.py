"""Read names: patients and eyes, parts of a data set, grades and missing labels in words."""

import difflib
import hashlib
import re
import tomllib
import unicodedata
from collections import Counter
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
_GLUED_WAYS = [re.compile(rf"{way}{_FIELD}", re.IGNORECASE) for way in WORDS["patterns"]["glued"]]
PATIENT, DATE, FOLD, MASKS, UNGRADABLE = (re.compile(WORDS["patterns"][name], re.IGNORECASE)
                                          for name in ("patient", "date", "fold", "masks", "ungradable"))  # fmt: skip
# Visits in a name, first with a time after a date; tails that are visits if nearly all names have one.
_DAY, _VISIT = ("|".join(WORDS["patterns"][name]) for name in ("day", "visit"))
_VISITS = [
    re.compile(rf"(?:^|(?<=[_\-. ]))(?:{day}|{_VISIT})(?:[_\-. ]+|$)", re.IGNORECASE)
    for day in (rf"(?:{_DAY})(?:[T_\-. ]*{WORDS['patterns']['time']})?", _DAY)
]
_TAILS = [re.compile(way, re.IGNORECASE) for way in WORDS["patterns"]["tails"]]
_LAST_PART = re.compile(r"(?P<patient>.*\d.*)[_\-. ]+(?P<tail>[^_\-. ]+)")


def flat(words: str) -> str:
    """In lower case, without accents and the Turkish i without a dot."""
    plain = unicodedata.normalize("NFKD", words.casefold()).replace("ı", "i")
    return "".join(sign for sign in plain if not unicodedata.combining(sign))


_GRADE_OF = {flat(word): grade for grade, words in enumerate(WORDS["grades"]) for word in words.split()}
ETDRS = set(WORDS["etdrs"].split())
_WRAPPERS, _DISEASE, _COUNTERS = (set(WORDS[name].split()) for name in ("wrappers", "disease", "counters"))


def part_of(name: str) -> str:
    """train, val or test for the folder of a part, such as train_images or Testing Set; "" for others."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _WRAPPERS]
    return PARTS.get(words[0], "") if len(words) == 1 else ""


def is_date(name: str) -> bool:
    """Whether a folder is named like a day, month, week, year or visit, such as 2024-03-01, March 2024 or visit 2."""
    words = re.findall("[a-z]+", name.lower())
    months = len(words) == 1 and len(words[0]) > 2 and f" {words[0]}" in f" {WORDS['months']}"
    return months or bool(DATE.fullmatch(name) or _VISITS[0].fullmatch(name))


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
    is the 1 in `a0_1_L` a field or visit. Equal names in a folder of each eye are one patient. Days and visits are
    dropped; so are years, short days, and numbers of folders, if they go with most patients.
    """
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


def names_note(ids: Sequence[str], patients: Sequence[str], eyes: Sequence[str]) -> str:
    """A note on what was read from names, with an example; empty if nothing was."""
    if parted := _parted(patients):
        what = f"{' and '.join(parted)} count as different patients, as their names say"
        warn(f"{what}: if they are visits of one patient, name the patients in a column of a table")
    known = (each for each in zip(ids, eyes, patients, strict=True) if each[1] and each[2])
    told = next((f"{name} is the {eye} eye of {patient}" for name, eye, patient in known), "")
    return f"patients and eyes from the names: {told}" if told else "patients from the names" * any(patients)


def eye_of(cell: str) -> str:
    """left or right, as a table may say it: in a usual language or by an abbreviation; "" for anything else."""
    words = re.findall(r"[^\W_]+", re.sub(rf"\b(?:{_ORGAN})\b|\u773c|\.", "", flat(cell)))
    return _EYE_OF.get(words[0], "") if len(words) == 1 else ""


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
    return [name for name in folders if name and not (
        is_wrapper(name) or part_of(name) or eye_of(name) or (grade_of(name) is not None and not name.isdecimal())
    )]  # fmt: skip


def _is_visit(folder: str, number: bool) -> bool:
    """Whether a folder is named like a visit or a day; number: whether a short number is one."""
    return number if folder.isdecimal() and len(folder) < 8 else is_date(folder)


def _are_numbered(paths: Iterable[list[str]]) -> bool:
    """Whether numbers at the end of paths of folders are visits: years, or a few that most patients above them have."""
    ends = [(*path[-2:],) for path in map(_owners, paths) if len(path) > 1 and path[-1].isdecimal()]
    pairs = {(head, tail) for head, tail in ends if not _is_visit(head, is_date(head))}
    heads, tails = {head for head, _ in pairs}, Counter(tail for _, tail in pairs)
    if not _are_visits(pairs) or all(grade_of(head) is not None for head in heads):
        return False
    return all(map(is_date, tails)) or 2 * max(tails.values()) > len(heads)


def _without_visits(folders: list[str], numbers: bool) -> list[str]:
    """Folders without the last ones, if they are visits in others; numbers: whether short numbers are, too."""
    while len(_owners(folders)) > 1 and _is_visit(folders[-1], numbers):
        folders = folders[:-1]
    return folders


def _patient_and_eye(name: str, are_fields: bool, visits: bool, glued: re.Pattern[str] | None) -> tuple[str, str]:
    """Patient and eye of a name, of which visits are dropped as far as a patient is left."""
    *folders, stem = name.split("/")
    patient = next((folder for folder in reversed(folders) if PATIENT.fullmatch(folder)), "")
    shorter = [visit.sub("", stem).strip("_-. ") for visit in _VISITS]
    for text in dict.fromkeys([*filter(None, shorter), stem]):
        no_number = text != stem and not _EYE_FIRST.fullmatch(stem)  # in 20240105_OD_2, the 2 is no patient
        found = _read_stem(text, folders, patient, are_fields or no_number, visits, glued)
        if found[0] and found[1]:
            break
    return found


def _read_stem(
    stem: str, folders: list[str], patient: str, are_fields: bool, visits: bool, glued: re.Pattern[str] | None
) -> tuple[str, str]:
    if glued and (match := glued.fullmatch(stem)):
        return patient or match["patient"], eye_of(match["eye"])
    alone = _EYE_ALONE.fullmatch(stem)
    if alone and not patient and folders:
        counted = not eye_of(stem)  # left_17 may be the patient 17, but not in a folder P3
        kept = _without_visits(folders, visits)
        is_grade = not kept[-1].isdecimal() and grade_of(kept[-1]) is not None
        is_number = kept != folders or re.fullmatch(r"[A-Za-z]{0,3}[-_ ]?\d+", kept[-1])
        patient = kept[-1] if is_number and not is_grade else ""
        patient = "" if counted and len(patient) < 2 else patient
    if alone and (patient or are_fields or not _EYE_FIRST.fullmatch(stem)):
        return patient, eye_of(alone["eye"])
    match = _EYE_LAST.fullmatch(stem)
    if match and len(match["eye"]) == 1 and re.search("(?:90|180|270)$", match["field"]):
        match = None  # x_r90 is turned
    if match and not re.search(r"\d", match["patient"]) and (match["field"] or match["eye"] in "LRlr"):
        match = None  # scan_R2 may be anything
    if match := match or _EYE_FIRST.fullmatch(stem):
        bare = _FIELD_BEFORE.sub("", match["patient"])
        nobody = is_wrapper(bare) and not re.search(r"\d", bare)  # IMG_OD
        return patient or bare * (not nobody), eye_of(match["eye"])
    sides = [eye_of(folder) for folder in folders if re.fullmatch(_SIDE, folder, re.IGNORECASE)]
    return patient, sides[-1] if sides else ""


def plain_number(cell: str) -> str:
    """A cell as text: '2.0', '2,0' and ' 2' read as '2'."""
    return re.sub(r"^(-?\d+)[.,]0+$", r"\1", cell.strip())


def plain_label(cell: str) -> str:
    """A label as text: '2.0', '02', ' 2' and '2.0e+00' read as '2'. Names of pictures and patients keep their zeros."""
    number = f"{float(cell):g}" if re.fullmatch(r"\s*\d\.0+e\+?00\s*", cell, re.IGNORECASE) else plain_number(cell)
    return re.sub(r"^0+(?=\d+$)", "", number)


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no label or name: empty, NA, nan, -1, unknown."""
    return plain_number(cell).lower() in WORDS["unlabelled"]


def grade_of(name: str) -> int | None:
    """The ICDR grade that a class name means, 0-4; None if it is not a usual name, or could mean two."""
    plain = re.sub(rf"{WORDS['patterns']['non']}[\W_]*prolif[^\W\d_]*|非增[殖生][性期]?", " npdr ", flat(name))
    plain = re.sub("(糖尿病性?)?视网膜病变", " dr ", plain)
    words = re.findall(r"[\u4e00-\u9fff]+|[^\W\d_\u4e00-\u9fff]+|\d+", plain)
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
    known = {flat(name): name for name in (*WORDS["spellings"], *ICDR, *grades)}
    near = {value: _mistyped(flat(value), known) for value in strange}
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
        order = ", ".join(f"{value} = {grade}" for value, grade in sorted(grades.items(), key=lambda item: item[::-1]))
        note = f"the labels {', '.join(sorted(values))}" if numbers else order
        note += f" are on the {'ICDR' if meant == 'icdr' else scale} scale"
        absent = [name for grade, name in enumerate(names) if grade not in grades.values()]
        said = {word for value in values for word in re.findall(r"[^\W\d_]+", flat(value))}
        if 0 not in grades.values() and not said & _GRADE_OF.keys():
            warn(f"no image has grade 0 ({names[0]}): if the labels are numbered from 1, subtract 1 from all of them")
        note += f"; no image of {', '.join(absent)}" if absent else ""
        return grades, names, meant, f"{note}; prepare --scale none if they mean something else"
    ordered = sorted(values, key=int) if numbers else sorted(values)
    by_severity = not strange and not numbers and len(set(grades.values())) == len(grades)
    healthy_first = len(values) == 2 and list(grades.values()) == [0]  # No_DR before DR
    if scale == "auto" and (by_severity or healthy_first):
        ordered = sorted(values, key=lambda value: grades.get(value, 4))  # mild before moderate, whatever the disease
    kind = ""
    if numbers and not values <= {"0", "1"} and values <= set("01234"):
        kind = "grades" if "4" in values else "few_grades"
    elif numbers and len(values) > 2 and not values <= ETDRS:
        kind = "numbers"
    elif values <= ETDRS and not values <= {"10", "12", "20", "60", "90"}:
        kind = "etdrs"
    elif len(values) > 2 and (by_severity or not numbers):
        kind = "by_severity" if by_severity else "alphabetical"
    note = WORDS["notes"][kind].format(", ".join(ordered)) if kind and scale == "auto" else ""
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
