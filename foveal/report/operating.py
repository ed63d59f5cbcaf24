"""Operating points: sensitivity and cost at each threshold, with the ROC and precision-recall curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.evaluate.operating import BY_GRADE, REFERABLE
from foveal.page.charts import MARKS, Line, Mark, Panel, series
from foveal.page.parts import Cell, Shown, percent_cell
from foveal.page.words import number, percent
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding

TARGETS = {"referable": "Referable disease", "sight_threatening": "Sight-threatening disease"}
FIGURES = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value", "referred")
SCREENED = 1000  # images in the table for other prevalences
PREVALENCES = (0.05, 0.1, 0.2, 0.4)


def operating(findings: Sequence[Finding]) -> dict[str, Any] | None:
    """Points and curves of every grader and target, and rates per patient; None for results without them."""
    runs = []
    for finding in findings:
        targets, people = [], finding.result.get("patients")
        for target, title in TARGETS.items():
            if points := points_of(finding.result, target):
                targets.append({"title": title, "meaning": meaning(finding.evidence, finding.result, target),
                                "rows": [_row(point) for point in points], "first": points[0],
                                "own_share": own_share(points[0]), "elsewhere": elsewhere(points[0]),
                                "panels": _panels(finding.result["curves"][target], points)})  # fmt: skip
        patients = people and {**people, "rows": [["worse eye", *_rates(_complete(people))]]}
        runs += [{"name": finding.name, "targets": targets, "patients": patients}] if targets else []
    notes = [finding.result.get("operating_points_note") for finding in findings]
    return {"runs": runs, "note": next(filter(None, notes), ""), "screened": SCREENED} if runs else None


def points_of(result: Mapping[str, Any], target: str) -> list[dict[str, Any]]:
    """The operating points of one target, each figure as {value, low, high, …}."""
    return [_complete(point) for point in result["operating_points"] if point["target"] == target]


def _complete(point: Mapping[str, Any]) -> dict[str, Any]:
    """The point with the share of referred images as an entry without an interval."""
    return {**point, "referred": {"value": point["referred"], "low": None, "high": None}}


def meaning(run: Evidence, result: Mapping[str, Any], target: str) -> str:
    """Which classes count as the target."""
    lowest, last = result["about"].get(f"{target}_from"), len(run.classes) - 1
    if lowest is None or not 0 < lowest <= last:
        return ""
    classes = run.classes[lowest] if lowest == last else f"{run.classes[lowest]} and above"
    return f"{classes}, or macular oedema" if target == REFERABLE and result["about"].get("oedema") else classes


def _row(point: Mapping[str, Any]) -> list[Shown]:
    where = {"val": "validation"}.get(point["chosen_on"], point["chosen_on"]) or "–"
    images = f"n = {point['chosen_n']:,}, {point['chosen_positive']:,} with disease" if point["chosen_n"] else ""
    return [point["name"], threshold(point), Cell(text=where, tone="muted", small=images), *_rates(point)]


def _rates(point: Mapping[str, Any]) -> list[Cell]:
    return [percent_cell(point[name]) for name in FIGURES]


def threshold(point: Mapping[str, Any]) -> str:
    """The threshold, or its effect if all scores are on one side of it."""
    value = point["threshold"]
    if value is None:
        return "the grade" if point["name"] == BY_GRADE else "set in training"
    return "refers none" if value > 1 else "refers all" if value <= 0 else number(value, 3)


def own_share(point: Mapping[str, Any]) -> float:
    """The share of the judged images that have the disease."""
    ill, well = point["sensitivity"]["n"], point["specificity"]["n"]
    return float(ill / (ill + well))


def _referred(point: Mapping[str, Any], prevalence: float) -> tuple[float, float] | None:
    """The shares of all images that are referred with and without the disease, at a prevalence; None if not known."""
    found, passed = point["sensitivity"]["value"], point["specificity"]["value"]
    return None if found is None or passed is None else (found * prevalence, (1 - passed) * (1 - prevalence))


def precision_here(point: Mapping[str, Any]) -> float | None:
    """The positive predictive value at the prevalence of the judged images, whatever prevalence the user gave."""
    hits, alarms = _referred(point, own_share(point)) or (0.0, 0.0)
    return hits / (hits + alarms) if hits + alarms else None


def elsewhere(point: Mapping[str, Any]) -> list[list[str]]:
    """Table rows of what the operating point would give on a thousand images at other prevalences; [] if unknown."""
    rows = []
    for prevalence in PREVALENCES:
        if shares := _referred(point, prevalence):
            hits, alarms = (SCREENED * share for share in shares)
            counts = [f"{count:.0f}" for count in (hits + alarms, hits, prevalence * SCREENED - hits, alarms)]
            rows.append([percent(prevalence), *counts, percent(hits / (hits + alarms) if hits + alarms else None)])
    return rows


def _panels(curves: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """The ROC and the precision-recall curve with the points on them; none if all images are of one kind."""
    roc, precision = list[Mark](), list[Mark]()
    for k, point in enumerate(points):
        found, passed, right = point["sensitivity"]["value"], point["specificity"]["value"], precision_here(point)
        look: dict[str, Any] = {"label": point["name"], "shape": MARKS[k % 4], "look": series(k % 4 + 1)}
        roc += [] if found is None or passed is None else [Mark(x=1 - passed, y=found, **look)]
        precision += [] if right is None else [Mark(x=found, y=right, **look)]
    lines = {name: Line(label="grader", x=[x for x, _ in curve], y=[y for _, y in curve])
             for name, curve in curves.items()}  # fmt: skip
    chance = Line(label="chance", x=[0, 1], y=[0, 1], look="dashed muted")
    panels = [Panel(title="ROC curve", x_label="1 − specificity", y_label="sensitivity", lines=[lines["roc"], chance],
                    marks=roc, square=True),
              Panel(title="Precision and recall", x_label="recall (sensitivity)", y_label="precision (PPV)",
                    lines=[lines["precision_recall"]], marks=precision, square=True)]  # fmt: skip
    return panels if curves["roc"] else []
