"""Operating points: sensitivity and cost at each threshold, with the ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foveal.evaluate.operating import BY_GRADE
from foveal.page.charts import MARKS, Line, Mark, Panel, series
from foveal.page.parts import (
    Cell,
    Charts,
    Columns,
    Details,
    Heading,
    Note,
    Part,
    Section,
    Table,
    cells,
    percent_cell,
    section_by_run,
)  # fmt: skip
from foveal.page.words import capital, number, percent, percent_with_interval
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding

TARGETS = {"referable": "Referable disease", "sight_threatening": "Sight-threatening disease"}
SETTINGS = {
    BY_GRADE: "by the grade alone",
    "90 % specificity": "with the threshold that gives 90 % specificity on the validation images",
    "90 % sensitivity": "with the threshold that gives 90 % sensitivity on the validation images",
    "Youden": "with the threshold that gives the highest sensitivity plus specificity on the validation images",
}
FIGURES = {"sensitivity": "sensitivity", "specificity": "specificity", "positive_predictive_value": "PPV",
           "negative_predictive_value": "NPV", "referred": "referred"}  # fmt: skip
SPECIFICITIES = (0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5)
SCREENED = 1000  # images in the table for other prevalences
PREVALENCES = (0.05, 0.1, 0.2, 0.4)
YARDSTICK = (
    "For comparison: the first autonomous device for primary care had to exceed 85 % sensitivity and 82.5 % "
    "specificity for "
    "more than mild disease in its trial, per patient, against a reading centre (Abràmoff et al. 2018: 87.2 and 90.7 "
    "%). "
    "Figures per image against the labels of a data set are not directly comparable."
)


def operating(findings: Sequence[Finding]) -> Section | None:
    """Points and curves of every grader and target; None for results without them."""
    found = section_by_run("operating", "Operating points", [(one.name, _targets(one)) for one in findings])
    if found is None:
        return None
    told = [str(one.result["operating_points_note"]) for one in findings if one.result.get("operating_points_note")]
    return replace(found, parts=[*found.parts, *map(Note, [*told[:1], YARDSTICK])])


def _targets(finding: Finding) -> list[Part]:
    parts: list[Part] = []
    for target, title in TARGETS.items():
        curves = finding.result.get("curves", {}).get(target) or {}
        points = points_of(finding.result, target)
        if curves or points:
            parts.append(Heading(title, meaning(finding.evidence, finding.result, target)))
            parts += [_points_table(points, title)] if points else []
            parts += [Charts(_panels(curves, points)), *_details(curves, points)]
    return parts


def _details(curves: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[Part]:
    tables = [_trade(curves) if curves.get("roc") else None, elsewhere(points[0]) if points else None]
    columns = [[table] for table in tables if table is not None]
    summary = "The curve in numbers, and results at other prevalences"
    return [Details(summary, [Columns(columns)])] if columns else []


def points_of(result: Mapping[str, Any], target: str) -> list[dict[str, Any]]:
    """The operating points of one target that have a sensitivity."""
    points = [dict(point) for point in result.get("operating_points", []) if point.get("target") == target]
    return [point for point in points if part(point, "sensitivity")["value"] is not None]


def by_grade(result: Mapping[str, Any], target: str) -> dict[str, Any] | None:
    """The operating point of referral by grade, the rule in use; None for results without it."""
    return next((point for point in points_of(result, target) if point.get("name") == BY_GRADE), None)


def part(point: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One figure of an operating point as {value, low, high, n}; missing entries are None."""
    entry = point.get(name)
    found = entry if isinstance(entry, Mapping) else {"value": entry}
    return {"value": None, "low": None, "high": None, "n": None, **found}


def lowest_class(result: Mapping[str, Any], target: str) -> int | None:
    """The lowest class that counts as the target; None if the evaluation does not tell."""
    lowest = result["about"].get(f"{target}_from")
    return None if lowest is None else int(lowest)


def meaning(run: Evidence, result: Mapping[str, Any], target: str) -> str:
    """Which classes count as the target."""
    lowest = lowest_class(result, target)
    if lowest is None or not 0 < lowest < len(run.classes):
        return ""
    return f"{run.classes[lowest]} and above" if lowest < len(run.classes) - 1 else run.classes[lowest]


def sentence(point: Mapping[str, Any], target: str) -> str:
    """What the operating point means for the images, in plain words."""
    name = str(point.get("name", "unnamed"))
    how = SETTINGS.get(name, f"with the threshold of “{name}”")
    if point.get("chosen_on") == "other folds":
        how = how.replace("validation images", "images of the other folds")
    found, passed = part(point, "sensitivity"), part(point, "specificity")
    text = f"{capital(how)}, it refers {percent_with_interval(found)} of {_count(found['n'])} images with "
    text += TARGETS[target].lower()
    if passed["value"] is not None:
        text += f" and correctly does not refer {percent_with_interval(passed)} of {_count(passed['n'])} without"
    return f"{text}."


def _count(value: Any) -> str:
    return "?" if value is None else f"{int(value):,}"


def _points_table(points: Sequence[Mapping[str, Any]], title: str) -> Table:
    rows = []
    for point in points:
        chosen = Cell(text=_chosen_on(point), tone="muted", small=_images(point))
        row = [Cell(text=str(point.get("name", "unnamed"))), Cell(text=threshold(point)), chosen]
        rows.append(row + [percent_cell(part(point, name)) for name in FIGURES])
    notes = ["The grader refers by grade (first row). The other rows show what a threshold would do instead: refer an "
             "image if the probability of the target classes is at or above the threshold. The small figures are 95 % "
             "intervals.", *_prevalence(points[0])]  # fmt: skip
    columns = ["operating point", "threshold", "chosen on", *FIGURES.values()]
    return Table(caption=f"Operating points for {title.lower()}", columns=columns, rows=rows, notes=notes)


def _prevalence(point: Mapping[str, Any]) -> list[str]:
    """The prevalence that PPV and NPV assume, and where it comes from."""
    share, own = part(point, "positive_predictive_value").get("prevalence"), own_share(point)
    if share is None:
        return []
    given = own is not None and abs(own - share) > 1e-9
    whose = "given to the evaluation" if given else "that of these images"
    return ["PPV and NPV (the share of positive and of negative answers that are right) depend on the prevalence, "
            "here "
            f"{percent(share)}, {whose}."]  # fmt: skip


def threshold(point: Mapping[str, Any]) -> str:
    """The threshold, or its effect if all scores are on one side of it."""
    value = point.get("threshold")
    if point.get("name") == BY_GRADE:
        return "the grade"
    if value is not None and float(value) > 1:
        return "refers none"
    return "refers all" if value is not None and float(value) <= 0 else number(value, 3)


def own_share(point: Mapping[str, Any]) -> float | None:
    """The share of the judged images that have the disease; None if the counts are not known."""
    ill, well = part(point, "sensitivity")["n"], part(point, "specificity")["n"]
    return ill / (ill + well) if ill is not None and well else None


def precision_here(point: Mapping[str, Any]) -> float | None:
    """The positive predictive value at the prevalence of the judged images, ignoring a prevalence given by the user."""
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
    return f"n = {int(point['chosen_n']):,}" + (f", {int(ill):,} with disease" if ill is not None else "")


def _panels(curves: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[Panel]:
    panels = []
    if curves.get("roc"):
        lines = [_line(curves["roc"]), Line(label="chance", x=[0, 1], y=[0, 1], colour="muted", dashed=True)]
        passed = [part(point, "specificity")["value"] for point in points]
        marks = _marks(points, [None if share is None else 1 - share for share in passed], _found(points))
        panels.append(Panel(title="ROC curve", x_label="1 − specificity", y_label="sensitivity", square=True,
                            lines=lines, marks=marks))  # fmt: skip
    if curves.get("precision_recall"):
        marks = _marks(points, _found(points), [precision_here(point) for point in points])
        panels.append(Panel(title="Precision and recall", x_label="recall (sensitivity)", y_label="precision (PPV)",
                            square=True, lines=[_line(curves["precision_recall"])], marks=marks))  # fmt: skip
    return panels


def _line(curve: Sequence[Sequence[float]]) -> Line:
    return Line(label="grader", x=[row[0] for row in curve], y=[row[1] for row in curve])


def _found(points: Sequence[Mapping[str, Any]]) -> list[float | None]:
    return [part(point, "sensitivity")["value"] for point in points]


def _marks(
    points: Sequence[Mapping[str, Any]], across: Sequence[float | None], upwards: Sequence[float | None]
) -> list[Mark]:
    return [
        Mark(label=str(point.get("name", "unnamed")), x=x, y=y, shape=MARKS[k % 4], colour=series(k % 4 + 1))
        for k, (point, x, y) in enumerate(zip(points, across, upwards, strict=True))
        if x is not None and y is not None
    ]


def _trade(curves: Mapping[str, Any]) -> Table:
    """The ROC curve in numbers."""
    rows = []
    for wanted in SPECIFICITIES:
        best = max((row[1] for row in curves["roc"] if row[0] <= 1 - wanted + 1e-9), default=None)
        rows.append(cells(percent(wanted), percent(best)))
    columns = ["specificity of at least", "sensitivity reached"]
    return Table(caption="What the ROC curve offers", columns=columns, rows=rows)


def elsewhere(point: Mapping[str, Any]) -> Table | None:
    """What the operating point would give on a thousand images at other prevalences."""
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
        caption=f"Of {SCREENED:,} images", rows=rows,
        columns=["prevalence", "referred", "correctly", "missed", "referred without disease", "PPV"],
        notes=[f"For “{point.get('name', 'unnamed')}”, assuming the same sensitivity and specificity as above. In "
               "practice they usually differ."],
    )  # fmt: skip
