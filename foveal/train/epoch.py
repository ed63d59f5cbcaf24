"""The results of an epoch: grades of the validation images, metrics for metrics.jsonl and a line for the terminal."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.augment.views import plain_view
from foveal.errors import FovealError
from foveal.losses.grading import one_hot
from foveal.metrics import accuracy, confusion_matrix, macro_f1, precision, quadratic_kappa, recall
from foveal.nets.heads import Grader
from foveal.nets.layers import re_estimate
from foveal.predict.features import EVALUATION_BATCH, encode
from foveal.readout.decisions import decide
from foveal.sets.loader import ImageStore
from foveal.train.task import Task

RE_ESTIMATED_ON = 1024  # images: 16 batches, enough to estimate the statistics to within a few per cent


class Judged:
    """The validation part: its images (or the features of a frozen encoder), labels and latest predictions."""

    def __init__(self, task: Task, records: pd.DataFrame) -> None:
        self.task, self.store = task, ImageStore([(task.prepared, records)])
        self.ids, self.labels = list(records["id"]), records["label"].to_numpy(np.int64)
        self.features: Tensor | None = None
        self.grades, self.probabilities = np.empty(0, np.int64), np.empty((0, 0), np.float32)

    def judge(self, grader: Grader, weights: Tensor, epoch: int) -> dict[str, Any]:
        """Grade the images, without flips: loss (with class weights [K]) and figures for metrics.jsonl."""
        loss, features = self.task.loss, self.features
        grader.eval()
        if features is None:
            features = encode(grader.encoder, self.store, self.task.spec, self.task.device)
        with torch.inference_mode():
            outputs = grader.head(features).float().cpu()
            probabilities = grader.logits(outputs).softmax(1)
            cost = loss.cost(outputs, one_hot(torch.from_numpy(self.labels), grader.classes), weights)
            refuse_divergence(float(cost), probabilities, "validation", epoch)
            self.probabilities = probabilities.numpy()
            self.grades = decide(self.probabilities, self.task.decision)
        return {"val_loss": float(cost)} | summarise("val", self.labels, self.grades, grader.classes)


def refuse_divergence(loss: float, probabilities: Tensor, part: str, epoch: int) -> None:
    """FovealError if a loss or probabilities [n, K] are not finite."""
    if not math.isfinite(loss) or not probabilities.isfinite().all():
        what = f"training diverged: the {part} loss of epoch {epoch} is {loss}"
        fix = "start again with another --out and a lower --learning-rate than the one in config.toml"
        raise FovealError("training.diverged", what, fix=fix)


def re_estimate_statistics(task: Task, grader: Grader, store: ImageStore) -> None:
    """Re-estimate the encoder's batch statistics from plain training images, for layers in training mode."""
    chosen = np.random.default_rng(task.config.seed).permutation(len(store))[:RE_ESTIMATED_ON]
    parts = [chosen[start : start + EVALUATION_BATCH] for start in range(0, len(chosen), EVALUATION_BATCH)]
    views = (plain_view(store.gather(part), task.spec, task.device) for part in parts if len(part) > 1)
    re_estimate(grader.encoder, views)


def summarise(part: str, labels: np.ndarray, grades: np.ndarray, classes: int) -> dict[str, Any]:
    """Accuracy, quadratic kappa, macro F1, and precision and recall of each class of one part, for metrics.jsonl."""
    confusion = confusion_matrix(labels, grades, classes)
    kappa = float(quadratic_kappa(confusion))
    figures = {
        "accuracy": float(accuracy(confusion)), "kappa": 0.0 if math.isnan(kappa) else kappa,
        "macro_f1": float(macro_f1(confusion)),
        **{of.__name__: [None if math.isnan(value) else round(float(value), 4) for value in of(confusion)]
           for of in (precision, recall)},
        "constant": bool((confusion.sum(0) > 0).sum() == 1),
    }  # fmt: skip
    return {f"{part}_{name}": figure for name, figure in figures.items()}


def selection_score(row: dict[str, Any], task: Task) -> tuple[float, float]:
    """The best epoch has the highest: its figure, then the lowest validation loss; without validation, the last."""
    return (row[f"val_{task.figure}"], -row["val_loss"]) if "val_loss" in row else (float(row["epoch"]), 0.0)


def note(row: dict[str, Any]) -> str:
    """One line about an epoch for the terminal."""
    parts = [
        f"{name}loss {row[loss]:.3f} accuracy {row[f'{part}_accuracy']:.3f} kappa {row[f'{part}_kappa']:.3f}"
        + (" (all images got the same grade!)" if row[f"{part}_constant"] else "")
        for name, part, loss in (("", "train", "loss"), ("val ", "val", "val_loss")) if loss in row
    ]  # fmt: skip
    return " | ".join([*parts, f"{row['images_per_second']:,.0f} images/s, waiting {row['data_wait']:.0%}"])
