"""The meaning of the columns of a table; rows of patients and columns of classes become a row per picture."""

import re
from collections.abc import Sequence

import pandas as pd

from foveal.sources.names import WORDS, eye_of, flat, grade_of, plain_number

USUAL = {what: [set(names.split()) for names in lines] for what, lines in WORDS["columns"].items()}  # best names first
# A column of one eye: left_image, grade_od, right_eye_grade.
_OF_EYE = re.compile(r"(?:(?P<before>\w+?)_)?(?P<eye>left|right|l|r|od|os|le|re)(?:_eye)?(?:_(?P<after>\w+))?")
_ONE, _ZERO = {"1", "true", "yes"}, {"0", "false", "no", ""}


def usual_columns(columns: pd.DataFrame | Sequence[str], what: str) -> list[str]:
    """The columns of a table with a usual name for `what`, a key of `USUAL`."""
    found = ([column for column in map(str, columns) if _plain(column) in names] for names in USUAL[what])
    return next(filter(None, found), [])


def _plain(column: str) -> str:
    return re.sub(r"[\s.-]+", "_", flat(column)).strip("_")


def row_per_picture(rows: pd.DataFrame) -> pd.DataFrame:
    """A table with a row per patient (left_image, right_grade) or a column of 0 and 1 per class in the usual shape.

    The rows keep their index: two may have the same. Other tables are returned as they are.
    """
    return _one_label(_one_eye(rows))


def _one_eye(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per eye of a table with the picture and the label of both eyes in each row."""
    columns: dict[str, dict[str, str]] = {"left": {}, "right": {}}
    for column, match in ((column, _OF_EYE.fullmatch(_plain(column))) for column in map(str, rows)):
        if match:
            name = "_".join(filter(None, (match["before"], match["after"])))
            columns[eye_of(match["eye"])]["image" if name in ("", "fundus", "picture") else name] = column
    both = [name for name in columns["left"] if name in columns["right"]]
    image, label = (usual_columns(both, what) for what in ("image", "label"))
    if len(image) != 1 or not label:
        return rows
    shared = rows.drop(columns=[*both, "eye"], errors="ignore")
    if not usual_columns(shared, "group"):  # a row is a patient
        names = usual_columns(shared, "image")
        shared = shared.rename(columns={names[0]: "patient"}) if names else shared.assign(patient=rows.index.map(str))
    shared = shared.drop(columns=[named[name] for named in columns.values() for name in both])
    own = [shared.assign(**{name: rows[named[name]] for name in both}, eye=eye) for eye, named in columns.items()]
    return pd.concat([part[part[image[0]] != ""] for part in own]).sort_index(kind="stable")


def _one_label(rows: pd.DataFrame) -> pd.DataFrame:
    """A column `label` in place of columns of 0 and 1 that name grades, or of at least three of other classes."""
    if usual_columns(rows, "label"):
        return rows
    cells = {name: rows[name].map(plain_number).str.lower() for name in map(str, rows)}
    binary = [name for name, column in cells.items() if set(column) <= _ONE | _ZERO]
    grades = [name for name in binary if grade_of(name) is not None]
    for names in (grades if len(grades) > 1 else [], binary if len(binary) > 2 else []):
        chosen = pd.DataFrame({name: cells[name].isin(_ONE) for name in names})
        if names and (chosen.sum(axis=1) <= 1).all() and chosen.any(axis=1).mean() >= 0.9:
            return rows.drop(columns=names).assign(label=chosen.idxmax(axis=1).where(chosen.any(axis=1), ""))
    return rows
