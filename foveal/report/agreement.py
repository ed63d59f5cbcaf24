"""One label an image: runs that were trained before and after a correction are judged by the newest labels.

A report knows the labels only from the runs. The newest are those of the run that knows the most corrections, from its
training or its evaluation; among equals, those of the run that was started last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from foveal.report.evidence import Evidence
from foveal.report.words import counted


def agree(runs: Sequence[Evidence]) -> tuple[list[Evidence], list[str]]:
    """The runs with the newest label for every image that another run has graded too, and a sentence for each change.

    Raises ValueError where labels differ between sets that are not the same.
    """
    graders = [run for run in runs if run.verb == "train" and run.predictions is not None]
    if len(graders) < 2:
        return list(runs), []
    newest = max(graders, key=lambda run: (_corrections(run), str(run.provenance.get("started", ""))))
    found, said = [], []
    for run in runs:
        labels = _newer_labels(run, newest) if run in graders else pd.Series(dtype="Int64")
        if len(labels):
            _check_same_set(run, newest, len(labels))
            said.append(
                f"{counted(len(labels), 'image')} that {run.name} has graded got another label since; "
                f"the figures go by that of {newest.name}, which is the newest."
            )
        found.append(_relabelled(run, labels) if len(labels) else run)
    return found, said


def _corrections(run: Evidence) -> int:
    """How many corrections the labels of a run hold, as far as it says."""
    evaluated = (run.result or {}).get("about", {}).get("corrections", {})
    return max(int(run.card.get("corrections", 0)), int(evaluated.get("all", 0)))


def _newer_labels(run: Evidence, newest: Evidence) -> pd.Series:
    """id -> label, of the images of which `newest` has another one."""
    assert run.predictions is not None and newest.predictions is not None
    own, other = (one.predictions.set_index("id")["label"].dropna() for one in (run, newest))  # type: ignore[union-attr]
    both = own.index.intersection(other.index)
    return other[both][other[both] != own[both]]


def _check_same_set(run: Evidence, newest: Evidence, count: int) -> None:
    names = [one.card.get("identity", one.card.get("name")) for one in (run, newest)]
    sets = [f"{name} on the scale {one.card.get('scale')}" for name, one in zip(names, (run, newest), strict=True)]
    if sets[0] != sets[1]:
        raise ValueError(
            f"{run.path} and {newest.path} give different labels to {count} of the images that both have graded, and "
            f"their prepared sets are not the same: {sets[0]} and {sets[1]}; report each alone"
        )


def _relabelled(run: Evidence, labels: pd.Series) -> Evidence:
    assert run.predictions is not None
    new = run.predictions["id"].map(labels).astype("Int64")
    return replace(run, predictions=run.predictions.assign(label=new.fillna(run.predictions["label"])))
