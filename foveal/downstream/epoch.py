"""What one epoch of training leaves behind: features, logits, figures for metrics.jsonl, and a line for people."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal.augment.views import NetworkInput, plain_view
from foveal.data.loader import ImageStore
from foveal.evaluate.metrics import accuracy, confusion_matrices, quadratic_kappa, recall

EVALUATION_BATCH = 64


@torch.inference_mode()
def encode(encoder: nn.Module, store: ImageStore, spec: NetworkInput, device: torch.device) -> Tensor:
    """Features [n, D] of all images of a store, in order, by an encoder in evaluation mode."""
    starts = range(0, len(store), EVALUATION_BATCH)
    parts = [np.arange(start, min(start + EVALUATION_BATCH, len(store))) for start in starts]
    features = torch.cat([encoder(plain_view(store.gather(part), spec, device)).float() for part in parts])
    return features.clone()


def grade(
    model: nn.Module, features: Tensor | None, store: ImageStore, spec: NetworkInput, device: torch.device
) -> Tensor:
    """Logits [n, K] on the CPU of a validation part, from features or images, in evaluation mode."""
    model.eval()
    if features is None:
        return encode(model, store, spec, device).cpu()
    with torch.inference_mode():
        return model(features).float().cpu().clone()


def summarise(part: str, labels: np.ndarray, grades: np.ndarray, classes: int) -> dict[str, Any]:
    """Accuracy, quadratic kappa and recall per class of one part, for metrics.jsonl."""
    confusion = confusion_matrices(labels, grades, np.zeros_like(labels), classes)[0]
    recalls = [None if math.isnan(value) else round(float(value), 4) for value in recall(confusion)]
    kappa = float(quadratic_kappa(confusion))
    return {
        f"{part}_accuracy": float(accuracy(confusion)),
        f"{part}_kappa": 0.0 if math.isnan(kappa) else kappa,
        f"{part}_recall": recalls,
        f"{part}_constant": bool((confusion.sum(0) > 0).sum() == 1),
    }


def selection_score(row: dict[str, Any], task: str, epoch: int) -> tuple[float, float]:
    """What the best epoch has most of: validation kappa (graded classes) or accuracy, then low loss; else the last."""
    if "val_loss" not in row:
        return (float(epoch), 0.0)
    return (row["val_kappa"] if task == "grading" else row["val_accuracy"], -row["val_loss"])


def note(row: dict[str, Any]) -> str:
    """One line of an epoch for people."""
    text = f"loss {row['loss']:.3f} accuracy {row['train_accuracy']:.3f} kappa {row['train_kappa']:.3f}"
    if "val_loss" in row:
        text += f" | val loss {row['val_loss']:.3f} accuracy {row['val_accuracy']:.3f} kappa {row['val_kappa']:.3f}"
        text += " (all given one class!)" if row["val_constant"] else ""
    return f"{text} | {row['images_per_second']:,.0f} images/s wait {row['data_wait']:.0%}"
