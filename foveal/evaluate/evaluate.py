"""evaluate: predictions.csv -> metrics.json, every value with an interval, n and what a constant answer would reach.

foveal evaluate RUN
foveal evaluate predictions.csv --out metrics.json
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro

from foveal.console import say, show_table, warn
from foveal.evaluate import metrics
from foveal.evaluate.intervals import draw_counts, percentile_interval
from foveal.evaluate.predictions import probability_columns, read_predictions, units
from foveal.runs import write_json, write_text

SMALL_CLASS = 10  # images; below this a per-class figure is little more than an anecdote


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Options of `foveal evaluate`."""

    # A run folder, or a predictions.csv.
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # File to write; by default metrics.json beside the predictions.
    out: Path | None = None
    # Part to evaluate; auto takes test where there is one, else all labelled rows.
    split: Literal["auto", "train", "val", "test", "all"] = "auto"
    # Lowest grade that is referred; by default 2 on the ICDR scale, none without a severity scale.
    referable_from: int | None = None
    # Bootstrap resamples for the intervals.
    resamples: int = 1000
    # Seed of the resamples.
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise ValueError(f"--resamples must be at least 100 for a 95 % interval, got {self.resamples}")


def evaluate(config: EvaluateConfig) -> Path:
    """Measure predictions against labels and write metrics.json; returns its path."""
    file = config.source / "predictions.csv" if config.source.is_dir() else config.source
    table, split = choose_rows(read_predictions(file), config.split)
    model = _model_beside(file)
    names = model.get("classes") or [str(number) for number in range(len(probability_columns(table)))]
    referable_from = config.referable_from
    if referable_from is None and table["referable"].notna().any():
        referable_from = model.get("referable_from", 2)
    ordered = model.get("task", "grading") == "grading"
    result = measure(table, names, referable_from, ordered=ordered, resamples=config.resamples, seed=config.seed)
    result["about"] = {
        "predictions": file.name, "split": split, "images": len(table), "groups": int(units(table).max() + 1),
        "classes": names, "referable_from": referable_from, "resamples": config.resamples, "seed": config.seed,
        "interval": "95 %, percentile bootstrap over groups",
    }  # fmt: skip
    out = config.out or file.with_name("metrics.json")
    write_json(out, result)
    confusion = pd.DataFrame(result["confusion"], index=pd.Index(names, name="true \\ given"), columns=names)
    write_text(out.with_name("confusion.csv"), confusion.to_csv(lineterminator="\n"))
    show(result)
    say(f"metrics: {out}")
    return out


def choose_rows(table: pd.DataFrame, split: str) -> tuple[pd.DataFrame, str]:
    """The labelled rows of a part, and the part's name; ValueError when there is none."""
    labelled = table[table["label"].notna()]
    if split == "auto":
        split = "test" if (labelled["split"] == "test").any() else "all"
    chosen = labelled if split == "all" else labelled[labelled["split"] == split]
    if len(chosen) < 2:
        there = ", ".join(f"{n} {name or 'without split'}" for name, n in labelled["split"].value_counts().items())
        raise ValueError(
            f"--split {split}: {len(chosen)} labelled rows; metrics need at least 2 (there are: {there or 'none'})"
        )
    return chosen.reset_index(drop=True), split


def measure(
    table: pd.DataFrame, names: list[str], referable_from: int | None, *, ordered: bool, resamples: int, seed: int
) -> dict[str, Any]:
    """{"metrics": name -> value, low, high, n, constant; "confusion": K x K} for labelled rows.

    Kappa by distance is left out where the classes have no order.
    """
    labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
    groups = units(table)
    tables = metrics.confusion_matrices(labels, grades, groups, len(names))
    total = tables.sum(0)
    counts = draw_counts(len(tables), resamples, np.random.default_rng(seed))
    drawn = np.tensordot(counts, tables, 1)
    answer = int(np.bincount(labels, minlength=len(names)).argmax())
    constant = np.zeros_like(total)
    constant[:, answer] = total.sum(1)
    found: dict[str, Any] = {}

    def add(name: str, value: float, resampled: np.ndarray, baseline: float, n: int) -> None:
        low, high = percentile_interval(resampled)
        entry = {"value": value, "low": low, "high": high, "n": n, "constant": baseline}
        found[name] = {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in entry.items()}

    overall = (
        ("accuracy", metrics.accuracy),
        ("quadratic_kappa", metrics.quadratic_kappa),
        ("macro_f1", metrics.macro_f1),
    )
    for name, metric in overall:
        if name == "quadratic_kappa" and not ordered:
            continue
        add(name, float(metric(total)), metric(drawn), float(metric(constant)), len(table))
    if referable_from is not None and 0 < referable_from < len(names):
        scores = table[[f"p{k}" for k in range(referable_from, len(names))]].to_numpy(float).sum(1)
        positive = labels >= referable_from
        area = metrics.area_under_curve(scores, positive, [np.ones(len(table))])[0]
        resampled = metrics.area_under_curve(scores, positive, (row[groups] for row in counts))
        add("referable_auc", float(area), resampled, 0.5, len(table))
    # The n of a precision is the images that were given the class, that of a recall those that have it.
    sizes = {"precision": total.sum(0), "recall": total.sum(1)}
    for what, metric in (("precision", metrics.precision), ("recall", metrics.recall)):
        values, resampled, baseline = metric(total), metric(drawn), metric(constant)
        for k, name in enumerate(names):
            add(f"{what} of {name}", float(values[k]), resampled[:, k], float(baseline[k]), int(sizes[what][k]))
    return {"metrics": found, "confusion": total.astype(int).tolist(), "constant_answer": names[answer]}


def show(result: dict[str, Any]) -> None:
    """Print the metrics as a table, and what to beware of."""
    about = result["about"]
    rows = []
    for name, entry in result["metrics"].items():
        interval = f"{_number(entry['low'])} – {_number(entry['high'])}"
        rows.append([name, _number(entry["value"]), interval, str(entry["n"]), _number(entry["constant"])])
    title = f"{about['split']}: {about['images']} images in {about['groups']} groups"
    show_table(title, ["metric", "value", "95 % interval", "n", f"always '{result['constant_answer']}'"], rows)
    confusion = np.array(result["confusion"])
    for name, n in zip(about["classes"], confusion.sum(1), strict=True):
        if n < SMALL_CLASS:
            warn(f"only {n} images of '{name}': its figures say little")
    if (confusion.sum(0) > 0).sum() == 1:
        warn("every image was given the same class: this grader has learned nothing")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _model_beside(file: Path) -> dict[str, Any]:
    model = file.with_name("model.json")
    return dict(json.loads(model.read_text(encoding="utf-8"))) if model.is_file() else {}
