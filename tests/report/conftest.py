"""Run folders written by hand: no training, no pixels but a few drawn squares."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import tomli_w

from foveal.report.build import ReportConfig, report

CLASSES = ("none", "mild", "severe")


def _write_grader(
    run: Path, *, right: float = 0.9, classes: Sequence[str] = CLASSES, task: str = "grading", count: int = 60,
    split: str = "test", **options: Any,
) -> Path:  # fmt: skip
    """A finished grader that gives `right` of its images their own class, the others the next one."""
    run.mkdir(parents=True)
    referable = 1 if task == "grading" else None
    own = {"verb": "train", "data": "ph", "out": run.name, "init": "random", "encoder": "tiny", "epochs": 3}
    model = {"kind": "grader", "classes": list(classes), "task": task, "referable_from": referable, "best_epoch": 2}
    part = {"images": count, "groups": count // 2, "per_class": dict.fromkeys(classes, count // len(classes))}
    card = {
        "name": "drawn", "title": "Drawn squares", "classes": list(classes), "scale": "none", "fundus": True,
        "counts": dict.fromkeys(("train", "val", "test"), part), "options": {"size": 8, "crop": "none"},
        "rejected": 2, "licence": "free", "reference": "", "content_hash": "abc",
    }  # fmt: skip
    recalls = [0.5, None, *[1.0] * (len(classes) - 2)]
    rows = [
        {"step": 2 * epoch, "epoch": epoch, "loss": 1 / epoch, "train_accuracy": 0.5, "train_kappa": 0.4,
         "val_loss": 1.0, "val_accuracy": 0.5, "val_kappa": kappa, "val_recall": recalls}
        for epoch, kappa in ((1, 0.3), (2, 0.6), (3, 0.6))
    ]  # fmt: skip
    provenance = {"command": "foveal train", "started": "2026-01-02T03:04:05+00:00", "data": {"ph": "abc"}}
    write_files(run, own | options, {"model": model, "card": card, "provenance": provenance}, rows)
    table = predictions(right, len(classes), count, split, referable is not None)
    table.to_csv(run / "predictions.csv", index=False)
    write_mistakes(run, table)
    (run / "seen.csv").write_text("sha256,id,set\n0,other,ph\n", encoding="utf-8")
    return run


def _write_pretraining(run: Path, **options: Any) -> Path:
    """A finished pre-training."""
    run.mkdir(parents=True)
    own = {"verb": "pretrain", "data": ["ph"], "out": run.name, "init": "random", "method": "simclr", "epochs": 2}
    rows = [{"step": n, "epoch": n, "loss": 4 - n, "alignment": 0.5, "uniformity": -1.0} for n in (1, 2)]
    health = {
        "verdict": "no fault found",
        "reasons": ["loss between its bounds"],
        "loss_floor": 0.5,
        "loss_chance": 4.8,
    }
    write_files(run, own | options, {"model": {"kind": "encoder"}, "health": health, "provenance": {}}, rows)
    (run / "seen.csv").write_text("sha256,id,set\n0,other,ph\n", encoding="utf-8")
    return run


def write_files(run: Path, options: dict, documents: dict[str, dict], rows: list[dict]) -> None:
    (run / "config.toml").write_text(tomli_w.dumps(options), encoding="utf-8")
    for name, document in documents.items():
        (run / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def predictions(right: float, classes: int, count: int, split: str, referable: bool) -> pd.DataFrame:
    number = np.arange(count)
    labels = number % classes
    grades = np.where(number < right * count, labels, (labels + 1) % classes)
    table = pd.DataFrame({"id": [f"i{n}" for n in number], "label": labels})
    for k in range(classes):
        table[f"p{k}"] = np.where(grades == k, 1 - 0.1 * (classes - 1), 0.1).round(6)
    group = [f"g{n // 2}" for n in number]
    return table.assign(grade=grades, referable=(grades > 0).astype(int) if referable else "", group=group, split=split)


def write_mistakes(run: Path, table: pd.DataFrame) -> None:
    wrong = table[table["label"] != table["grade"]]
    wrong = wrong.assign(probability=0.8, distance=(wrong["label"] - wrong["grade"]).abs(), picture="")
    wrong.loc[wrong.index[:1], "picture"] = "00.jpg"
    columns = ["id", "split", "label", "grade", "probability", "distance", "picture"]
    wrong[columns].to_csv(run / "misgraded.csv", index=False)
    (run / "misgraded").mkdir()
    square = cv2.imencode(".jpg", np.full((400, 400, 3), 90, np.uint8))[1].tobytes()
    (run / "misgraded" / "00.jpg").write_bytes(square)


@pytest.fixture
def write_grader() -> Callable[..., Path]:
    """Writes a finished grader."""
    return _write_grader


@pytest.fixture
def write_pretraining() -> Callable[..., Path]:
    """Writes a finished pre-training."""
    return _write_pretraining


@pytest.fixture
def page_of() -> Callable[..., str]:
    """The page on some runs."""
    return lambda *runs, **options: report(ReportConfig(runs=runs, **options)).read_text(encoding="utf-8")


@pytest.fixture
def full_run(tmp_path) -> Path:
    """A grader with all that other verbs add; its figures are made up, and are found again on the page."""
    run = _write_grader(tmp_path / "full", scale="none")
    write_metrics(run)
    write_companions(run)
    return run


def write_metrics(run: Path) -> None:
    """A metrics.json with every part that an evaluation can write."""
    table = pd.read_csv(run / "predictions.csv")
    confusion = pd.crosstab(table["label"], table["grade"]).to_numpy().tolist()
    entry = {"value": 0.8125, "low": 0.7031, "high": 0.9016, "n": 60, "constant": 0.3333, "noise": 0.1234}
    names = ["accuracy", "quadratic_kappa", "linear_kappa", "macro_f1", "referable_auc", "sight_threatening_auc",
             "mean_absolute_error", "expected_calibration_error", "brier"]  # fmt: skip
    names += [f"{kind} of {name}" for kind in ("precision", "recall", "f1", "auc") for name in CLASSES]
    share = {"value": 0.8765, "low": 0.7654, "high": 0.9543, "n": 40}
    point = {
        "target": "referable", "name": "90 % sensitivity", "threshold": 0.345, "chosen_on": "val", "chosen_n": 77,
        "chosen_positive": 33, "sensitivity": share, "specificity": {**share, "value": 0.6543, "n": 20},
        "positive_predictive_value": {**share, "value": 0.777, "prevalence": 0.6667},
        "negative_predictive_value": {**share, "value": 0.5432, "prevalence": 0.6667}, "referred": 0.7037,
    }  # fmt: skip
    given = point | {
        "name": "grade given", "threshold": None, "chosen_on": None, "chosen_n": None, "chosen_positive": None,
        "sensitivity": {**share, "value": 0.8321}, "positive_predictive_value": {**share, "value": 0.7123,
                                                                                  "prevalence": 0.6667},
    }  # fmt: skip
    curve = {"roc": [[0, 0], [0.1, 0.55], [1, 1]], "precision_recall": [[0, 1], [0.9, 0.8], [1, 0.6667]]}
    group = {"column": "camera", "value": "Kowa", "n": 44, "groups": 22, "small": False,
             "metrics": {"quadratic_kappa": {**entry, "value": 0.4321}, "accuracy": entry}}  # fmt: skip
    few = {**group, "value": "Optos", "n": 4, "groups": 2, "small": True}
    bins = [{"low": 0.1, "high": 0.5, "confidence": 0.41, "accuracy": 0.31, "n": 30},
            {"low": 0.5, "high": 1.0, "confidence": 0.82, "accuracy": 0.72, "n": 30}]  # fmt: skip
    about = {"split": "test", "images": 60, "groups": 30, "classes": list(CLASSES), "referable_from": 1,
             "sight_threatening_from": 2, "resamples": 100, "seed": 0, "inter_rater": 0.84,
             "coverage": 0.9}  # fmt: skip
    held = {"coverage": {**share, "value": 0.9123, "low": 0.85, "high": 0.96, "n": 60},
            "coverage of none": {**share, "value": 0.7011, "low": 0.6, "high": 0.8, "n": 20},
            "size": {**share, "value": 1.5}, "single": {**share, "value": 0.5}}  # fmt: skip
    level = {
        "change": "jpeg",
        "level": 30,
        "words": "quality 30",
        "holds": False,
        "changed": {**share, "value": 0.2345},
        "quadratic_kappa": {**entry, "value": 0.5432},
        "differences": {"quadratic_kappa": {"value": -0.2693, "low": -0.3, "high": -0.2, "answer": "worse"}},
    }
    altered = {"about": {"photographs": 57, "groups": 29, "size": 8, "margin": 0.05, "most_changed": 0.2},
               "untouched": {"quadratic_kappa": entry},
               "levels": [{**level, "level": 80, "words": "quality 80", "holds": True}, level]}  # fmt: skip
    (run / "metrics.json").write_text(json.dumps({
        "metrics": dict.fromkeys(names, entry), "confusion": confusion, "constant_answer": "none", "about": about,
        "curves": {"referable": curve, "sight_threatening": curve}, "reliability": {"bins": bins, "luck": 0.0505},
        "operating_points": [given, point], "subgroups": [group, few], "sets": held,
        "stress": altered,
    }), encoding="utf-8")  # fmt: skip


def write_companions(run: Path) -> None:
    """Doubts and one explained image."""
    rows = [("i1", 1, 0.05, 0.9512, 2), ("i2", 2, 0.7, 0.2, 2)]
    columns = ["id", "label", "probability", "suspicion", "likely"]
    pd.DataFrame(rows, columns=columns).to_csv(run / "label_noise.csv", index=False)
    write_explained(run)


def write_explained(run: Path) -> None:
    """Two maps, one of them of the first misgraded image."""
    (run / "explain" / "maps").mkdir(parents=True)
    (run / "explain" / "maps" / "0.jpg").write_bytes((run / "misgraded" / "00.jpg").read_bytes())
    misgraded = pd.read_csv(run / "misgraded.csv", keep_default_na=False)
    first = misgraded["id"][misgraded["picture"] == "00.jpg"].iloc[0]
    image = {"file": "x.jpg", "overlay": "maps/0.jpg", "grade": 1, "label": 2, "border_energy": 0.31, "alarm": True}
    explained = {"method": "gradcam", "target": "referable", "images": [{**image, "id": first}, {**image, "id": "i3"}]}
    (run / "explain" / "explain.json").write_text(json.dumps(explained), encoding="utf-8")
