"""The cost of a batch and its gradient: the grading loss plus the loss of a second task, if there is one."""

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.distributed import place, sum_over_processes, together
from foveal.errors import FovealError
from foveal.hardware import in_precision
from foveal.losses.grading import importance
from foveal.nets.heads import Grader
from foveal.train.feed import Batch
from foveal.train.learned import Learned
from foveal.train.task import Task

BETA = 0.999  # of the effective number of images: Cui et al. 2019 try 0.9 to 0.9999; ours have hundreds of images
SECOND_WEIGHT = 0.5  # of the second task's loss, relative to the grading loss, which should dominate


class Objective:
    """weights: class weights float32 [K], on the device."""

    def __init__(self, task: Task, learned: Learned, grader: Grader) -> None:
        self.task, self.grader = task, grader
        weights = class_weights(learned.labels, grader.classes, task.config.class_weights)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=task.device)
        self.smoothing = {"label_smoothing": task.config.label_smoothing} if task.loss.smooths else {}
        self.second = None if learned.second is None else torch.from_numpy(learned.second).to(task.device)
        self.autocast = in_precision(task.config.precision, task.device)

    def backward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Add the gradient of a batch, part by part; returns its mean cost and probabilities float32 [B, K].

        Of several processes, each computes some of the parts; gradient, cost and probabilities are those of the batch.
        """
        whole = importance(batch.targets, self.weights).sum()
        costs, answers = [], torch.zeros(len(batch.index), self.grader.classes, device=self.task.device)
        for part in parts_of(len(batch.index), self.task.config.micro_batch, *place()):
            targets = batch.targets[part]
            with self.autocast:
                features = batch.inputs[part]
                if not self.task.config.freeze:
                    features = self.grader.encoder(features)
                outputs = self.grader.head(features)
            cost = self.task.loss.cost(outputs, targets, self.weights, **self.smoothing)
            cost = cost * (importance(targets, self.weights).sum() / whole)
            if self.second is not None:
                cost = cost + SECOND_WEIGHT * self._second(features, batch.index[part]) / len(batch.index)
            cost.backward()
            costs.append(cost.detach())
            answers[part] = self.grader.logits(outputs.detach().float()).softmax(1)
        if together():
            for weights in self.grader.parameters():
                if weights.grad is not None:
                    weights.grad = sum_over_processes(weights.grad)
        return sum_over_processes(torch.stack(costs).sum()), sum_over_processes(answers)

    def _second(self, features: Tensor, index: np.ndarray) -> Tensor:
        """Summed cross-entropy of the second task, over the images whose second label is known."""
        assert self.second is not None and self.grader.second_head is not None
        labels = self.second[torch.from_numpy(index).to(self.task.device)]
        return F.cross_entropy(self.grader.second_head(features).float(), labels, ignore_index=-1, reduction="sum")


def parts_of(images: int, most: int, rank: int = 0, world: int = 1) -> list[slice]:
    """Parts of a batch of about equal size, of at most `most` images (0 = do not split): those of one process."""
    each = math.ceil(images / world / most) if most else 1
    edges = np.linspace(0, images, world * each + 1).round().astype(int)
    slices = [slice(int(start), int(stop)) for start, stop in pairwise(edges)]
    return slices[rank * each : (rank + 1) * each]


def class_weights(labels: np.ndarray, classes: int, how: str) -> np.ndarray:
    """float [K] with a mean of 1 over the labels; FovealError if a class has no image.

    `none` all 1; `balanced` n / (K count); `root` the square root of that; `effective` as Cui et al. 2019, eq. 2: a
    class of n images counts as (1 - b^n) / (1 - b).
    """
    if how == "none":
        return np.ones(classes)
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any():
        missing = ", ".join(map(str, np.flatnonzero(counts == 0)))
        what = f"class {missing} has no training image, so it has no class weight"
        fix = "merge classes with `foveal prepare --classes`, or use --class-weights none"
        raise FovealError("label.missing_class", what, fix=fix)
    balanced = counts.sum() / (classes * counts)
    weights = {"balanced": balanced, "root": np.sqrt(balanced), "effective": (1 - BETA) / (1 - BETA**counts)}[how]
    return weights * counts.sum() / (weights * counts).sum()
