"""A cohort that a run has graded (`foveal evaluate RUN --on SOURCE`), next to the part that the run was tested on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.files import read_json
from foveal.page.parts import Shown, percent_cell
from foveal.page.words import percent
from foveal.predict.cohort import ABOUT, FILE, folder_of
from foveal.readout.predictions import read_predictions
from foveal.report.evidence import Evidence, read_table
from foveal.report.operating import by_grade
from foveal.report.words import METRIC_NAMES, PARTS, headline_names

UNITS = {"eyes": "per eye", "patients": "per patient"}
RATES = {"sensitivity": "Sensitivity of referral", "specificity": "Specificity of referral"}


def read_cohort(own: Evidence, source: Path) -> Evidence:
    """The run's evidence with the images of a cohort; FovealError if it has not been evaluated on it."""
    folder = folder_of(own.path, source)
    if not (folder / "metrics.json").is_file():
        what, fix = f"{own.path} has not been evaluated on {source}", f"foveal evaluate {own.path} --on {source}"
        raise FovealError("run.not_evaluated", what, fix=fix)
    data = Path(read_json(folder / ABOUT)["set"])
    return replace(
        own, path=folder, predictions=read_predictions(folder / FILE), result=read_json(folder / "metrics.json"),
        options=own.options | {"data": str(data)}, card=read_json(data / "card.json") | {"title": folder.name},
        doubts=read_table(folder / "label_noise.csv", (), "evaluate"), misgraded=None, maps=None, neighbours=None,
        clustered={}, explained={},
    )  # fmt: skip


def beside(cohort: Evidence, own: Evidence) -> dict[str, Any] | None:
    """The figures of the cohort and of the run's own part, in two columns; None if the run has none of its own."""
    if own.result is None or cohort.result is None:
        return None
    results = [cohort.result, own.result]
    rows: list[list[Shown]] = [["Photographs", *(result["about"]["images"] for result in results)]]
    rows += [[METRIC_NAMES[name], *(result["metrics"].get(name) for result in results)] for name in headline_names(own)]
    points = [point for result in results if (point := by_grade(result, "referable"))]
    if len(points) == len(results):
        shares = [percent(point["positive_predictive_value"]["prevalence"], 1) for point in points]
        rows.append(["Share with referable disease", *shares])
        rows += [[f"{title}, per photograph", *(percent_cell(point[name]) for point in points)]
                 for name, title in RATES.items()]  # fmt: skip
    for unit, words in UNITS.items():
        for name, title in RATES.items():
            entries = [result.get(unit, {}).get(name) for result in results]
            rows.append([f"{title}, {words}", *(entry and percent_cell(entry) for entry in entries)])
    there = PARTS.get(own.result["about"]["split"], own.result["about"]["split"])
    return {"columns": ["", cohort.name, f"{own.name}: its own {there} images"], "run": own.name,
            "rows": [row for row in rows if any(row[1:])]}  # fmt: skip
