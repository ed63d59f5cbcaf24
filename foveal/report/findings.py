"""Each grader compared with a constant answer, and with the first grader.

Every difference is paired: same images, same resampled groups (evaluate/difference.py). Several graders are compared on
the images that all of them graded, because figures on different images cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from foveal.errors import FovealError
from foveal.evaluate.difference import paired_difference
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import measure
from foveal.evaluate.operating import operating_points
from foveal.readout.predictions import units
from foveal.readout.scales import Scale
from foveal.report.evidence import Evidence, confusion_of

FEW_GROUPS = 30  # with fewer groups, intervals are rough (measured in docs/results.md)


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
    def one_answer(self) -> bool:
        """Whether every image was given the same class."""
        return bool((np.array(self.result["confusion"]).sum(axis=0) > 0).sum() == 1)

    @property
    def patients_known(self) -> bool:
        """Whether the data set tells which images belong to one patient."""
        return bool((self.rows["group"] != "").any())


def find(runs: Sequence[Evidence]) -> list[Finding]:
    """Findings of the graders among `runs` that have predictions; FovealError if they cannot be compared."""
    graders = [run for run in runs if run.verb == "train" and run.result is not None]
    tables = _shared([run.judged for run in graders], graders)
    return [_finding(run, rows, tables[0]) for run, rows in zip(graders, tables, strict=True)]


def _finding(run: Evidence, rows: pd.DataFrame, first: pd.DataFrame) -> Finding:
    result = _result_on(run, rows)
    answer = rows.assign(grade=run.classes.index(result["constant_answer"]))
    resampling = {key: result["about"][key] for key in ("resamples", "seed")}
    paired = None
    if rows is not first:
        referable = result["about"]["referable_from"] if run.ordered else None
        paired = paired_difference(first, rows, referable, **resampling)
    return Finding(evidence=run, rows=rows, result=result, against_first=paired,
                   against_constant=paired_difference(answer, rows, **resampling))  # fmt: skip


def _shared(tables: list[pd.DataFrame], graders: Sequence[Evidence]) -> list[pd.DataFrame]:
    """The rows of the images that are in all tables, in the order of the first."""
    if len(tables) < 2:
        return tables
    for run in graders[1:]:
        if run.classes != graders[0].classes:
            what = f"{run.path} and {graders[0].path} have different classes"
            raise FovealError("predictions.classes", what, fix="make a separate report of each")
    ids = reduce(lambda left, right: left & right, (set(table["id"]) for table in tables))
    if len(ids) < 2:
        names = ", ".join(str(run.path) for run in graders)
        raise FovealError("predictions.not_alike", f"{names} have graded {len(ids)} images in common",
                          expected="at least 2", fix="make a separate report of each")  # fmt: skip
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
    resampling = Resampling(units(rows), about["resamples"], about["seed"])
    validation = run.predictions[run.predictions["label"].notna() & (run.predictions["split"] == "val")]
    chosen_on = validation[~validation["id"].isin(rows["id"])].reset_index(drop=True)
    points, note = operating_points(rows, chosen_on, scale, resampling, about.get("prevalence"))
    result = measure(rows, scale, resampling) | {"operating_points": points, "operating_points_note": note}
    new = {"images": len(rows), "groups": resampling.groups, "measured_again": True}
    return {**result, "about": {**about, **new}}
