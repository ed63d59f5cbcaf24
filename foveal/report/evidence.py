"""What one run folder says of itself, read once and checked; nothing else is ever opened for the page.

    evidence = read_evidence(Path("runs/grader"))

Files that a run has not (yet) written leave their part empty: a page can be made of an unfinished run too.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.evaluate.corrected import with_corrections
from foveal.evaluate.evaluate import EvaluateConfig, evaluate
from foveal.evaluate.judged import choose_rows
from foveal.metrics import confusion_matrices
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.report.companions import Companions, read_companions
from foveal.runs import read_metrics
from foveal.sets.corrections import FILE as CORRECTIONS

VERBS = ("pretrain", "train")


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The files of one run folder; dictionaries are empty and tables None where a file is missing."""

    path: Path
    verb: str  # "pretrain" or "train"
    options: dict[str, Any]  # config.toml
    provenance: dict[str, Any]
    model: dict[str, Any]
    card: dict[str, Any]  # of the prepared set, in graders
    rows: list[dict[str, Any]]  # metrics.jsonl
    health: dict[str, Any]  # of a finished pre-training
    probe: pd.DataFrame | None  # probe.csv, of a pre-training that was probed on the way
    predictions: pd.DataFrame | None
    result: dict[str, Any] | None  # metrics.json
    misgraded: pd.DataFrame | None
    seen: pd.DataFrame | None
    companions: Companions  # what other verbs have added

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.path.resolve().name

    @property
    def classes(self) -> list[str]:
        """Class names in label order; empty for an encoder."""
        return list(self.model.get("classes", []))

    @property
    def ordered(self) -> bool:
        """Whether the classes are grades, so that agreement by distance (kappa) has a meaning."""
        return bool(self.model.get("task") == "grading")

    @property
    def epochs_done(self) -> int:
        """Epochs that the metrics tell of."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: the last that is written is the health, or predictions where there are parts
        to grade."""
        if self.verb == "pretrain":
            return bool(self.health)
        if self.options.get("folds") or {"val", "test"} & set(self.card.get("counts", {})):
            return self.predictions is not None
        return self.epochs_done >= int(self.options.get("epochs", 0))


def read_evidence(run: Path) -> Evidence:
    """Read a run folder, measuring its predictions when that has not been done; ValueError where `run` is none."""
    options = _read_options(run)
    verb = options.pop("verb", None)
    if verb not in VERBS:
        raise ValueError(f"{run} is not a run of {' or '.join(VERBS)}; give the --out folder of one of them")
    has_predictions = (run / "predictions.csv").is_file()
    predictions = read_predictions(run / "predictions.csv") if has_predictions else None
    if predictions is not None and not (run / "metrics.json").is_file():
        evaluate(EvaluateConfig(source=run))
    result = _read_json(run / "metrics.json") if has_predictions else None
    if predictions is not None and result is not None:
        if result["about"].get("corrections"):
            predictions, _ = with_corrections(predictions, run / CORRECTIONS, result["about"]["classes"])
        _check_result(run, predictions, result)
    return Evidence(
        path=run, verb=verb, options=options, predictions=predictions, result=result, rows=read_metrics(run),
        provenance=_read_json(run / "provenance.json"), model=_read_json(run / "model.json"),
        card=_read_json(run / "card.json"), health=_read_json(run / "health.json"),
        probe=pd.read_csv(run / "probe.csv") if (run / "probe.csv").is_file() else None,
        misgraded=_read_table(run / "misgraded.csv"), seen=_read_table(run / "seen.csv"),
        companions=read_companions(run),
    )  # fmt: skip


def _read_options(run: Path) -> dict[str, Any]:
    file = run / "config.toml"
    if not file.is_file():
        raise ValueError(
            f"{run} is not a run folder (it has no config.toml); give the --out folder of pretrain or train"
        )
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is damaged ({error}); run the same command into a new folder") from None


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is damaged ({error}); the verb that wrote it can write it again") from None


def _read_table(file: Path) -> pd.DataFrame | None:
    return pd.read_csv(file, dtype=str, keep_default_na=False) if file.is_file() else None


def _check_result(run: Path, predictions: pd.DataFrame, result: dict[str, Any]) -> None:
    """Figures that belong to other predictions must not get onto the page."""
    rows = choose_rows(predictions, result["about"]["split"])[0]
    if confusion_of(rows) != result["confusion"]:
        raise ValueError(
            f"{run / 'metrics.json'} was not made from {run / 'predictions.csv'}; "
            f"make it again with: foveal evaluate {run}"
        )


def confusion_of(rows: pd.DataFrame) -> list[list[int]]:
    """Confusion matrix, true by given class, of labelled predictions."""
    labels, grades = rows["label"].to_numpy(np.int64), rows["grade"].to_numpy(np.int64)
    found = confusion_matrices(labels, grades, np.zeros_like(labels), len(probability_columns(rows)))[0]
    return [[int(count) for count in row] for row in found]


def judged_rows(evidence: Evidence) -> pd.DataFrame:
    """The labelled predictions that the metrics are about."""
    assert evidence.predictions is not None and evidence.result is not None
    return choose_rows(evidence.predictions, evidence.result["about"]["split"])[0]


def best_epoch(evidence: Evidence) -> int | None:
    """The epoch whose weights were kept; None while a run has not come to its end."""
    return evidence.model.get("best_epoch")


def forebears(evidence: Evidence) -> list[Evidence]:
    """The runs whose weights this one started from, nearest first, as far as their folders still exist."""
    found: list[Evidence] = []
    folders = {evidence.path.resolve()}
    current = evidence
    while (folder := starting_folder(current)) is not None and folder not in folders:
        folders.add(folder)
        current = read_evidence(folder)
        found.append(current)
    return found


def starting_run(evidence: Evidence) -> str | None:
    """What --init named, where that is a run; None for other starting weights."""
    init = str(evidence.options.get("init", "random"))
    return None if init in ("random", "imagenet") or init.endswith(".safetensors") else init


def starting_folder(evidence: Evidence) -> Path | None:
    """The folder of the run that --init named; None for other weights, or when it is no longer there."""
    init = starting_run(evidence)
    folder = None if init is None else (started_in(evidence) / init).resolve()
    return folder if folder is not None and (folder / "config.toml").is_file() else None


def started_in(evidence: Evidence) -> Path:
    """The folder in which the command ran: relative paths among the options are seen from there."""
    here, out = evidence.path.resolve(), Path(str(evidence.options.get("out", "")))
    if out.is_absolute() or not out.parts or here.parts[-len(out.parts) :] != out.parts:
        return Path()
    return Path(*here.parts[: -len(out.parts)])
