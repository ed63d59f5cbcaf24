"""Read words in names and cells: parts of a data set, days, eyes, grades and missing labels."""

import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

WORDS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PARTS: dict[str, str] = WORDS["parts"]
EYE_OF = {word: eye for eye, words in WORDS["eyes"].items() for word in words.split()}
ORGAN = WORDS["patterns"]["organ"]
PATIENT, DATE, FOLD, MASKS, UNGRADABLE, NEGATIVE, EXPORT, HIDDEN = (re.compile(WORDS["patterns"][name], re.IGNORECASE)
    for name in ("patient", "date", "fold", "masks", "ungradable", "negative", "export", "hidden"))  # fmt: skip
# Visits in a name, first with a time after a date.
_DAY, _VISIT = ("|".join(WORDS["patterns"][name]) for name in ("day", "visit"))
VISITS = [re.compile(rf"(?:^|(?<=[_\-. ]))(?:{day}|{_VISIT})(?:[_\-. ]+|$)", re.IGNORECASE)
          for day in (rf"(?:{_DAY})(?:[T_\-. ]*{WORDS['patterns']['time']})?", _DAY)]  # fmt: skip


def flat(words: str) -> str:
    """In lower case, without accents and the Turkish i without a dot."""
    plain = unicodedata.normalize("NFKD", words.casefold()).replace("ı", "i")
    return "".join(sign for sign in plain if unicodedata.category(sign)[0] != "M")


EYE_OF |= {flat(word): eye for word, eye in EYE_OF.items()}
# Several words that count as one, with _ between them; the longest come first.
PHRASES = sorted(re.findall(r"\w+_\w+", flat(" ".join([*WORDS["grades"], WORDS["disease"]]))), key=len, reverse=True)
GRADE_OF = {flat(word).replace("_", ""): grade for grade, words in enumerate(WORDS["grades"]) for word in words.split()}
ETDRS = set(WORDS["etdrs"].split())
ROUNDED = re.compile(r"\d(?:[.,]\d+)?E\+\d+", re.IGNORECASE)  # 4.20E+09
AS_TEXT = "a spreadsheet program has rounded the long numbers: format the column as text, and export it again"
WRAPPERS, DISEASE, COUNTERS = (set(flat(WORDS[name]).replace("_", "").split())
                               for name in ("wrappers", "disease", "counters"))  # fmt: skip
# What may be written as one with the word of a grade.
_GLUED = {word for word in DISEASE if len(word) > 5 or not word.isascii()} | {"dr", "rd", "npdr", "rdnp"}
_NPDR = re.compile(rf"{WORDS['patterns']['non']}[\W_]*prolif[^\W\d_]*|非[增増][殖生][性期]?")
_RETINOPATHY = re.compile("(糖尿病性?)?(视网膜病变|視網膜病變|網膜症)")


def part_of(name: str) -> str:
    """train, val or test for the folder of a part, such as train_images or Testing Set; "" for others."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in WRAPPERS]
    return PARTS.get(words[0], "") if len(words) == 1 else ""


def is_date(name: str) -> bool:
    """Whether a folder is named like a day, month, week, year or visit, such as 2024-03-01, March 2024 or visit 2."""
    words = re.findall("[a-z]+", name.lower())
    months = len(words) == 1 and len(words[0]) > 2 and f" {words[0]}" in f" {WORDS['months']}"
    dated = re.match(rf"(?:{_DAY})[_\-. ]", name, re.IGNORECASE)  # 2024_01_12 Clinic
    return months or bool(dated or DATE.fullmatch(name) or VISITS[0].fullmatch(name))


def is_wrapper(name: str) -> bool:
    """Whether a folder name such as images or 100CANON says nothing about the pictures in it."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    return bool((words and words <= WRAPPERS) or EXPORT.fullmatch(name))


def eye_of(cell: str) -> str:
    """left or right, as a table may say it: in a usual language or by an abbreviation; "" for anything else."""
    words = re.findall(r"[^\W_]+", re.sub(rf"\b(?:{ORGAN})|(?:{ORGAN})\b|\u773c|\.", "", flat(cell)))
    return EYE_OF.get(words[0], "") if len(words) == 1 else ""


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


def is_nobody(cell: str) -> bool:
    """Whether a cell names no patient: missing, or a word such as anonymous."""
    return is_missing(cell) or flat(cell) in WORDS["nobody"].split()


@cache
def grade_of(name: str) -> int | None:
    """The ICDR grade that a class name means, 0-4; None if it is not a usual name, or could mean two."""
    plain = flat(re.sub("(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name))  # NoDR, DRMild
    for phrase in PHRASES:
        plain = re.sub(rf"\b{phrase}\b".replace("_", r"[\W_]+"), phrase.replace("_", ""), plain)
    plain = _RETINOPATHY.sub(" dr ", _NPDR.sub(" npdr ", plain))
    found = re.findall(r"[\u4e00-\u9fff]+|[^\W\d_\u4e00-\u9fff]+|\d+", plain)
    words = [part for word in found for part in _parts(word)]
    words = [str(WORDS["roman"].index(word)) if word in WORDS["roman"] else word for word in words]
    named = {GRADE_OF[word] for word in words if word in GRADE_OF}
    strange = {word for word in words if not word.isdigit()} - GRADE_OF.keys() - DISEASE - COUNTERS
    if strange or len(named) > 1 or re.match(r"\s*-\s*\d", name):
        return None
    numbers = [word for word in words if word.isdigit()]
    counted = len(numbers) == 1 and re.fullmatch("0?[0-4]", numbers[0]) and not named  # 001 is a number of a patient
    return named.pop() if named else int(numbers[0]) if counted and {*words} <= COUNTERS | {"dr", *numbers} else None


def _parts(word: str) -> list[str]:
    """The word of a grade and one of the disease, if they are written as one, as in milddr; else the word itself."""
    known = GRADE_OF.keys() | DISEASE
    pairs = [] if word in known else [(word[:end], word[end:]) for end in range(2, len(word) - 1)]
    return next((list(pair) for pair in pairs if known.issuperset(pair) and not _GLUED.isdisjoint(pair)), [word])
