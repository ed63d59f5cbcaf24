"""What one epoch of training leaves behind: features, logits, figures for metrics.jsonl, and a line for people."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.augment.views import NetworkInput, plain_view
from foveal.losses.grading import GradingLoss, decide, to_logits
from foveal.losses.targets import one_hot
from foveal.metrics import accuracy, confusion_matrices, macro_f1, quadratic_kappa, recall
from foveal.nets.batchnorm import re_estimate
from foveal.nets.heads import Grader
from foveal.predict.features import EVALUATION_BATCH, encode
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet

RE_ESTIMATED_ON = 1024  # images: the mean of 16 batches, which knows the statistics to a few per cent


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Standardised features [n, D] of what is learned from, and the mean and spread [D] that were taken out."""

    features: Tensor
    centre: Tensor
    spread: Tensor


class Judged:
    """The validation part: its images or features, its labels, and the last answers to it."""

    def __init__(self, prepared: PreparedSet, records: pd.DataFrame, spec: NetworkInput, device: torch.device) -> None:
        self.store, self.spec, self.device = ImageStore([(prepared, records)]), spec, device
        self.ids, self.labels = list(records["id"]), records["label"].to_numpy(np.int64)
        self.features: Tensor | None = None
        self.grades = np.empty(0, np.int64)
        self.probabilities = np.empty((0, 0), np.float32)


def judge(judged: Judged, grader: Grader, loss: GradingLoss, weights: Tensor, epoch: int) -> dict[str, Any]:
    """Loss, accuracy, kappa, macro F1 and recall of the validation part, for metrics.jsonl; the answers are kept."""
    grader.eval()
    classes = grader.classes
    features = judged.features
    if features is None:
        features = encode(grader.encoder, judged.store, judged.spec, judged.device)
    with torch.inference_mode():
        outputs = grader.head(features).float().cpu()
        probabilities = to_logits(outputs, loss.form, classes).softmax(1)
        cost = loss.cost(outputs, one_hot(torch.from_numpy(judged.labels), classes), weights)
        refuse_divergence(float(cost), probabilities, "validation", epoch)
        judged.grades = decide(probabilities, loss.decision).numpy()
        judged.probabilities = probabilities.numpy()
    return {"val_loss": float(cost)} | summarise("val", judged.labels, judged.grades, classes)


def refuse_divergence(loss: float, probabilities: Tensor, part: str, epoch: int) -> None:
    """ValueError where a loss, or probabilities [n, K], are no numbers any more."""
    if not math.isfinite(loss) or not probabilities.isfinite().all():
        raise ValueError(
            f"training has diverged: in epoch {epoch} the {part} loss is {loss}. What was saved is from the epoch "
            "before, if there was one; start again with another --out and a lower --learning-rate (config.toml has the "
            "present one)"
        )


def re_estimated(grader: Grader, store: ImageStore, spec: NetworkInput, device: torch.device, seed: int) -> None:
    """Batch statistics of the encoder anew, from plain views of training images; its mode says which layers learn."""
    chosen = np.random.default_rng(seed).permutation(len(store))[:RE_ESTIMATED_ON]

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(chosen), EVALUATION_BATCH):
            part = chosen[start : start + EVALUATION_BATCH]
            if len(part) > 1:
                yield plain_view(store.gather(part), spec, device)

    re_estimate(grader.encoder, batches())


def summarise(part: str, labels: np.ndarray, grades: np.ndarray, classes: int) -> dict[str, Any]:
    """Accuracy, quadratic kappa, macro F1 and recall per class of one part, for metrics.jsonl."""
    confusion = confusion_matrices(labels, grades, np.zeros_like(labels), classes)[0]
    recalls = [None if math.isnan(value) else round(float(value), 4) for value in recall(confusion)]
    kappa = float(quadratic_kappa(confusion))
    return {
        f"{part}_accuracy": float(accuracy(confusion)),
        f"{part}_kappa": 0.0 if math.isnan(kappa) else kappa,
        f"{part}_macro_f1": float(macro_f1(confusion)),
        f"{part}_recall": recalls,
        f"{part}_constant": bool((confusion.sum(0) > 0).sum() == 1),
    }


def selection_score(row: dict[str, Any], what: str, epoch: int) -> tuple[float, float]:
    """What the best epoch has most of: the chosen figure of the validation part, then low loss; else the last."""
    if "val_loss" not in row:
        return (float(epoch), 0.0)
    value = -row["val_loss"] if what == "loss" else row[f"val_{what}"]
    return (value, -row["val_loss"])


def note(row: dict[str, Any]) -> str:
    """One line of an epoch for people."""
    text = f"loss {row['loss']:.3f} accuracy {row['train_accuracy']:.3f} kappa {row['train_kappa']:.3f}"
    text += " (all given one class!)" if row["train_constant"] else ""
    if "val_loss" in row:
        text += f" | val loss {row['val_loss']:.3f} accuracy {row['val_accuracy']:.3f} kappa {row['val_kappa']:.3f}"
        text += " (all given one class!)" if row["val_constant"] else ""
    return f"{text} | {row['images_per_second']:,.0f} images/s wait {row['data_wait']:.0%}"
