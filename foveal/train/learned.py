"""The training data: images and their targets, including pseudo-labelled ones, and labels of a second task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.console import warn
from foveal.errors import FovealError
from foveal.losses.grading import one_hot
from foveal.sets.records import PreparedSet

MOST_SECOND = 10  # classes of a second task: a column with more values probably holds numbers or names


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Training images and their targets.

    parts: prepared sets with the records used from each; graded images come first. labels: int64 [n], the grade, or
    the most probable grade of a soft pseudo-label. targets: float32 [n, K]. second: int64 [n], labels of the second
    task, -1 if unknown; None without a second task.
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
        """The images of the first set that `chosen`, bool [m], selects, and all pseudo-labelled images."""
        graded = len(self.parts[0][1])
        kept = np.concatenate([np.flatnonzero(chosen), np.arange(graded, len(self))])
        first = (self.parts[0][0], self.parts[0][1][chosen])
        return Learned(
            parts=[first, *self.parts[1:]], labels=self.labels[kept], targets=self.targets[torch.from_numpy(kept)],
            second=None if self.second is None else self.second[kept], second_classes=self.second_classes,
        )  # fmt: skip


def learned_from(
    prepared: PreparedSet, records: pd.DataFrame, pseudo: Sequence[tuple[PreparedSet, pd.DataFrame, np.ndarray]] = (),
    second: str | None = None,
) -> Learned:  # fmt: skip
    """Combine labelled records with pseudo-labelled images.

    pseudo: (set, records, targets [m, K]). second: a column of columns.csv. FovealError if the labels have fewer than
    two classes.
    """
    if records["label"].nunique() < 2:
        what = f"{prepared.path} has {len(records)} labelled training images in {records['label'].nunique()} classes"
        fix = "prepare a data source with labels of at least two classes"
        raise FovealError("set.too_few_classes", what, expected="at least 2 classes", fix=fix)
    absent = [name for k, name in enumerate(prepared.classes) if k not in set(records["label"])]
    if absent:
        warn(f"there are no training images of {', '.join(absent)}: the grader cannot learn to recognise this class")
    labels, size = records["label"].to_numpy(np.int64), len(prepared.classes)
    targets = [one_hot(torch.from_numpy(labels), size), *(torch.tensor(rows) for _, _, rows in pseudo)]
    grades = np.concatenate([labels, *(rows.argmax(1) for _, _, rows in pseudo)])
    codes, names = (None, ()) if second is None else second_labels(prepared, records, second)
    if codes is not None:
        codes = np.concatenate([codes, np.full(len(grades) - len(labels), -1)])
    return Learned(
        parts=[(prepared, records), *((pool, chosen) for pool, chosen, _ in pseudo)], labels=grades,
        targets=torch.cat(targets), second=codes, second_classes=names,
    )  # fmt: skip


def second_labels(prepared: PreparedSet, records: pd.DataFrame, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(labels int64 [n], class names) of a second task; -1 if unknown. The sorted names come from the whole set."""
    values = prepared.columns
    if column not in values:
        there = ", ".join(map(str, values.columns)) or "no columns"
        what = f"--second {column} is not a column of {prepared.path}"
        raise FovealError("option.value", what, expected=f"one of: {there}")
    known = values[column].reindex(records["id"]).fillna("").astype(str)
    names = tuple(sorted({value for value in values[column].fillna("").astype(str) if value}))
    if not 2 <= len(names) <= MOST_SECOND:
        what = f"--second {column} has {len(names)} different values"
        raise FovealError("option.value", what, expected=f"2 to {MOST_SECOND}")
    return known.map({name: number for number, name in enumerate(names)}).fillna(-1).to_numpy(np.int64), names
