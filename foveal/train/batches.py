"""The batches of an epoch, and the cost of each with its gradient.

Which images, how balanced, and their random views depend only on (seed, epoch, step), so a resumed run gives the same
result as an uninterrupted one. The cost is the grading loss plus the loss of a second task, if there is one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.augment.recipes import get_recipe
from foveal.augment.views import NetworkInput, draw_views, random_views
from foveal.distributed import place, sum_over_processes
from foveal.errors import FovealError
from foveal.hardware import in_precision
from foveal.nets.heads import Grader
from foveal.schedule import size_in_epoch
from foveal.sets.loader import ImageStore, epoch_batches, step_generator
from foveal.train.learned import Learned
from foveal.train.options import TrainConfig
from foveal.train.task import Task

BETA = 0.999  # of the effective number of images: Cui et al. 2019 try 0.9 to 0.9999; ours have hundreds of images
SECOND_WEIGHT = 0.5  # of the second task's loss, relative to the grading loss, which should dominate


@dataclass(frozen=True, kw_only=True)
class Batch:
    """inputs: [B, C, s, s], or features [B, D] of a frozen encoder. targets: [B, K]. index: int [B], image numbers."""

    inputs: Tensor
    targets: Tensor
    index: np.ndarray


def batches_of_epoch(config: TrainConfig, learned: Learned, store: ImageStore, epoch: int) -> list[np.ndarray]:
    """Index arrays of an epoch, without a last batch that is smaller than `least_batch`."""
    size = config.batch_size
    if config.sampling == "natural":
        batches = epoch_batches(len(store), size, config.seed, epoch, drop_last=False, windows=store.windows)
    else:
        order = balanced(learned.labels, np.random.default_rng([config.seed, epoch]))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batch for batch in batches if len(batch) >= least_batch()]


def least_batch() -> int:
    """Two images, because batch normalisation needs them, and one for each process."""
    return max(2, place()[1])


def feed(
    task: Task, learned: Learned, store: ImageStore, epoch: int, first_step: int, features: Tensor | None
) -> Iterator[Batch]:
    """The batches of an epoch, on the device; taken from `features` [n, D] if the encoder is frozen."""
    config, device = task.config, task.device
    size = size_in_epoch(config.grow_from, config.image_size, epoch, config.epochs)
    seen = NetworkInput(size, task.spec.mean, task.spec.std)
    for number, index in enumerate(batches_of_epoch(config, learned, store, epoch)):
        rows = torch.from_numpy(index)
        targets = learned.targets[rows].to(device)
        if features is not None:
            yield Batch(inputs=features[rows.to(device)], targets=targets, index=index)
            continue
        step = first_step + number
        generator = step_generator(config.seed, step)
        table = draw_views(get_recipe(config.views), len(index), store.image_shape[0], size, generator)
        images = random_views(store.take(index), table, seen, device)
        yield Batch(inputs=images, targets=targets, index=index)


def balanced(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """int [n]: the images of an epoch, drawn with replacement so that every class comes equally often."""
    counts = np.bincount(labels)
    chance = (counts > 0) / (counts > 0).sum() / np.maximum(counts, 1)
    return generator.choice(len(labels), len(labels), p=chance[labels])


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
        """Add the gradient of a batch, part by part; returns its mean cost and probabilities float32 [B, K]. Of several
        processes, each computes some of the parts; gradient, cost and probabilities are those of the batch."""
        whole = (batch.targets @ self.weights).sum()  # each image weighs as its class
        costs, answers = [], torch.zeros(len(batch.index), self.grader.classes, device=self.task.device)
        for part in parts_of(len(batch.index), self.task.config.micro_batch, *place()):
            targets = batch.targets[part]
            with self.autocast:
                inputs = batch.inputs[part]
                features = inputs if self.task.config.freeze else self.grader.encoder(inputs)
                outputs = self.grader.head(features)
            cost = self.task.loss.cost(outputs, targets, self.weights, **self.smoothing)
            cost = cost * ((targets @ self.weights).sum() / whole)
            if self.second is not None and self.grader.second_head is not None:  # of images whose second label is known
                labels = self.second[torch.from_numpy(batch.index[part]).to(self.task.device)]
                second = self.grader.second_head(features).float()
                lost = F.cross_entropy(second, labels, ignore_index=-1, reduction="sum")
                cost = cost + SECOND_WEIGHT * lost / len(batch.index)
            cost.backward()
            costs.append(cost.detach())
            answers[part] = self.grader.logits(outputs.detach().float()).softmax(1)
        for weights in self.grader.parameters():
            if weights.grad is not None:
                weights.grad = sum_over_processes(weights.grad)
        return sum_over_processes(torch.stack(costs).sum()), sum_over_processes(answers)


def parts_of(images: int, most: int, rank: int = 0, world: int = 1) -> list[slice]:
    """Parts of a batch of about equal size, of at most `most` images (0 = do not split): those of one process."""
    each = math.ceil(images / world / most) if most else 1
    edges = np.linspace(0, images, world * each + 1).round().astype(int)
    return [slice(int(start), int(stop)) for start, stop in pairwise(edges)][rank * each : (rank + 1) * each]


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
