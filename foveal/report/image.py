"""One image on one sheet of paper: the grade, how sure, what similar images are, and the grader's own record.

    foveal report RUN --image ID
    foveal report RUN --predictions predictions.csv

Made from the run folder alone, for an image of its predictions.csv, or for new photographs that `foveal predict` has
graded: their ids are their paths, and a sheet shows them if they are still there. Each image takes one A4 page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.fundus.quality import FLAGS
from foveal.page.parts import Facts, Verdict
from foveal.page.pictures import embedded_file
from foveal.page.render import render
from foveal.page.words import capital, counted, listed, percent, percent_with_interval, value_with_interval
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.report import words
from foveal.report.doubts import MOST_NEIGHBOURS, neighbour_labels
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding, find
from foveal.report.gallery import picture_of
from foveal.report.limits import NOT_A_DEVICE
from foveal.report.operating import by_grade, lowest_class, meaning, part

SIDE = 480  # pixels of the photograph
UNSURE = 0.5  # probability of the grade given, below which the page says so
PLAIN = {
    "sensitivity": "Of images with referable disease, it refers",
    "specificity": "Of images without, it correctly passes",
}
LIMITS = (
    NOT_A_DEVICE,
    "It knows one photograph: not the patient, not the other eye, not the history. It looks for nothing but the grades "
    "listed here.",
    "A photograph unlike those that it has learned from can get any answer, even with a high probability.",
)


def render_images(run: Evidence, names: Sequence[str], other: Path | None = None) -> str:
    """The sheets of some images as one page, or of all where `names` is empty; FovealError for one without a grade.

    other: a table of `foveal predict`, used in place of the run's own.
    """
    graded = run.predictions if other is None else _graded_by(run, other)
    if graded is None:
        raise FovealError("predictions.missing", f"{run.path} has no predictions.csv", fix="give a run of train")
    table = graded.set_index("id", drop=False)
    names = names or list(table.index)
    missing = [name for name in names if name not in table.index]
    if missing:
        what = f"{other or run.path / 'predictions.csv'} has no image {', '.join(missing)}"
        raise FovealError("predictions.no_image", what, fix="write ids as in that table")
    findings = find([run])
    finding = findings[0] if findings else None
    rows = [{str(key): value for key, value in table.loc[name].items()} for name in names]
    return str(render(
        "image.html", title=listed(list(names)), run=run.name, sheets=[_sheet(run, finding, row) for row in rows],
        record=Facts(_record(finding), "wide"), kind=words.kind_of(run), day=words.day_of(run), limits=LIMITS,
    ))  # fmt: skip


def _graded_by(run: Evidence, file: Path) -> pd.DataFrame:
    """A table of predictions with the classes of the run; FovealError for another's."""
    table = read_predictions(file)
    count = len(probability_columns(table))
    if count != len(run.classes):
        what = f"{file} was not made by {run.path}: it has {count} classes, the run has {len(run.classes)}"
        raise FovealError("predictions.classes", what, fix="give the table that this run has made")
    return table


def _sheet(run: Evidence, finding: Finding | None, row: Mapping[str, Any]) -> dict[str, Any]:
    name, grade, label = str(row["id"]), int(row["grade"]), row.get("label")
    near, shares = neighbour_labels(run, name), _shares(row)
    return {
        "id": name,
        "grade": run.classes[grade],
        "sentence": _sentence(run, grade, shares),
        "label": run.class_name(label) if _is_known(label) else "",
        "bars": [{"name": one, "share": share, "text": percent(share), "given": k == grade}
                 for k, (one, share) in enumerate(zip(run.classes, shares, strict=True))],
        "referral": _referral(run, finding, row),
        "pictures": _pictures(run, name),
        "near": f"Of the {MOST_NEIGHBOURS} images most like it, {near}." if near else "",
        "flags": [f"{word}: {FLAGS[word]}" if word in FLAGS else word for word in str(row.get("flags") or "").split()],
        "learned": str(row.get("split")) == "train",
    }  # fmt: skip


def _is_known(value: Any) -> bool:
    """Whether the table has a value: pandas marks a missing one in several ways."""
    return value is not None and str(value) not in ("", "<NA>", "nan")


def _shares(row: Mapping[str, Any]) -> list[float]:
    columns = [key for key in row if key[:1] == "p" and key[1:].isdigit()]
    return [float(row[f"p{k}"]) for k in range(len(columns))]


def _sentence(run: Evidence, grade: int, shares: Sequence[float]) -> str:
    likeliest = max(range(len(shares)), key=shares.__getitem__)
    text = f"The grader gives {run.classes[grade]}, with a probability of {percent(shares[grade])}."
    if likeliest != grade:
        text += f" {capital(run.classes[likeliest])} alone is likelier ({percent(shares[likeliest])}); the grade given "
        text += "lies between the possible ones."
    return f"{text} It is unsure: a person should look." if shares[grade] < UNSURE else text


def _referral(run: Evidence, finding: Finding | None, row: Mapping[str, Any]) -> Verdict | None:
    """Referable or not, as in the table of predictions, and what that is worth; None without a severity scale."""
    if not _is_known(row.get("referable")):
        return None
    referable = int(row["referable"]) == 1
    text, tone = f"The grader would {'' if referable else 'not '}refer this eye.", "bad" if referable else "unsure"
    point = None if finding is None else by_grade(finding.result, "referable")
    lowest = None if finding is None else lowest_class(finding.result, "referable")
    if finding is None or point is None or lowest is None:
        return Verdict(
            tone=tone, text=text, grounds="The grade given decides; how often that is right was not measured."
        )
    level = meaning(run, finding.result, "referable").replace(" and above", " or above")
    grounds = (
        f"{_worth(point, level, referable=referable)} It refers what it grades {level}; the probability of that is "
        f"{percent(sum(_shares(row)[lowest:]), 1)} here."
    )
    return Verdict(tone=tone, text=text, grounds=grounds.strip())


def _worth(point: Mapping[str, Any], level: str, *, referable: bool) -> str:
    """What such an answer is worth: how often a referral is right, or how much disease is passed."""
    found, right = part(point, "sensitivity"), part(point, "positive_predictive_value")
    if referable and right["value"] is not None:
        share = f", if {percent(right['prevalence'])} of all have it" if right.get("prevalence") else ""
        return f"Of 100 images that it refers, about {100 * right['value']:.0f} have {level}{share}."
    if not referable and found["value"] is not None:
        passed, ends = 100 * (1 - found["value"]), [found["high"], found["low"]]
        between = "" if None in ends else f" ({'–'.join(f'{100 * (1 - end):.0f}' for end in ends)})"
        return f"Of 100 images with {level}, it passes about {passed:.0f}{between}, as it passes this one."
    return ""


def _pictures(run: Evidence, name: str) -> list[dict[str, str]]:
    explained = run.companions.explanation(name)
    files = (
        ("Photograph, as it was prepared", picture_of(run, name)),
        ("Photograph", Path(name)),
        ("Where the grader looked", None if explained is None else run.companions.picture(explained)),
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
    images = counted(about["images"], f"{words.PARTS[about['split']]} image")
    found = [("Judged on", f"{images} in {counted(about['groups'], 'group')}")]
    for name in words.headline_names(finding.evidence):
        if name in finding.metrics:
            found.append((words.METRIC_NAMES[name], value_with_interval(finding.metrics[name])))
    point = by_grade(finding.result, "referable") or {}
    shares = ((text, part(point, name)) for name, text in PLAIN.items())
    return found + [(text, percent_with_interval(entry)) for text, entry in shares if entry["value"] is not None]
