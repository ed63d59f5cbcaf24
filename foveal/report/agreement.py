"""One label per image: runs trained before and after a correction are judged by the newest labels.

A report reads labels from the runs alone. It sorts their corrections (corrections.csv) by date and uses the last one of
each image. Where labels differ without a correction, it uses the labels of the run with the most corrections, from its
training or its evaluation; in a tie, those of the run that started last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.report.evidence import Evidence
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.corrections import label_of, read_corrections


def agree(runs: Sequence[Evidence]) -> tuple[list[Evidence], list[str]]:
    """The runs with the newest label of every image they share, and a sentence for each change.

    Raises FovealError if the labels differ between runs of different prepared sets.
    """
    graders = [run for run in runs if run.verb == "train" and run.predictions is not None]
    if len(graders) < 2:
        return list(runs), []
    newest = max(graders, key=lambda run: (_corrections(run), str(run.provenance.get("started", ""))))
    dated = {key: _last_corrections([run for run in graders if _set_of(run) == key]) for key in map(_set_of, graders)}
    found, said = list(runs), []
    for place, given in enumerate(runs):
        if given not in graders:
            continue
        run, count = _relabelled(given, dated[_set_of(given)])
        if count:
            said.append(f"{counted(count, 'image')} graded by {run.name} got a new label later; this page uses the "
                        "last "
                        "correction of each image, from whichever run has it.")  # fmt: skip
        labels = _newer_labels(run, newest, dated[_set_of(run)])
        if len(labels):
            _check_same_set(run, newest, len(labels))
            said.append(f"{counted(len(labels), 'image')} graded by {run.name} got a new label later; this page uses "
                        f"the label of {newest.name}, the newest.")  # fmt: skip
        found[place] = _relabelled(run, labels)[0]
    return found, said


def _set_of(run: Evidence) -> tuple[str, str]:
    """The identity of the prepared set, and the scale: runs with the same pair share their labels."""
    return str(run.card.get("identity", run.card.get("name"))), str(run.card.get("scale"))


def _last_corrections(runs: Sequence[Evidence]) -> pd.Series:
    """id -> label by the latest correction in any of the runs, without labels that were removed."""
    tables = []
    for run in runs:
        if (run.path / CORRECTIONS).is_file():
            table, classes = read_corrections(run.path / CORRECTIONS), list(run.card.get("classes", []))
            tables.append(table.assign(label=pd.array([label_of(new, classes) for new in table["new"]], dtype="Int64")))
    if not tables:
        return pd.Series(dtype="Int64")
    last = pd.concat(tables).sort_values("when", kind="stable").drop_duplicates("id", keep="last").set_index("id")
    return last["label"].dropna().astype("Int64")


def _corrections(run: Evidence) -> int:
    """How many corrections the labels of a run contain, as far as its files tell."""
    evaluated = (run.result or {}).get("about", {}).get("corrections", {})
    return max(int(run.card.get("corrections", 0)), int(evaluated.get("all", 0)))


def _newer_labels(run: Evidence, newest: Evidence, dated: pd.Series) -> pd.Series:
    """id -> label of the images that `newest` labels differently, except those with a correction in `dated`."""
    assert run.predictions is not None and newest.predictions is not None
    own, other = (one.predictions.set_index("id")["label"].dropna() for one in (run, newest))  # type: ignore[union-attr]
    both = own.index.intersection(other.index).difference(dated.index)
    return other[both][other[both] != own[both]]


def _check_same_set(run: Evidence, newest: Evidence, count: int) -> None:
    if _set_of(run) != _set_of(newest):
        sets = " and ".join(f"{name} on the scale {scale}" for name, scale in map(_set_of, (run, newest)))
        what = (
            f"{run.path} and {newest.path} have different labels for {count} images that both graded, and their "
            f"prepared sets differ: {sets}"
        )
        raise FovealError("predictions.labels", what, fix="make a separate report of each")


def _relabelled(run: Evidence, labels: pd.Series) -> tuple[Evidence, int]:
    """The run with these labels, and the number of images whose label they change."""
    assert run.predictions is not None
    before = run.predictions["label"]
    new = run.predictions["id"].map(labels).astype("Int64").where(before.notna())
    changed = int((new.notna() & (new != before)).fillna(False).sum())
    if not changed:
        return run, 0
    return replace(run, predictions=run.predictions.assign(label=new.fillna(before))), changed
