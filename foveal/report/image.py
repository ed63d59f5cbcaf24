"""One image on one sheet of paper: the grade, how sure, what similar images are, and the grader's own record.

    foveal report RUN --image ID
    foveal report RUN --predictions predictions.csv

Made from the run folder alone, for an image of its predictions.csv, or for new photographs that `foveal predict` has
graded: their ids are their paths, and they are shown where they still lie there. It prints to one A4 page an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.fundus.quality import FLAGS
from foveal.page.pictures import embedded_file
from foveal.page.render import render as render_page
from foveal.page.words import counted, listed, percent, percent_with_interval, value_with_interval
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.report import words
from foveal.report.doubts import MOST_NEIGHBOURS, class_name, neighbour_labels
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding, find
from foveal.report.intended import NOT_A_DEVICE
from foveal.report.operating import by_grade, lowest_class, meaning, part
from foveal.report.pictures import picture_of

SIDE = 480  # pixels of the photograph
UNSURE = 0.5  # probability of the grade given, below which the page says so


def render_images(run: Evidence, names: Sequence[str], other: Path | None = None) -> str:
    """The sheets of some images as one page, of all where none is named; ValueError for one that is not graded.

    other: a table of `foveal predict`, to take in place of the run's own.
    """
    if run.predictions is None and other is None:
        raise ValueError(f"{run.path} has graded no image (it has no predictions.csv)")
    own = run.predictions if other is None else _graded_by(run, other)
    assert own is not None
    table = own.set_index("id", drop=False)
    names = names or list(table.index)
    missing = [name for name in names if name not in table.index]
    if missing:
        file = other or run.path / "predictions.csv"
        raise ValueError(f"{file} has no image {', '.join(missing)}; ids are as written there")
    findings = find([run])
    finding = findings[0] if findings else None
    rows = [table.loc[name].to_dict() for name in names]
    sheets = [_sheet(run, finding, {str(key): value for key, value in row.items()}) for row in rows]
    return render_page("image.html", **{
        "title": listed(list(names)), "run": run.name, "sheets": sheets, "record": _record(finding),
        "kind": words.kind_of(run), "day": words.day_of(run), "limits": LIMITS,
    })  # fmt: skip


PLAIN = {
    "sensitivity": "Of images with referable disease, it refers",
    "specificity": "Of images without, it rightly passes",
}
LIMITS = (
    NOT_A_DEVICE,
    "It knows one photograph: not the patient, not the other eye, not the history. It looks for nothing but the grades "
    "listed here.",
    "A photograph unlike those that it has learned from can get any answer, and a high probability with it.",
)


def _sheet(run: Evidence, finding: Finding | None, row: Mapping[str, Any]) -> dict[str, Any]:
    name, grade = str(row["id"]), int(row["grade"])
    near = neighbour_labels(run, name)
    learned = str(row.get("split")) == "train"
    return {
        "id": name,
        "grade": run.classes[grade],
        "sentence": _sentence(run, row),
        "label": class_name(run, row.get("label")) if words_known(row.get("label")) else "",
        "bars": _bars(run, row),
        "referral": _referral(run, finding, row),
        "pictures": _pictures(run, name),
        "near": f"Of the {MOST_NEIGHBOURS} images most like it, {near}." if near else "",
        "flags": [f"{word}: {FLAGS[word]}" if word in FLAGS else word for word in str(row.get("flags") or "").split()],
        "learned": learned,
    }


def _graded_by(run: Evidence, file: Path) -> pd.DataFrame:
    """A table of predictions with the classes of the run; ValueError for another's."""
    table = read_predictions(file)
    if len(probability_columns(table)) != len(run.classes):
        count = len(probability_columns(table))
        raise ValueError(f"{file} was not made by {run.path}: it has {count} classes, the run has {len(run.classes)}")
    return table


def words_known(value: Any) -> bool:
    """Whether a label of the table is there; pandas marks a missing one in its own way."""
    return value is not None and str(value) not in ("", "<NA>", "nan")


def _sentence(run: Evidence, row: Mapping[str, Any]) -> str:
    shares = _shares(row)
    grade = int(row["grade"])
    likeliest = max(range(len(shares)), key=shares.__getitem__)
    text = f"The grader gives {run.classes[grade]}, with a probability of {percent(shares[grade])}."
    if likeliest != grade:
        name = run.classes[likeliest]
        alone = f"{name[0].upper()}{name[1:]} alone is likelier ({percent(shares[likeliest])})"
        text += f" {alone}; the grade given is the expected one, between the possible ones."
    if shares[grade] < UNSURE:
        text += " It is unsure: a person should look."
    return text


def _shares(row: Mapping[str, Any]) -> list[float]:
    columns = [key for key in row if key[:1] == "p" and key[1:].isdigit()]
    return [float(row[f"p{k}"]) for k in range(len(columns))]


def _bars(run: Evidence, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "share": share, "text": percent(share), "given": k == int(row["grade"])}
            for k, (name, share) in enumerate(zip(run.classes, _shares(row), strict=True))]  # fmt: skip


def _referral(run: Evidence, finding: Finding | None, row: Mapping[str, Any]) -> dict[str, str] | None:
    """Referable or not, as the table of predictions says it, and what that is worth; None without a severity scale."""
    if not words_known(row.get("referable")):
        return None
    referable = int(row["referable"]) == 1
    said = {"text": f"The grader would {'' if referable else 'not '}refer this eye.",
            "tone": "bad" if referable else "unsure"}  # fmt: skip
    point = None if finding is None else by_grade(finding.result, "referable")
    lowest = None if finding is None else lowest_class(finding.result, "referable")
    if finding is None or point is None or lowest is None:
        return said | {"grounds": "By the grade given; how often that is right has not been measured."}
    level = _or_above(run, finding)
    grounds = (
        f"{_worth(point, level, referable=referable)} It refers what it grades {level}; the probability of that is "
        f"{percent(sum(_shares(row)[lowest:]), 1)} here."
    )
    return said | {"grounds": grounds.strip()}


def _or_above(run: Evidence, finding: Finding) -> str:
    """`moderate NPDR or above`."""
    return meaning(run, finding.result, "referable").replace(" and above", " or above")


def _worth(point: Mapping[str, Any], level: str, *, referable: bool) -> str:
    """What such an answer is worth: how often a referral is right, or how much disease is passed."""
    found, right = part(point, "sensitivity"), part(point, "positive_predictive_value")
    if referable and right["value"] is not None:
        share = f", if {percent(right['prevalence'])} of all have it" if right.get("prevalence") else ""
        return f"Of 100 images that it refers, about {100 * right['value']:.0f} have {level}{share}."
    if not referable and found["value"] is not None:
        passed, ends = 100 * (1 - found["value"]), [found["high"], found["low"]]
        between = "" if None in ends else f" ({' to '.join(f'{100 * (1 - end):.0f}' for end in ends)})"
        return f"Of 100 images with {level}, it passes about {passed:.0f}{between}, as it passes this one."
    return ""


def _pictures(run: Evidence, name: str) -> list[dict[str, str]]:
    files = (
        ("Photograph, as it was prepared", picture_of(run, name)),
        ("Photograph", Path(name)),
        ("Where the grader looked", run.companions.overlay(name)),
    )
    shown = {title: source for title, file in files if file is not None and (source := _source(file))}
    return [{"title": title, "source": source} for title, source in shown.items()]


def _source(file: Path) -> str:
    """The data: address of a picture file; empty where there is none, or none that a browser could show."""
    try:
        return embedded_file(file, SIDE) if file.is_file() else ""
    except (OSError, ValueError):  # DICOM, and whatever else Pillow does not read
        return ""


def _record(finding: Finding | None) -> list[tuple[str, str]]:
    """How good this grader has been on images with a known grade."""
    if finding is None:
        return []
    about = finding.result["about"]
    found = [("Judged on", f"{counted(about['images'], words.PARTS[about['split']] + ' image')} in "
                           f"{counted(about['groups'], 'group')}")]  # fmt: skip
    for name in words.headline_names(finding.evidence):
        if name in finding.metrics:
            entry = finding.metrics[name]
            found.append((words.METRIC_NAMES[name], value_with_interval(entry)))
    point = by_grade(finding.result, "referable")
    for name in ("sensitivity", "specificity"):
        entry = part(point or {}, name)
        if entry["value"] is not None:
            found.append((PLAIN[name], percent_with_interval(entry)))
    return found
