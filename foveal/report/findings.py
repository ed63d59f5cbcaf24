"""The graders of a report on the same images, by the same labels, each against a constant answer and the first grader.

Labels: the last correction (corrections.csv of any of the runs) of an image counts. Where labels differ without one,
those of the run with the most corrections count, from its training or its evaluation; in a tie, of the latest run.

Images: several graders are compared on the images that all of them graded. Every difference is paired: same images,
same resampled groups (evaluate/difference.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.evaluate.difference import paired_difference
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import measure
from foveal.evaluate.operating import operating_points
from foveal.page.words import counted
from foveal.readout.scales import Scale
from foveal.report.evidence import Evidence, confusion_of
from foveal.report.words import PARTS, SPOKEN, headline_names
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.corrections import label_of, read_corrections
from foveal.sets.splits import group_codes


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
        """The headline metrics as they are spoken of, with their entries; metrics: of a part of the images."""
        found = self.metrics if metrics is None else metrics
        return [(SPOKEN[name], found[name]) for name in headline_names(self.evidence) if name in found]

    @property
    def one_answer(self) -> bool:
        """Whether every image was given the same class."""
        return bool(self.rows["grade"].nunique() == 1)

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
    constant = rows.assign(grade=run.classes.index(result["constant_answer"]))
    resampling = {key: result["about"][key] for key in ("resamples", "seed")}
    referable = result["about"]["referable_from"] if run.ordered else None
    return Finding(
        evidence=run, rows=rows, result=result, against_constant=paired_difference(constant, rows, **resampling),
        against_first=None if rows is first else paired_difference(first, rows, referable, **resampling),
    )  # fmt: skip


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
        what, fix = f"{judged} were judged on {len(ids)} images in common", "evaluate all on the same --split"
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


def agree(runs: Sequence[Evidence]) -> tuple[list[Evidence], list[str]]:
    """The runs with the newest label of every image they share, and a sentence for each change."""
    graders = [run for run in runs if run.verb == "train" and run.predictions is not None]
    if len(graders) < 2:
        return list(runs), []
    newest = max(graders, key=_age_of_labels)
    found, said = list(runs), []
    for place, run in enumerate(runs):
        if run not in graders:
            continue
        dated = _last_corrections([one for one in graders if _set_of(one) == _set_of(run)])
        corrected, count = _relabelled(run, dated)
        labels = _newer_labels(corrected, newest, dated)
        found[place], _ = _relabelled(corrected, labels)
        later = f"graded by {run.name} got a new label later; this page uses the"
        if count:
            said.append(f"{counted(count, 'image')} {later} last correction of each image, from whichever run has it.")
        if len(labels):
            said.append(f"{counted(len(labels), 'image')} {later} label of {newest.name}, the newest.")
    return found, said


def _age_of_labels(run: Evidence) -> tuple[int, str]:
    """How many corrections the labels contain, as far as the files tell, and when the run started."""
    evaluated = (run.result or {}).get("about", {}).get("corrections", {})
    corrections = max(int(run.card.get("corrections", 0)), int(evaluated.get("all", 0)))
    return corrections, str(run.provenance.get("started", ""))


def _set_of(run: Evidence) -> tuple[str, str]:
    """The identity of the prepared set, and the scale: runs with the same pair share their labels."""
    return str(run.card.get("identity", run.card.get("name"))), str(run.card.get("scale"))


def _last_corrections(runs: Sequence[Evidence]) -> pd.Series:
    """id -> label by the latest correction in any of the runs, without labels that were removed."""
    tables = [read_corrections(run.path / CORRECTIONS) for run in runs if (run.path / CORRECTIONS).is_file()]
    if not tables:
        return pd.Series(dtype="Int64")
    last = pd.concat(tables).sort_values("when", kind="stable").drop_duplicates("id", keep="last").set_index("id")
    classes = list(runs[0].card.get("classes", []))  # runs of one set have the same
    return pd.Series([label_of(new, classes) for new in last["new"]], last.index, dtype="Int64").dropna()


def _newer_labels(run: Evidence, newest: Evidence, dated: pd.Series) -> pd.Series:
    """id -> label of the images that `newest` labels differently, except those with a correction in `dated`."""
    assert run.predictions is not None and newest.predictions is not None
    own, other = (one.predictions.set_index("id")["label"].dropna() for one in (run, newest))  # type: ignore[union-attr]
    both = own.index.intersection(other.index).difference(dated.index)
    labels = other[both][other[both] != own[both]]
    if len(labels) and _set_of(run) != _set_of(newest):
        sets = " and ".join(f"{name} on the scale {scale}" for name, scale in map(_set_of, (run, newest)))
        what = f"{run.path} and {newest.path} label {counted(len(labels), 'image')} differently that both graded"
        raise FovealError("predictions.labels", f"{what}, and their prepared sets differ: {sets}",
                          fix="make a separate report of each")  # fmt: skip
    return labels


def _relabelled(run: Evidence, labels: pd.Series) -> tuple[Evidence, int]:
    """The run with these labels, and the number of images whose label they change."""
    assert run.predictions is not None
    before = run.predictions["label"]
    new = run.predictions["id"].map(labels).astype("Int64").where(before.notna()).fillna(before)
    changed = int((new != before).fillna(False).sum())
    return (replace(run, predictions=run.predictions.assign(label=new)) if changed else run), changed
