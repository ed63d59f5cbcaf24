"""The files of one run folder, read once and checked. The page uses nothing else.

    evidence = read_evidence(Path("runs/grader"))

A missing file leaves its part empty, so an unfinished run also has a page.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.errors import FovealError
from foveal.evaluate.corrected import with_corrections
from foveal.evaluate.evaluate import EvaluateConfig, evaluate
from foveal.evaluate.judged import choose_rows
from foveal.metrics import confusion_matrix
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.report.companions import Companions, optional_json, optional_table, read_companions, whole
from foveal.runs import read_metrics
from foveal.sets.corrections import FILE as CORRECTIONS


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
    probe: pd.DataFrame | None  # probe.csv of a pre-training
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

    def class_name(self, value: Any) -> str:
        """The name of a class given by number or name; `no label` for anything else."""
        label = whole(value)
        if label is not None and 0 <= label < len(self.classes):
            return self.classes[label]
        return str(value) if value in self.classes else "no label"

    @property
    def ordered(self) -> bool:
        """Whether the classes are ordered grades, so that weighted kappa makes sense."""
        return bool(self.model.get("task") == "grading")

    @property
    def epochs_done(self) -> int:
        """The last epoch in the metrics."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept; None while a run is unfinished."""
        return self.model.get("best_epoch")

    @property
    def finished(self) -> bool:
        """Whether the run has written its last file: health.json, or the predictions of validation and test images."""
        if self.verb == "pretrain":
            return bool(self.health)
        if self.options.get("folds") or {"val", "test"} & set(self.card.get("counts", {})):
            return self.predictions is not None
        return self.epochs_done >= int(self.options.get("epochs", 0))

    @property
    def judged(self) -> pd.DataFrame:
        """The labelled predictions that the metrics were computed from."""
        assert self.predictions is not None and self.result is not None
        return choose_rows(self.predictions, self.result["about"]["split"])[0]

    @property
    def started_in(self) -> Path:
        """The working directory of the command, to resolve relative paths in its options."""
        here, out = self.path.resolve(), Path(str(self.options.get("out", "")))
        if out.is_absolute() or not out.parts or here.parts[-len(out.parts) :] != out.parts:
            return Path()
        return Path(*here.parts[: -len(out.parts)])

    @property
    def starting_run(self) -> str | None:
        """The value of --init if it is a run; None for other starting weights."""
        init = str(self.options.get("init", "random"))
        return None if init in ("random", "imagenet") or init.endswith(".safetensors") else init

    @property
    def starting_folder(self) -> Path | None:
        """The folder of the run in --init; None for other weights, or if the folder is gone."""
        folder = None if self.starting_run is None else (self.started_in / self.starting_run).resolve()
        return folder if folder is not None and (folder / "config.toml").is_file() else None


def read_evidence(run: Path) -> Evidence:
    """Read a run folder, and evaluate its predictions if that has not been done yet.

    Raises FovealError if `run` is not a run folder, or a file in it is damaged.
    """
    options = _read_options(run)
    verb = options.pop("verb", None)
    if verb not in ("pretrain", "train"):
        raise FovealError("run.not_a_run", f"{run} is a folder of foveal {verb}", fix="give a run of pretrain or train")
    predictions, result = _read_predictions(run)
    return Evidence(
        path=run, verb=verb, options=options, predictions=predictions, result=result, rows=read_metrics(run),
        provenance=optional_json(run / "provenance.json"), model=optional_json(run / "model.json"),
        card=optional_json(run / "card.json"), health=optional_json(run / "health.json"),
        probe=pd.read_csv(run / "probe.csv") if (run / "probe.csv").is_file() else None,
        misgraded=optional_table(run / "misgraded.csv"), seen=optional_table(run / "seen.csv"),
        companions=read_companions(run),
    )  # fmt: skip


def _read_options(run: Path) -> dict[str, Any]:
    file = run / "config.toml"
    if not file.is_file():
        what = f"{run} is not a run folder: it has no config.toml"
        raise FovealError("run.not_a_run", what, fix="give the --out of pretrain or train")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise FovealError("run.damaged", f"{file} is damaged ({error})", fix="copy the run again") from None


def _read_predictions(run: Path) -> tuple[pd.DataFrame | None, dict[str, Any] | None]:
    """predictions.csv with corrected labels, and metrics.json; both None if the run has not graded images."""
    file = run / "predictions.csv"
    if not file.is_file():
        return None, None
    predictions = read_predictions(file)
    if not (run / "metrics.json").is_file():
        evaluate(EvaluateConfig(source=run))
    result = optional_json(run / "metrics.json")
    if result["about"].get("corrections"):
        predictions, _ = with_corrections(predictions, run / CORRECTIONS, result["about"]["classes"])
    # The page must not show metrics of other predictions.
    if confusion_of(choose_rows(predictions, result["about"]["split"])[0]) != result["confusion"]:
        what = f"{run / 'metrics.json'} was not made from {file}"
        raise FovealError("predictions.changed", what, fix=f"run foveal evaluate {run}")
    return predictions, result


def confusion_of(rows: pd.DataFrame) -> list[list[int]]:
    """Confusion matrix of labelled predictions: a row for each true class, a column for each given class."""
    labels, grades = rows["label"].to_numpy(np.int64), rows["grade"].to_numpy(np.int64)
    return confusion_matrix(labels, grades, len(probability_columns(rows))).astype(int).tolist()


def forebears(evidence: Evidence) -> list[Evidence]:
    """The runs whose weights this one started from, most recent first, as far as their folders still exist."""
    found: list[Evidence] = []
    folders = {evidence.path.resolve()}
    current = evidence
    while (folder := current.starting_folder) is not None and folder not in folders:
        folders.add(folder)
        current = read_evidence(folder)
        found.append(current)
    return found
