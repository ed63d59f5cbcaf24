"""What is learned from: training images with their targets, pseudo-labels among them, and a second task's labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.console import warn
from foveal.losses.targets import one_hot
from foveal.sets.records import PreparedSet
from foveal.train.balance import class_weights
from foveal.train.options import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Images and their targets.

    parts: prepared sets with the records that are used of each, graded ones first. labels int64 [n]: the grade, or the
    likeliest one of a soft pseudo-label. targets float32 [n, K]. second: int64 [n], -1 where unknown; None without it.
    """

    parts: Sequence[tuple[PreparedSet, pd.DataFrame]]
    labels: np.ndarray
    targets: Tensor
    second: np.ndarray | None = None
    second_classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> list[str]:
        """The id of each image."""
        return [name for _, records in self.parts for name in records["id"]]

    def rows(self, chosen: np.ndarray) -> Learned:
        """A part of the images of the first set, by position, with all pseudo-labelled images."""
        graded = len(self.parts[0][1])
        kept = np.concatenate([np.flatnonzero(chosen), np.arange(graded, len(self))])
        first = (self.parts[0][0], self.parts[0][1][chosen])
        return Learned(
            parts=[first, *self.parts[1:]], labels=self.labels[kept], targets=self.targets[torch.from_numpy(kept)],
            second=None if self.second is None else self.second[kept], second_classes=self.second_classes,
        )  # fmt: skip


def learned_from(
    prepared: PreparedSet, records: pd.DataFrame, pseudo: Sequence[tuple[PreparedSet, pd.DataFrame, np.ndarray]],
    second: str | None,
) -> Learned:  # fmt: skip
    """The training part and pseudo-labelled images (set, records, targets [m, K]); `second`: a column of columns.csv.

    Raises ValueError where nothing can be learned.
    """
    if not len(records):
        raise ValueError(f"{prepared.path} has no labelled training images; `foveal prepare` a source that has labels")
    if records["label"].nunique() < 2:
        raise ValueError(
            f"{prepared.path}: all training images have the same label; a grader needs at least two classes"
        )
    absent = [name for k, name in enumerate(prepared.classes) if k not in set(records["label"])]
    if absent:
        warn(f"no training image of {', '.join(absent)}: this grader cannot learn to tell what it has never seen")
    labels, size = records["label"].to_numpy(np.int64), len(prepared.classes)
    targets = [one_hot(torch.from_numpy(labels), size), *(torch.tensor(rows) for _, _, rows in pseudo)]
    parts = [(prepared, records), *((pool, chosen) for pool, chosen, _ in pseudo)]
    grades = np.concatenate([labels, *(rows.argmax(1) for _, _, rows in pseudo)])
    if second is None:
        return Learned(parts=parts, labels=grades, targets=torch.cat(targets))
    codes, names = second_labels(prepared, records, second)
    unknown = np.full(len(grades) - len(labels), -1)
    return Learned(
        parts=parts, labels=grades, targets=torch.cat(targets), second=np.concatenate([codes, unknown]),
        second_classes=names,
    )  # fmt: skip


def second_labels(prepared: PreparedSet, records: pd.DataFrame, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(int64 [n], class names) of a second task; -1 where the set does not say. Names are in order of the whole set."""
    values = prepared.columns
    if column not in values:
        there = ", ".join(map(str, values.columns)) or "none: its source had no other columns"
        raise ValueError(f"--second {column}: {prepared.path} keeps no such column; there are: {there}")
    said = values[column].reindex(records["id"]).fillna("").astype(str)
    names = tuple(sorted({value for value in values[column].fillna("").astype(str) if value}))
    if not 2 <= len(names) <= 10:
        raise ValueError(f"--second {column}: it has {len(names)} different values; a second task needs 2 to 10")
    return said.map({name: number for number, name in enumerate(names)}).fillna(-1).to_numpy(np.int64), names


def weights_of(learned: Learned, config: TrainConfig, classes: int) -> Tensor:
    """Class weights float32 [K] of what is learned from."""
    return torch.tensor(class_weights(learned.labels, classes, config.class_weights), dtype=torch.float32)


def warn_of_both(config: TrainConfig) -> None:
    """Say so where rare classes are weighed up twice."""
    if config.sampling != "natural" and config.class_weights != "none":
        warn(
            f"--sampling {config.sampling} and --class-weights {config.class_weights} both favour rare classes: what "
            "is rare counts twice. Use one of them (--class-weights none)"
        )
