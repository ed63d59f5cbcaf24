"""One sheet per image: the grade, its probability, similar images, and how good the grader is.

    foveal report RUN --image ID
    foveal report RUN --predictions predictions.csv

Made from the run folder alone, for images in its predictions.csv or for new photographs graded by `foveal predict`. The
ids of new photographs are their paths; a sheet shows the photograph if the file still exists. A sheet is one A4 page.
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
UNSURE = 0.5  # below this probability of the grade given, the sheet warns
PLAIN = {
    "sensitivity": "Images with referable disease: referred",
    "specificity": "Images without: correctly not referred",
}
LIMITS = (
    NOT_A_DEVICE,
    "It sees this one photograph only: not the patient, the other eye or the history. It looks only for the grades "
    "listed here.",
    "If a photograph is unlike those in training, the grade can be wrong even with a high probability.",
)


def render_images(run: Evidence, names: Sequence[str], other: Path | None = None) -> str:
    """The sheets of some images as one page, or of all if `names` is empty; FovealError if one has no grade.

    other: a table of `foveal predict` to use instead of predictions.csv of the run.
    """
    graded = run.predictions if other is None else _graded_by(run, other)
    if graded is None:
        raise FovealError("predictions.missing", f"{run.path} has no predictions.csv", fix="give a run of train")
    table = graded.set_index("id", drop=False)
    names = names or list(table.index)
    missing = [name for name in names if name not in table.index]
    if missing:
        what = f"{other or run.path / 'predictions.csv'} has no image {', '.join(missing)}"
        raise FovealError("predictions.no_image", what, fix="copy the ids from that table")
    findings = find([run])
    finding = findings[0] if findings else None
    rows = [{str(key): value for key, value in table.loc[name].items()} for name in names]
    return str(render(
        "image.html", title=listed(list(names)), run=run.name, sheets=[_sheet(run, finding, row) for row in rows],
        record=Facts(_record(finding), "wide"), kind=words.kind_of(run), day=words.day_of(run), limits=LIMITS,
    ))  # fmt: skip


def _graded_by(run: Evidence, file: Path) -> pd.DataFrame:
    """A table of predictions; FovealError if it has a different number of classes than the run."""
    table = read_predictions(file)
    count = len(probability_columns(table))
    if count != len(run.classes):
        what = f"{file} was not made by {run.path}: it has {count} classes, the run has {len(run.classes)}"
        raise FovealError("predictions.classes", what, fix="give a table made by this run")
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
        "near": f"Among the {MOST_NEIGHBOURS} most similar images: {near}." if near else "",
        "flags": [f"{word}: {FLAGS[word]}" if word in FLAGS else word for word in str(row.get("flags") or "").split()],
        "learned": str(row.get("split")) == "train",
    }  # fmt: skip


def _is_known(value: Any) -> bool:
    """Whether the table has a value here; pandas marks missing values in several ways."""
    return value is not None and str(value) not in ("", "<NA>", "nan")


def _shares(row: Mapping[str, Any]) -> list[float]:
    columns = [key for key in row if key[:1] == "p" and key[1:].isdigit()]
    return [float(row[f"p{k}"]) for k in range(len(columns))]


def _sentence(run: Evidence, grade: int, shares: Sequence[float]) -> str:
    likeliest = max(range(len(shares)), key=shares.__getitem__)
    text = f"Grade: {run.classes[grade]}, with a probability of {percent(shares[grade])}."
    if likeliest != grade:
        text += (
            f" {capital(run.classes[likeliest])} is more likely ({percent(shares[likeliest])}), but the grade given "
        )
        text += "follows from the average over all grades."
    return f"{text} The grader is unsure: a person should look at this image." if shares[grade] < UNSURE else text


def _referral(run: Evidence, finding: Finding | None, row: Mapping[str, Any]) -> Verdict | None:
    """Referable or not, as in the table of predictions, and how reliable that is; None without a severity scale."""
    if not _is_known(row.get("referable")):
        return None
    referable = int(row["referable"]) == 1
    text, tone = f"The grader would {'' if referable else 'not '}refer this eye.", "bad" if referable else "unsure"
    point = None if finding is None else by_grade(finding.result, "referable")
    lowest = None if finding is None else lowest_class(finding.result, "referable")
    if finding is None or point is None or lowest is None:
        return Verdict(
            tone=tone, text=text, grounds="The decision follows from the grade. How often it is right was not measured."
        )
    level = meaning(run, finding.result, "referable").replace(" and above", " or above")
    grounds = (
        f"{_worth(point, level, referable=referable)} It refers every image that it grades {level}. For this image, "
        "the "
        f"probability of {level} is {percent(sum(_shares(row)[lowest:]), 1)}."
    )
    return Verdict(tone=tone, text=text, grounds=grounds.strip())


def _worth(point: Mapping[str, Any], level: str, *, referable: bool) -> str:
    """How reliable the answer is: the share of referrals that are right, or of disease that is missed."""
    found, right = part(point, "sensitivity"), part(point, "positive_predictive_value")
    if referable and right["value"] is not None:
        share = f" (if {percent(right['prevalence'])} of all images have it)" if right.get("prevalence") else ""
        return f"Of 100 images that it refers, about {100 * right['value']:.0f} have {level}{share}."
    if not referable and found["value"] is not None:
        passed, ends = 100 * (1 - found["value"]), [found["high"], found["low"]]
        between = "" if None in ends else f" ({'–'.join(f'{100 * (1 - end):.0f}' for end in ends)})"
        return f"Of 100 images with {level}, it misses about {passed:.0f}{between}."
    return ""


def _pictures(run: Evidence, name: str) -> list[dict[str, str]]:
    explained = run.companions.explanation(name)
    files = (
        ("Prepared photograph", picture_of(run, name)),
        ("Photograph", Path(name)),
        ("Where the grader looked", None if explained is None else run.companions.picture(explained)),
    )
    shown = {title: source for title, file in files if file is not None and (source := _source(file))}
    return [{"title": title, "source": source} for title, source in shown.items()]


def _source(file: Path) -> str:
    """The data: URL of a picture file; empty if it is missing or Pillow cannot read it."""
    try:
        return embedded_file(file, SIDE) if file.is_file() else ""
    except (OSError, ValueError):  # DICOM and other formats that Pillow does not read
        return ""


def _record(finding: Finding | None) -> list[tuple[str, str]]:
    """How good this grader was on images with a known grade."""
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
