"""The files of one run folder, read once and checked. The page uses nothing else.

A missing file leaves its part empty, so an unfinished run also has a page.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.errors import FovealError
from foveal.evaluate.columns import held_out
from foveal.evaluate.evaluate import EvaluateConfig, measure_predictions
from foveal.evaluate.judged import choose_rows, with_corrections
from foveal.files import read_json
from foveal.metrics import confusion_matrix
from foveal.readout.predictions import probability_columns, read_predictions, read_ungraded
from foveal.runs import WEIGHT_FILES, read_metrics, set_of, started_in
from foveal.sets.corrections import FILE as CORRECTIONS

DOCUMENTS = {"provenance": "provenance.json", "model": "model.json", "card": "card.json", "health": "health.json",
             "explained": "explain/explain.json"}  # fmt: skip
DOUBTED = ("id", "label", "probability", "suspicion", "likely")  # columns that label_noise.csv must have
MOST_KNOWN = 0.5  # share of images with a group


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The files of one run folder; dictionaries are empty and tables None if a file is missing."""

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
    doubts: pd.DataFrame | None  # images whose label may be wrong (evaluate)
    explained: dict[str, Any]  # heat maps of where the grader looked (explain)

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.path.resolve().name

    @property
    def kind(self) -> str:
        """`linear probe of resnet18`, `pre-training of resnet18`, …"""
        kind = "training" if self.options.get("init") == "random" else "fine-tune"
        kind = "pre-training" if self.verb == "pretrain" else "linear probe" if self.options.get("freeze") else kind
        return f"{kind} of {self.options.get('encoder')}"

    @property
    def day(self) -> str:
        """The day on which the run started; empty if not known."""
        if "started" not in self.provenance:
            return ""
        day = datetime.fromisoformat(self.provenance["started"])
        return f"{day.day} {day:%B} {day.year}".replace(" ", "\N{NO-BREAK SPACE}")

    @cached_property
    def parts(self) -> Counter[str]:
        """The number of images of each part in predictions.csv, with and without a grade."""
        assert self.predictions is not None
        rows = pd.read_csv(self.path / "predictions.csv", usecols=["id", "split"], dtype=str, keep_default_na=False)
        return Counter(self.predictions["split"]) + Counter(rows["split"][~rows["id"].isin(self.predictions["id"])])

    @cached_property
    def ungraded(self) -> int:
        """The number of images of the evaluated part that have no grade."""
        return int(read_ungraded(self.path / "predictions.csv")["split"].isin(self.judged["split"]).sum())

    @property
    def headline_names(self) -> list[str]:
        """The headline metrics: kappa only if the classes are ordered."""
        return ["quadratic_kappa", "accuracy", "referable_auc"] if self.ordered else ["accuracy", "macro_f1"]

    @property
    def patients_known(self) -> bool:
        """Whether most graded images have a patient as their group; without patients, only copies have a group."""
        return self.predictions is not None and bool((self.predictions["group"] != "").mean() > MOST_KNOWN)

    @property
    def classes(self) -> list[str]:
        """Class names in label order; empty for an encoder."""
        return list(self.model.get("classes", []))

    def class_name(self, value: Any) -> str:
        """The name of a class given by number or name; `no label` for anything else."""
        with suppress(TypeError, ValueError):
            if 0 <= float(value) < len(self.classes):
                return self.classes[int(float(value))]
        return str(value) if value in self.classes else "no label"

    @property
    def ordered(self) -> bool:
        """Whether the classes are ordered grades, so that weighted kappa makes sense."""
        return bool(self.model.get("task") == "grading")

    def images(self, part: str) -> int:
        """How many images a part of the prepared set has, by its card."""
        return int(self.card.get("counts", {}).get(part, {}).get("images", 0))

    @property
    def epochs(self) -> int:
        """How many epochs were planned."""
        return int(self.options.get("epochs", 0))

    @property
    def epochs_done(self) -> int:
        """The last epoch in the metrics."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def pools(self) -> list[str]:
        """Names of the prepared sets that the run has learned from."""
        data = self.options.get("data", [])
        return [Path(str(path)).name for path in ([data] if isinstance(data, str) else data)]

    @property
    def finished(self) -> bool:
        """Whether the run has written its last file: health.json, or the predictions of validation and test images."""
        if self.verb == "pretrain":
            return bool(self.health)
        if self.options.get("folds") or {"val", "test"} & set(self.card.get("counts", {})):
            return self.predictions is not None
        return self.epochs_done >= self.epochs

    @property
    def judged(self) -> pd.DataFrame:
        """The labelled predictions that the metrics were computed from."""
        assert self.predictions is not None and self.result is not None
        return choose_rows(self.predictions, self.result["about"]["split"])[0]

    @property
    def started_in(self) -> Path:
        """The working directory of the command, to resolve relative paths in its options."""
        return started_in(self.path, str(self.options.get("out", "")))

    @property
    def starting_run(self) -> Path | None:
        """The folder of the run in --init, which may be gone; None for other starting weights."""
        init = str(self.options.get("init", "random"))
        other = init in ("random", "imagenet") or init.endswith(WEIGHT_FILES)
        return None if other else (self.started_in / init).resolve()

    @property
    def maps_failed(self) -> bool:
        """Whether the heat maps were made by a method that failed its check for this grader."""
        method = next(iter(str(self.explained.get("method") or "").split()), "")
        return self.explained.get("checks", {}).get(method, {}).get("passed") is False

    def explanation(self, name: str) -> dict[str, Any] | None:
        """The entry of explain.json for image `name`; None if it has no heat map, or the maps failed their check."""
        images = [] if self.maps_failed else self.explained.get("images", [])
        return next((image for image in images if str(image.get("id")) == name and self.heat_map(image)), None)

    def heat_map(self, image: Mapping[str, Any]) -> Path | None:
        """The heat map file of an explained image; None if it is missing or outside the folder."""
        folder = (self.path / "explain").resolve()
        file = (folder / str(image.get("overlay") or "")).resolve()
        return file if file.is_relative_to(folder) and file.is_file() else None


def read_evidence(run: Path, *, graded: bool = True) -> Evidence:
    """Read a run folder, if `graded` with predictions and metrics, made if missing; FovealError if none or damaged."""
    if not is_run(run):
        what = f"{run} is not a run folder: it has no config.toml"
        raise FovealError("run.not_a_run", what, fix="give the --out of pretrain or train")
    try:
        options = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        what = f"{run / 'config.toml'} is damaged ({error})"
        raise FovealError("run.damaged", what, fix="copy the run again") from None
    verb = options.pop("verb", None)
    if verb not in ("pretrain", "train"):
        raise FovealError("run.not_a_run", f"{run} is a folder of foveal {verb}", fix="give a run of pretrain or train")
    if verb == "train" and options.get("data"):
        options["data"] = set_of(options)
    predictions, result = _read_predictions(run) if graded else (None, None)
    found: dict[str, Any] = {name: read_table(run / f"{name}.csv") for name in ("misgraded", "seen")}
    found |= {name: read_json(run / file) if (run / file).is_file() else {} for name, file in DOCUMENTS.items()}
    probe = pd.read_csv(run / "probe.csv") if (run / "probe.csv").is_file() else None
    doubts = read_table(run / "label_noise.csv")
    if doubts is not None and (missing := [column for column in DOUBTED if column not in doubts]):
        what = f"{run / 'label_noise.csv'} has no column {', '.join(missing)}"
        raise FovealError("table.missing_column", what, fix="write it again with foveal evaluate")
    return Evidence(path=run, verb=verb, options=options, rows=read_metrics(run), probe=probe, predictions=predictions,
                    result=result, doubts=doubts, **found)  # fmt: skip


def read_table(file: Path) -> pd.DataFrame | None:
    """A CSV file as text; None if there is no file."""
    return pd.read_csv(file, dtype=str, keep_default_na=False) if file.is_file() else None


def _read_predictions(run: Path) -> tuple[pd.DataFrame | None, dict[str, Any] | None]:
    """predictions.csv with corrected labels, and metrics.json; both None if the run has not graded images."""
    file = run / "predictions.csv"
    if not file.is_file():
        return None, None
    predictions = read_predictions(file)
    if not (run / "metrics.json").is_file():
        measure_predictions(EvaluateConfig(source=run))
    result = read_json(run / "metrics.json")
    if result["about"].get("corrections"):
        predictions, _ = with_corrections(predictions, run / CORRECTIONS, result["about"]["classes"])
    if names := result["about"].get("held_out"):  # by evaluate --hold-out
        if "source" not in predictions:  # an earlier version trained the run
            predictions = predictions.assign(source=predictions["id"].str.partition("/")[0])
        predictions = held_out(predictions, names)
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
    """The runs whose weights this one started from, most recent first and not evaluated, if their folders exist."""
    found = {evidence.path.resolve(): evidence}
    folder = evidence.starting_run
    while folder is not None and folder not in found and is_run(folder):
        found[folder] = read_evidence(folder, graded=False)
        folder = found[folder].starting_run
    return list(found.values())[1:]


def is_run(folder: Path) -> bool:
    """Whether a folder has the options of a run."""
    return (folder / "config.toml").is_file()
