"""Numbers of patients: whether two tables or folders mean one person."""

import re
from pathlib import Path

import pandas as pd

from foveal.console import warn
from foveal.page.words import counted
from foveal.sources.source import TABLES

LOCAL = ("table ", "folder ")  # how the name of a patient begins whom no published set numbers
OWN_NUMBER = r"0\d+|\d{6,}|(?=.*\d).*\D.*"  # padded, long or with letters; others number the patients of a study


def number_of(patient: str) -> str:
    """The last number in the name of a patient, without zeros before it; the whole name if it has none."""
    name = patient.rpartition("/")[2].lower()
    return [name, *re.findall(r"\d+", name)][-1].lstrip("0")


def one_person(first: str, second: str) -> bool | None:
    """Whether two `LOCAL` patients of several tables or folders are one by their names; None if they may be two.

    They are if the number is one that a hospital gives (`OWN_NUMBER`), written alike apart from letters before it, as
    004 and P004, or if both tables are in one folder. Others, such as 12, may be of two people.
    """
    (source, _, name), (elsewhere, _, its) = (patient.rpartition("/") for patient in (first, second))
    short, long = sorted((name.lower(), its.lower()), key=len)
    if source == elsewhere or not (long.endswith(short) or short.lstrip("0") == long.lstrip("0")):
        return False
    paths = [Path(place.partition(" ")[2]) for place in (source, elsewhere)]
    folders = {path.parent if path.suffix.lower() in TABLES else path for path in paths}
    return True if re.fullmatch(OWN_NUMBER, short) or len(folders) == 1 else None


def link_numbers(groups: pd.Series) -> pd.Series:
    """Patients from `patients`, of whom those that are `one_person` have one name; warns of those that may be."""
    known, name_of, doubtful = dict[str, list[str]](), dict[str, str](), 0
    for part in sorted({part for group in groups.unique() for part in group.split("+") if part.startswith(LOCAL)}):
        alike = known.setdefault(number_of(part), [])
        same = {one_person(other, part): name_of.get(other, other) for other in alike}
        name_of |= {part: same[True]} if True in same else {}
        doubtful += None in same and True not in same
        alike.append(part)
    for what, count in (("count as one person", len(name_of)), ("count as different people", doubtful)):
        if count:
            warn(f"{counted(count, 'patient number')} in more than one of these sets {what}")
    return groups.map(lambda group: "+".join(dict.fromkeys(name_of.get(part, part) for part in group.split("+"))))
