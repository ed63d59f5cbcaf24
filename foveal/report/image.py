"""One sheet per image: the grade, its probability, similar images, and how good the grader is.

    foveal report RUN --image ID
    foveal report RUN --predictions predictions.csv

Made from the run folder alone, for images in its predictions.csv or for new photographs graded by `foveal predict`. The
ids of new photographs are their paths; a sheet shows the photograph if the file still exists. A sheet is one A4 page.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.fundus.quality import FLAGS
from foveal.page.pictures import embedded_file
from foveal.page.render import render
from foveal.page.words import counted, listed, percent_with_interval, value_with_interval
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.report import words
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding, find
from foveal.report.operating import by_grade, meaning
from foveal.report.pictures import MOST_NEIGHBOURS, neighbour_labels, picture_of

SIDE = 480  # pixels of the photograph
UNSURE = 0.5  # below this probability of the grade given, the sheet warns
PLAIN = {
    "sensitivity": "Images with referable disease: referred",
    "specificity": "Images without: correctly not referred",
}


def render_images(run: Evidence, names: Sequence[str], other: Path | None = None) -> str:
    """The sheets of some images as one page, or of all if `names` is empty; FovealError if one has no grade.

    other: a table of `foveal predict` to use instead of predictions.csv of the run.
    """
    graded = run.predictions if other is None else read_predictions(other)
    if graded is None:
        raise FovealError("predictions.missing", f"{run.path} has no predictions.csv", fix="give a run of train")
    source = other or run.path / "predictions.csv"
    if (count := len(probability_columns(graded))) != len(run.classes):
        what = f"{source} was not made by {run.path}: it has {count} classes, the run has {len(run.classes)}"
        raise FovealError("predictions.classes", what, fix="give a table made by this run")
    rows = {str(row["id"]): {str(key): value for key, value in row.items()} for row in graded.to_dict("records")}
    names = names or list(rows)
    if missing := [name for name in names if name not in rows]:
        what = f"{source} has no image {', '.join(missing)}"
        raise FovealError("predictions.no_image", what, fix="copy the ids from that table")
    finding = next(iter(find([run])), None)
    return str(render(
        "image.html", title=listed(list(names)), run=run.name, record=[] if finding is None else _record(finding),
        sheets=[_sheet(run, finding, rows[name]) for name in names], kind=words.kind_of(run), day=words.day_of(run),
        most_neighbours=MOST_NEIGHBOURS, classes=run.classes,
    ))  # fmt: skip


def _sheet(run: Evidence, finding: Finding | None, row: Mapping[str, Any]) -> dict[str, Any]:
    name, label, shares = str(row["id"]), row.get("label"), [float(row[f"p{k}"]) for k in range(len(run.classes))]
    grade = int(row["grade"])
    return {
        "id": name, "grade": grade, "shares": shares, "likeliest": shares.index(max(shares)),
        "unsure": shares[grade] < UNSURE, "label": run.class_name(label) if _is_known(label) else "",
        "referral": referral(run, finding, row) if _is_known(row.get("referable")) else None,
        "pictures": _pictures(run, name), "near": neighbour_labels(run, name),
        "flags": [f"{word}: {FLAGS[word]}" if word in FLAGS else word for word in str(row.get("flags") or "").split()],
        "learned": str(row.get("split")) == "train",
    }  # fmt: skip


def _is_known(value: Any) -> bool:
    """Whether the table has a value here; pandas marks missing values in several ways."""
    return value is not None and str(value) not in ("", "<NA>", "nan")


def referral(run: Evidence, finding: Finding | None, row: Mapping[str, Any]) -> dict[str, Any]:
    """Referable or not, as in the table of predictions, and how reliable that is.

    level, share: the classes that are referred and their probability; level is "" if reliability was not measured.
    right: the share of referrals that are right; missed: of 100 diseased images. Both may have no value.
    """
    refers, result = int(row["referable"]) == 1, {} if finding is None else finding.result
    point = by_grade(result, "referable")
    if point is None or (lowest := result["about"].get("referable_from")) is None:
        return {"refers": refers, "level": ""}
    found = point["sensitivity"]
    ends = {"value": found["value"], "low": found["high"], "high": found["low"]}
    return {
        "refers": refers, "level": meaning(run, result, "referable").replace(" and above", " or above"),
        "share": max(sum(float(row[f"p{k}"]) for k in range(lowest, len(run.classes))), float(row.get("oedema=1", 0))),
        "right": point["positive_predictive_value"],
        "missed": {name: None if end is None else 100 * (1 - end) for name, end in ends.items()},
    }  # fmt: skip


def _pictures(run: Evidence, name: str) -> list[dict[str, str]]:
    """The pictures of an image that exist and that Pillow can read: not DICOM and some other formats."""
    explained, found = run.explanation(name), []
    files = {
        "Prepared photograph": picture_of(run, name), "Photograph": Path(name),
        "Where the grader looked": run.heat_map(explained) if explained else None,
    }  # fmt: skip
    for title, file in files.items():
        if file is not None and file.is_file():
            with suppress(OSError, ValueError):
                found.append({"title": title, "source": embedded_file(file, SIDE)})
    return found


def _record(finding: Finding) -> list[tuple[str, str]]:
    """How good this grader was on images with a known grade."""
    about, names = finding.result["about"], words.headline_names(finding.evidence)
    images = counted(about["images"], f"{finding.part} image")
    found = [("Judged on", f"{images} in {counted(about['groups'], 'group')}")]
    found += [(words.METRIC_NAMES[name], value_with_interval(finding.metrics[name]))
              for name in names if name in finding.metrics]  # fmt: skip
    point = by_grade(finding.result, "referable")
    shares = [(text, point[name]) for name, text in PLAIN.items()] if point else []
    return found + [(text, percent_with_interval(entry)) for text, entry in shares if entry["value"] is not None]
