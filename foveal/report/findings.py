"""The graders of a report on the same images, each against a constant answer and the first grader; names of metrics.

Several graders are compared on the images that all of them graded. Every difference is paired: same images, same
resampled groups (evaluate/difference.py).
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.evaluate.difference import paired_difference
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import measure
from foveal.evaluate.operating import operating_points
from foveal.page.parts import SPLITS
from foveal.readout.scales import Scale
from foveal.report.evidence import Evidence, confusion_of
from foveal.sets.splits import HELD_OUT, group_codes

NAMES: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("names.toml").read_text(encoding="utf-8"))
METRIC_NAMES, SPOKEN = NAMES["metrics"], NAMES["spoken"]
LOWER_IS_BETTER = ("mean_absolute_error", "expected_calibration_error", "brier")
PARTS = SPLITS | {"all": "labelled", HELD_OUT: "held-out"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One evaluated grader."""

    evidence: Evidence
    rows: pd.DataFrame  # the labelled predictions that were judged
    result: dict[str, Any]  # the content of metrics.json
    against_constant: dict[str, Any]  # paired difference from always giving the most common class
    against_first: dict[str, Any] | None  # the same from the first grader, with McNemar's test; None for the first

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.evidence.name

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """name -> value, low, high, n, constant."""
        return dict(self.result["metrics"])

    @property
    def part(self) -> str:
        """The part of the set that was judged, in words."""
        return PARTS[self.result["about"]["split"]]

    def headline(self, metrics: Mapping[str, Any] | None = None) -> list[tuple[str, Any]]:
        """The known headline metrics as they are spoken of, with their entries; metrics: of a part of the images."""
        found = self.metrics if metrics is None else metrics
        return [(SPOKEN[name], found[name]) for name in self.evidence.headline_names
                if name in found and found[name]["value"] is not None]  # fmt: skip

    @property
    def one_answer(self) -> bool:
        """Whether every image was given the same class."""
        return bool(self.rows["grade"].nunique() == 1)


def find(runs: Sequence[Evidence]) -> list[Finding]:
    """Findings of the graders among `runs` that have predictions; FovealError if they cannot be compared."""
    graders = [run for run in runs if run.verb == "train" and run.result is not None]
    tables, found = _shared([run.judged for run in graders], graders), []
    for run, rows in zip(graders, tables, strict=True):
        result = _result_on(run, rows)
        constant = rows.assign(grade=run.classes.index(result["constant_answer"]))
        resampling = {key: result["about"][key] for key in ("resamples", "seed")}
        referable = result["about"]["referable_from"] if run.ordered else None
        first = None if rows is tables[0] else paired_difference(tables[0], rows, referable, **resampling)
        found.append(Finding(evidence=run, rows=rows, result=result, against_first=first,
                             against_constant=paired_difference(constant, rows, **resampling)))  # fmt: skip
    return found


def _shared(tables: list[pd.DataFrame], graders: Sequence[Evidence]) -> list[pd.DataFrame]:
    """The rows of the images that are in all tables, in the order of the first."""
    if len(tables) < 2:
        return tables
    for run in graders[1:]:
        if run.classes != graders[0].classes:
            what = f"{run.path} and {graders[0].path} have different classes"
            raise FovealError("predictions.classes", what, fix="make a separate report of each")
    ids = set.intersection(*(set(table["id"]) for table in tables))
    if len(ids) < 2:
        judged = ", ".join(f"{run.path} (--split {run.result['about']['split']})" for run in graders if run.result)
        what, fix = f"{judged} have {len(ids)} evaluated images in common", "evaluate all on the same --split"
        raise FovealError("predictions.not_alike", what, expected="at least 2", fix=f"{fix}, or make separate reports")
    order = [name for name in tables[0]["id"] if name in ids]
    return [table.set_index("id").loc[order].reset_index() for table in tables]


def _result_on(run: Evidence, rows: pd.DataFrame) -> dict[str, Any]:
    """metrics.json, or its figures recomputed on the images and labels that the runs share, without subgroups."""
    assert run.result is not None and run.predictions is not None
    about = run.result["about"]
    if about["images"] == len(rows) and confusion_of(rows) == run.result["confusion"]:
        return run.result
    cuts = {name: about.get(name) for name in ("referable_from", "sight_threatening_from")}
    scale = Scale(names=run.classes, ordered=run.ordered, **cuts)
    resampling = Resampling(group_codes(rows["group"]), about["resamples"], about["seed"])
    validation = run.predictions[run.predictions["label"].notna() & (run.predictions["split"] == "val")]
    chosen_on = validation[~validation["id"].isin(rows["id"])].reset_index(drop=True)
    points, note = operating_points(rows, chosen_on, scale, resampling, about.get("prevalence"))
    about = about | {"images": len(rows), "groups": resampling.groups, "measured_again": True}
    return {**measure(rows, scale, resampling), "operating_points": points, "operating_points_note": note,
            "about": about}  # fmt: skip
