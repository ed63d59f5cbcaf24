"""Operating points: what a threshold finds and what it costs, with both curves that it stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.evaluate.operating import BY_GRADE
from foveal.page.charts import MARKS, Line, Mark, Panel
from foveal.page.parts import Cell, Table, cells, percent_cell
from foveal.page.words import capital, number, percent, percent_with_interval
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding

TARGETS = {"referable": "Referable disease", "sight_threatening": "Sight-threatening disease"}
SETTINGS = {
    BY_GRADE: "by the grade that it gives",
    "90 % specificity": "with the threshold set so that 90 % of the validation images without it pass",
    "90 % sensitivity": "with the threshold set so that 90 % of the validation images with it are found",
    "Youden": "with the threshold set so that sensitivity and specificity add up to most on the validation images",
}
SPECIFICITIES = (0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5)
SCREENED = 1000  # images of the table that says what a result means elsewhere
PREVALENCES = (0.05, 0.1, 0.2, 0.4)
YARDSTICK = (
    "A yardstick: the trial that led to the first autonomous device in primary care had to exceed 85 % sensitivity and "
    "82.5 % specificity for more than mild disease, patient by patient, against a reading centre (Abràmoff et al. "
    "2018: 87.2 and 90.7 %). Figures per image against the labels of a data set are not the same measurement."
)


def target_parts(finding: Finding) -> list[dict[str, Any]]:
    """A part for each target that has curves or operating points; empty for results that were made without them."""
    parts = []
    for target, title in TARGETS.items():
        curves = finding.result.get("curves", {}).get(target) or {}
        points = points_of(finding.result, target)
        if curves or points:
            parts.append({
                "title": title,
                "meaning": meaning(finding.evidence, finding.result, target),
                "points": _points_table(points) if points else None,
                "charts": _panels(curves, points),
                "trade": _trade_table(curves) if curves.get("roc") else None,
                "elsewhere": elsewhere(points[0]) if points else None,
            })  # fmt: skip
    return parts


def points_of(result: Mapping[str, Any], target: str) -> list[dict[str, Any]]:
    """The operating points of one target, those without a sensitivity left out."""
    points = [dict(point) for point in result.get("operating_points", []) if point.get("target") == target]
    return [point for point in points if part(point, "sensitivity")["value"] is not None]


def by_grade(result: Mapping[str, Any], target: str) -> dict[str, Any] | None:
    """The point of the rule that decides who is referred; None for results that were made without it."""
    return next((point for point in points_of(result, target) if point.get("name") == BY_GRADE), None)


def part(point: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One figure of an operating point as {value, low, high, n}, whatever of them is missing set to None."""
    entry = point.get(name)
    found = entry if isinstance(entry, Mapping) else {"value": entry}
    return {"value": None, "low": None, "high": None, "n": None, **found}


def lowest_class(result: Mapping[str, Any], target: str) -> int | None:
    """The lowest class that counts as the target; None where the evaluation did not say."""
    about = result["about"]
    lowest = about.get("referable_from" if target == "referable" else "sight_threatening_from")
    return None if lowest is None else int(lowest)


def meaning(run: Evidence, result: Mapping[str, Any], target: str) -> str:
    """Which classes count as the target."""
    lowest = lowest_class(result, target)
    if lowest is None or not 0 < lowest < len(run.classes):
        return ""
    return f"{run.classes[lowest]} and above" if lowest < len(run.classes) - 1 else run.classes[lowest]


def setting(point: Mapping[str, Any]) -> str:
    """How the threshold was chosen, in words that need no statistics."""
    name = str(point.get("name", "unnamed"))
    text = SETTINGS.get(name, f"with the threshold of “{name}”")
    return (
        text.replace("validation images", "images of the other folds")
        if point.get("chosen_on") == "other folds"
        else text
    )


def sentence(point: Mapping[str, Any], target: str) -> str:
    """What the operating point does to a hundred images, in words."""
    found, spared = part(point, "sensitivity"), part(point, "specificity")
    disease, how = TARGETS[target].lower(), setting(point)
    text = f"{capital(how)}, it finds {percent_with_interval(found)} of {_count(found['n'])} images with {disease}"
    if spared["value"] is not None:
        text += f" and rightly passes {percent_with_interval(spared)} of {_count(spared['n'])} without"
    return f"{text}."


def _count(value: Any) -> str:
    return "?" if value is None else f"{int(value):,}"


def _points_table(points: Sequence[Mapping[str, Any]]) -> Table:
    names = {"sensitivity": "sensitivity", "specificity": "specificity", "positive_predictive_value": "PPV",
             "negative_predictive_value": "NPV", "referred": "referred"}  # fmt: skip
    rows = []
    for point in points:
        chosen = Cell(text=_chosen_on(point), tone="muted", small=_images(point))
        row = [Cell(text=str(point.get("name", "unnamed"))), Cell(text=threshold(point)), chosen]
        rows.append(row + [share_cell(part(point, name)) for name in names])
    prevalence = part(points[0], "positive_predictive_value").get("prevalence")
    notes = ["Who is referred follows from the grade given. The other rows tell what thresholds would do in its place: "
             "the score is the probability of the lowest class that counts, or of any above, and from the threshold on "
             "an image is referred. The small figures are 95 % intervals."]  # fmt: skip
    if prevalence is not None:
        own = own_share(points[0])
        told = own is not None and abs(own - prevalence) > 1e-9
        whose = "the share of disease that the evaluation was told," if told else "that among these images,"
        notes.append(f"PPV and NPV, what a positive and a negative answer are worth, change with the share of disease: "
                     f"here {whose} {percent(prevalence)}.")  # fmt: skip
    return Table(columns=["operating point", "threshold", "chosen on", *names.values()], rows=rows, notes=notes)


def threshold(point: Mapping[str, Any]) -> str:
    """The threshold, or what it does where no score can lie on its other side."""
    value = point.get("threshold")
    if point.get("name") == BY_GRADE:
        return "the grade"
    if value is not None and float(value) > 1:
        return "refers none"
    return "refers all" if value is not None and float(value) <= 0 else number(value, 3)


def own_share(point: Mapping[str, Any]) -> float | None:
    """The share of the judged images that have the disease; None where the counts are not known."""
    ill, well = part(point, "sensitivity")["n"], part(point, "specificity")["n"]
    return ill / (ill + well) if ill is not None and well else None


def precision_here(point: Mapping[str, Any]) -> float | None:
    """The positive predictive value among the judged images themselves, whatever share the evaluation was told."""
    found, passed, share = part(point, "sensitivity")["value"], part(point, "specificity")["value"], own_share(point)
    if found is None or passed is None or share is None:
        return None
    hits, alarms = found * share, (1 - passed) * (1 - share)
    return hits / (hits + alarms) if hits + alarms else None


def _chosen_on(point: Mapping[str, Any]) -> str:
    parts = {"val": "validation", "train": "training", "test": "these images"}
    return parts.get(str(point.get("chosen_on")), str(point.get("chosen_on") or "–"))


def _images(point: Mapping[str, Any]) -> str:
    """How many images the threshold was chosen on, and how many of them have the disease."""
    if not point.get("chosen_n"):
        return ""
    ill = point.get("chosen_positive")
    return f"n = {int(point['chosen_n']):,}" + (f", {int(ill):,} ill" if ill is not None else "")


def share_cell(entry: Mapping[str, Any]) -> Cell:
    """A share in percent with its interval below it."""
    return percent_cell(entry)


def _panels(curves: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[Panel]:
    found = [part(point, "sensitivity")["value"] for point in points]
    passed = [part(point, "specificity")["value"] for point in points]
    right = [precision_here(point) for point in points]
    places = {"roc": [(1 - b if b is not None else None, a) for a, b in zip(found, passed, strict=True)],
              "precision_recall": list(zip(found, right, strict=True))}  # fmt: skip
    titles = {"roc": ("ROC curve", "1 − specificity", "sensitivity"),
              "precision_recall": ("Precision and recall", "recall (sensitivity)", "precision (PPV)")}  # fmt: skip
    return [
        Panel(title=title, x_label=x_label, y_label=y_label, square=True,
              lines=_lines(curves[key], key), marks=_marks(points, places[key]))
        for key, (title, x_label, y_label) in titles.items() if curves.get(key)
    ]  # fmt: skip


def _lines(curve: Sequence[Sequence[float]], key: str) -> list[Line]:
    lines = [Line(label="grader", x=[row[0] for row in curve], y=[row[1] for row in curve])]
    if key == "roc":
        lines.append(Line(label="chance", x=[0, 1], y=[0, 1], colour="muted", dashed=True))
    return lines


def _marks(points: Sequence[Mapping[str, Any]], places: Sequence[tuple[Any, Any]]) -> list[Mark]:
    return [Mark(label=str(point.get("name", "unnamed")), x=x, y=y, shape=MARKS[k % 4], colour=f"series-{k % 4 + 2}")
            for k, (point, (x, y)) in enumerate(zip(points, places, strict=True))
            if x is not None and y is not None]  # fmt: skip


def _trade_table(curves: Mapping[str, Any]) -> Table:
    """The ROC curve in numbers."""
    rows = []
    for wanted in SPECIFICITIES:
        best = max((row[1] for row in curves["roc"] if row[0] <= 1 - wanted + 1e-9), default=None)
        rows.append(cells(percent(wanted), percent(best)))
    return Table(columns=["specificity of at least", "sensitivity reached"], rows=rows)


def elsewhere(point: Mapping[str, Any]) -> Table | None:
    """What the operating point would do to a thousand images where the disease is more or less common."""
    found, passed = part(point, "sensitivity")["value"], part(point, "specificity")["value"]
    if found is None or passed is None:
        return None
    rows = []
    for prevalence in PREVALENCES:
        ill = prevalence * SCREENED
        hits, alarms = found * ill, (1 - passed) * (SCREENED - ill)
        share = hits / (hits + alarms) if hits + alarms else None
        counts = (hits + alarms, hits, ill - hits, alarms)
        rows.append(cells(percent(prevalence), *(f"{count:.0f}" for count in counts), percent(share)))
    return Table(
        columns=["share with disease", "referred", "rightly", "missed", "referred in vain", "PPV"], rows=rows,
        notes=[f"Of {SCREENED:,} images at “{point.get('name', 'unnamed')}”, worked out from the sensitivity and "
               "specificity above as if both stayed the same elsewhere, which they seldom do."],
    )  # fmt: skip
