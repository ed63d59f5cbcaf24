"""Model: a grader as the rest of Foveal sees it, whether torch runs it or an exported file; no torch here.

It knows how photographs are prepared, what the classes are and how probabilities become answers. What computes the
probabilities is the part of `Predictor` (a run folder) and of `Exported` (a file that `foveal export` wrote).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.fundus.preparation import Preparation, Prepared, prepare_file
from foveal.fundus.quality import FLAGS
from foveal.predict.inputs import Photograph
from foveal.readout.readout import Readout
from foveal.readout.scales import referable_from, referred
from foveal.sets.records import PreparedSet
from foveal.sets.shards import in_threads

BATCH = 64  # photographs graded, and rows written, at a time

Read = tuple[Photograph, Prepared | FovealError]


class Model(ABC):
    """What is known of a grader beside its weights: `said` has the keys of model.json."""

    def __init__(self, name: str, said: Mapping[str, Any], readout: Readout, tta: str) -> None:
        self.name, self.readout, self.tta = name, readout, tta
        self.classes: list[str] = list(said["classes"])
        self.scale: str = said["scale"]
        self.preparation = Preparation(**said["preparation"])
        self.fundus: bool = said.get("fundus", self.preparation.crop == "disc")  # runs of old do not say it
        self.second: tuple[str, list[str]] | None = (
            (said["second"], said["second_classes"]) if said.get("second") else None
        )

    @property
    @abstractmethod
    def key(self) -> str:
        """What tells this model from all others: a digest of its weights and of how they are read."""

    @abstractmethod
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, K], calibrated."""

    @abstractmethod
    def second_probabilities(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, C] of the second task."""

    @abstractmethod
    def looks(self, images: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(maps float32 [n, h, w] of what speaks for the answer, features float32 [n, D]); None where there are none.

        See nets/looking.py. Several graders have no common features.
        """

    @property
    def decision(self) -> str:
        """How a grade follows from probabilities."""
        return self.readout.decision

    def predict_prepared(self, prepared: PreparedSet, records: pd.DataFrame) -> pd.DataFrame:
        """The table of predictions for records of a prepared set; ValueError when it was prepared differently."""
        return pd.concat(list(self.tables_of_set(prepared, records)), ignore_index=True)

    def tables_of_set(self, prepared: PreparedSet, records: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """As `predict_prepared`, some hundred rows at a time."""
        same = (prepared.classes, prepared.card["scale"]) == (self.classes, self.scale)
        if not same and records["label"].notna().any():
            warn(
                f"{prepared.path} is labelled on the scale '{prepared.card['scale']}' ({', '.join(prepared.classes)}), "
                f"the model grades on '{self.scale}' ({', '.join(self.classes)}): its labels are left out"
            )
        for part, images in self.images_of(prepared, records):
            labels = part["label"] if same else pd.array([pd.NA] * len(part), dtype="Int64")
            table = self.table(
                list(part["id"]), self.probabilities(images), labels, part["group"], part["split"], part["flags"]
            )
            if self.second is not None:
                known = self.known_second(prepared, part).set_index(table.index)
                table = table.join(known).join(self.second_columns(self.second_probabilities(images)))
            yield table

    def images_of(
        self, prepared: PreparedSet, records: pd.DataFrame, at_once: int = 4 * BATCH
    ) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
        """(records, their prepared images), some at a time; ValueError when they were prepared differently."""
        self.check_set(prepared)
        for start in range(0, len(records), at_once):
            part = records.iloc[start : start + at_once]
            yield part, prepared.pixels(part)

    def check_set(self, prepared: PreparedSet) -> None:
        """ValueError for a set that was prepared otherwise than what the model learned from."""
        options = Preparation(**prepared.card["options"])
        if options != self.preparation:
            raise ValueError(
                f"{prepared.path} was prepared with {options}, the run expects {self.preparation}; prepare it again so"
            )

    def known_second(self, prepared: PreparedSet, records: pd.DataFrame) -> pd.DataFrame:
        """What the source says of the second task: one column, empty where it says nothing."""
        assert self.second is not None
        name = self.second[0]
        known = prepared.columns[name] if name in prepared.columns else pd.Series(dtype=object)
        return pd.DataFrame({name: known.reindex(records["id"]).fillna("").to_numpy()})

    def second_columns(self, answers: np.ndarray) -> pd.DataFrame:
        """Probabilities [n, C] of the second task as columns "NAME=CLASS"."""
        assert self.second is not None
        name, classes = self.second
        columns = {f"{name}={value}": answers[:, k].astype(float).round(6) for k, value in enumerate(classes)}
        return pd.DataFrame(columns)

    def read(self, photographs: Iterable[Photograph]) -> Iterator[Read]:
        """(photograph, its prepared form or why there is none), decoded in threads, in order, a few in advance.

        Photographs of retinas are measured and flagged as `prepare` does it.
        """

        def prepare(photograph: Photograph) -> Prepared:
            return prepare_file(photograph.source(), self.preparation, self.fundus, name=photograph.id)

        return in_threads(prepare, photographs)

    def table_of_photographs(self, batch: Sequence[Read]) -> pd.DataFrame:
        """The table of predictions for what `read` gave, a row each, with `answer` unreadable and `reason` set."""
        graded = [(photograph.id, result) for photograph, result in batch if isinstance(result, Prepared)]
        failed = [(photograph.id, str(result)) for photograph, result in batch if isinstance(result, FovealError)]
        images = np.stack([result.pixels for _, result in graded]) if graded else self.blank(0)
        flags = [" ".join(result.flags) for _, result in graded]
        table = self.table([name for name, _ in graded], self.probabilities(images), flags=flags)
        if self.second is not None:  # in the order of columns that images of a set have
            known = table.assign(**{self.second[0]: ""})
            table = known.join(self.second_columns(self.second_probabilities(images)))
        table = table.assign(answer="graded", reason="")
        if not failed:
            return table
        rows = pd.DataFrame(failed, columns=["id", "reason"]).assign(answer="unreadable")
        texts = ("group", "split", "flags", "set", *(self.second or ())[:1])
        text = {column: "" for column in texts if column in table}
        order = [photograph.id for photograph, _ in batch]
        rows = rows.assign(**text).reindex(columns=table.columns).astype(_gaps(table))
        both = pd.concat([table, rows]) if graded else rows
        return both.set_index("id", drop=False).loc[order].reset_index(drop=True)

    def blank(self, count: int) -> np.ndarray:
        """Black prepared images uint8 [count, S, S, C]."""
        return np.zeros((count, self.preparation.size, self.preparation.size, self.preparation.channels), np.uint8)

    def table(
        self, ids: Sequence[str], probabilities: np.ndarray, labels: Iterable[Any] | None = None,
        groups: Iterable[str] | None = None, splits: Iterable[str] | None = None, flags: Iterable[str] | None = None,
        graded: tuple[np.ndarray, list[str]] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """The table that predictions.csv holds: id, label, p0 … pK, grade, referable, group, split, flags, and set.

        graded: grades and sets that do not come from the model's own readout. Raises ValueError for probabilities that
        are no numbers: the likeliest of them would be grade 0.
        """
        if not np.isfinite(probabilities).all():
            raise ValueError(
                f"{self.name} computes what is no number: its weights are damaged, or its training diverged"
            )
        has_sets = self.readout.limits is not None if graded is None else any(graded[1])
        if graded is None:
            grades = self.readout.grades(probabilities)
            graded = grades, self.readout.sets(probabilities, grades)
        blank = [""] * len(ids)
        table = pd.DataFrame({"id": list(ids), "label": pd.array([pd.NA] * len(ids), dtype="Int64")})
        if labels is not None:
            table["label"] = pd.array(list(labels), dtype="Int64")
        for number in range(len(self.classes)):
            table[f"p{number}"] = probabilities[:, number].astype(float).round(6)
        table["grade"] = pd.array(graded[0], dtype="Int64")
        lowest = referable_from(self.scale)
        table["referable"] = pd.array([pd.NA] * len(ids), dtype="Int64")
        if lowest is not None:
            table["referable"] = pd.array(referred(np.asarray(graded[0]), lowest).astype(int), dtype="Int64")
        table["group"] = blank if groups is None else list(groups)
        table["split"] = blank if splits is None else list(splits)
        table["flags"] = blank if flags is None else list(flags)
        if has_sets:
            table["set"] = graded[1]
        return table


def batches(reads: Iterable[Read]) -> Iterator[list[Read]]:
    """What `Model.read` gives, so many at a time as are graded together."""
    remaining = iter(reads)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def set_ungradable(table: pd.DataFrame, words: Iterable[str]) -> pd.DataFrame:
    """The table with no grade for rows that are flagged with one of `words`: answer ungradable, and the reason why."""
    wanted = set(words)
    found = table["flags"].str.split().map(lambda flags: [word for word in flags if word in wanted])
    without = (table["answer"] == "graded") & (found.map(len) > 0)
    reasons = found[without].map(lambda flags: " ".join(f"{word}: {FLAGS[word]}" for word in flags))
    table = table.copy()
    table.loc[without, "answer"] = "ungradable"
    table.loc[without, "reason"] = reasons
    table.loc[without, ["grade", "referable"]] = pd.NA
    if "set" in table:
        table.loc[without, "set"] = ""
    return table


def _gaps(table: pd.DataFrame) -> dict[str, Any]:
    """Types of columns in which a row may be empty."""
    numbers = re.compile(r"p\d+|label|grade|referable|.+=.*")
    return {str(name): kind for name, kind in table.dtypes.items() if numbers.fullmatch(str(name))}
