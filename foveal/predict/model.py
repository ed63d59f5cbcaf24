"""Model: a grader as the rest of Foveal sees it, whether torch runs it or an exported file; no torch here.

A model knows how photographs are prepared, what the classes are and how probabilities become grades. `Predictor` (a run
folder) and `Exported` (a file that `foveal export` wrote) compute the answers.
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
from foveal.predict.answers import GRADE, Answers, Want
from foveal.predict.inputs import Photograph
from foveal.readout.readout import Readout
from foveal.readout.scales import referable_from, referred
from foveal.sets.records import PreparedSet
from foveal.sets.shards import in_threads

BATCH = 64  # photographs graded, and rows written, at a time

Read = tuple[Photograph, Prepared | FovealError]


class Model(ABC):
    """A grader without its weights: `said` has the keys of model.json."""

    def __init__(self, name: str, said: Mapping[str, Any], readout: Readout, tta: str) -> None:
        self.name, self.readout, self.tta = name, readout, tta
        self.classes: list[str] = list(said["classes"])
        self.scale: str = said["scale"]
        self.preparation = Preparation(**said["preparation"])
        self.fundus: bool = said.get("fundus", self.preparation.crop == "disc")  # older runs do not have this key
        self.second: tuple[str, list[str]] | None = (
            (said["second"], said["second_classes"]) if said.get("second") else None
        )

    @property
    @abstractmethod
    def key(self) -> str:
        """A digest of all that decides an answer."""

    @property
    @abstractmethod
    def has_maps(self) -> bool:
        """Whether `answer` gives maps: of one grader whose head stands on the mean of its last map."""

    @property
    @abstractmethod
    def has_features(self) -> bool:
        """Whether `answer` gives features: several graders have none in common."""

    @abstractmethod
    def answer(self, pixels: np.ndarray, want: Want = GRADE) -> Answers:
        """All that is wanted of prepared images uint8 [n, S, S, C], from one pass of each network.

        Turns and flips are rows of the same batch. Where there are no images, there are neither features nor maps.
        """

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, K], calibrated."""
        shares = self.answer(images).probabilities
        assert shares is not None
        return shares

    def second_probabilities(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, C] of the second task."""
        shares = self.answer(images).second
        assert shares is not None
        return shares

    def looks(self, images: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(maps, features) of `answer`."""
        answers = self.answer(images, ("features", "map"))
        return answers.maps, answers.features

    def nothing(self) -> Answers:
        """The answers for no images."""
        second = None if self.second is None else np.empty((0, len(self.second[1])), np.float32)
        return Answers(probabilities=np.empty((0, len(self.classes)), np.float32), second=second)

    @property
    def decision(self) -> str:
        """How a grade follows from probabilities."""
        return self.readout.decision

    def predict_prepared(self, prepared: PreparedSet, records: pd.DataFrame) -> pd.DataFrame:
        """The table of predictions for records of a prepared set; FovealError when it was prepared differently."""
        return pd.concat(list(self.tables_of_set(prepared, records)), ignore_index=True)

    def tables_of_set(self, prepared: PreparedSet, records: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """As `predict_prepared`, some hundred rows at a time."""
        same = (prepared.classes, prepared.card["scale"]) == (self.classes, self.scale)
        if not same and records["label"].notna().any():
            warn(
                f"{prepared.path} has labels on the scale '{prepared.card['scale']}' ({', '.join(prepared.classes)}). "
                f"The model grades on '{self.scale}' ({', '.join(self.classes)}), so these labels are not used"
            )
        for part, images in self.images_of(prepared, records):
            labels = part["label"] if same else pd.array([pd.NA] * len(part), dtype="Int64")
            answers = self.answer(images)
            assert answers.probabilities is not None
            table = self.table(
                list(part["id"]), answers.probabilities, labels, part["group"], part["split"], part["flags"]
            )
            yield (
                table
                if self.second is None
                else table.join(self.second_table(prepared, part, answers.second).set_index(table.index))
            )

    def images_of(
        self, prepared: PreparedSet, records: pd.DataFrame, at_once: int = 4 * BATCH
    ) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
        """(records, their prepared images), some at a time; FovealError when they were prepared differently."""
        check_preparation(prepared, self.preparation)
        for start in range(0, len(records), at_once):
            part = records.iloc[start : start + at_once]
            yield part, prepared.pixels(part)

    def second_table(self, prepared: PreparedSet, records: pd.DataFrame, answers: np.ndarray | None) -> pd.DataFrame:
        """Of a second task: a column with what the source says, "" where it says nothing, and those of the answers."""
        assert self.second is not None and answers is not None
        name = self.second[0]
        known = prepared.columns[name] if name in prepared.columns else pd.Series(dtype=object)
        return pd.DataFrame({name: known.reindex(records["id"]).fillna("").to_numpy()}).join(
            self.second_columns(answers)
        )

    def second_columns(self, answers: np.ndarray) -> pd.DataFrame:
        """Probabilities [n, C] of the second task as columns "NAME=CLASS"."""
        assert self.second is not None
        name, classes = self.second
        columns = {f"{name}={value}": answers[:, k].astype(float).round(6) for k, value in enumerate(classes)}
        return pd.DataFrame(columns)

    def read(self, photographs: Iterable[Photograph]) -> Iterator[Read]:
        """(photograph, its prepared form or why there is none), decoded in threads, in order, a few in advance.

        Photographs of retinas are measured and flagged as in `prepare`.
        """

        def prepare(photograph: Photograph) -> Prepared:
            return prepare_file(photograph.source(), self.preparation, self.fundus, name=photograph.id)

        return in_threads(prepare, photographs)

    def answer_batch(self, batch: Sequence[Read], want: Want = GRADE) -> Answers:
        """The answers for those photographs of a batch that could be read."""
        images = [result.pixels for _, result in batch if isinstance(result, Prepared)]
        return self.answer(np.stack(images), want) if images else self.nothing()

    def table_of_photographs(self, batch: Sequence[Read], answers: Answers | None = None) -> pd.DataFrame:
        """A row for each photograph that `read` gave; those that could not be read have `answer` unreadable.

        answers: of `answer_batch`, where they are known already.
        """
        graded = [(photograph.id, result) for photograph, result in batch if isinstance(result, Prepared)]
        failed = [(photograph.id, str(result)) for photograph, result in batch if isinstance(result, FovealError)]
        flags = [" ".join(result.flags) for _, result in graded]
        table = self.rows([name for name, _ in graded], answers or self.answer_batch(batch), flags)
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

    def rows(self, ids: Sequence[str], answers: Answers, flags: Iterable[str] | None = None) -> pd.DataFrame:
        """The rows of predictions.csv for photographs that were answered, with all columns."""
        assert answers.probabilities is not None
        table = self.table(ids, answers.probabilities, flags=flags)
        if self.second is not None:  # in the order of columns that images of a set have
            assert answers.second is not None
            table = table.assign(**{self.second[0]: ""}).join(self.second_columns(answers.second))
        return table.assign(answer="graded", reason="")

    def table(
        self, ids: Sequence[str], probabilities: np.ndarray, labels: Iterable[Any] | None = None,
        groups: Iterable[str] | None = None, splits: Iterable[str] | None = None, flags: Iterable[str] | None = None,
        graded: tuple[np.ndarray, list[str]] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """The columns id, label, p0 … pK, grade, referable, group, split, flags and, where there are sets, set.

        graded: grades and sets that do not come from the model's own readout. Raises FovealError for probabilities that
        are not finite: their argmax would be grade 0.
        """
        if not np.isfinite(probabilities).all():
            raise FovealError(
                "run.not_finite",
                f"{self.name} gives probabilities that are not finite: its weights are damaged, or training diverged",
            )
        has_sets = self.readout.limits is not None if graded is None else any(graded[1])
        if graded is None:
            grades = self.readout.grades(probabilities)
            graded = grades, self.readout.sets(probabilities, grades)
        blank, unknown = [""] * len(ids), pd.array([pd.NA] * len(ids), dtype="Int64")
        lowest = referable_from(self.scale)
        referable = None if lowest is None else referred(np.asarray(graded[0]), lowest).astype(int)
        table = pd.DataFrame({
            "id": list(ids), "label": unknown if labels is None else pd.array(list(labels), dtype="Int64"),
            **{f"p{number}": probabilities[:, number].astype(float).round(6) for number in range(len(self.classes))},
            "grade": pd.array(graded[0], dtype="Int64"),
            "referable": unknown if referable is None else pd.array(referable, dtype="Int64"),
            "group": blank if groups is None else list(groups), "split": blank if splits is None else list(splits),
            "flags": blank if flags is None else list(flags),
        })  # fmt: skip
        return table.assign(set=graded[1]) if has_sets else table


def check_preparation(prepared: PreparedSet, expected: Preparation) -> None:
    """FovealError for a set that was prepared differently from what the model learned from."""
    found = Preparation(**prepared.card["options"])
    if found != expected:
        raise FovealError(
            "set.preparation", f"{prepared.path} was prepared with {found}", expected=str(expected),
            fix="prepare it again with these options",
        )  # fmt: skip


def batches(reads: Iterable[Read]) -> Iterator[list[Read]]:
    """What `Model.read` gives, `BATCH` photographs at a time."""
    remaining = iter(reads)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def set_ungradable(table: pd.DataFrame, words: Iterable[str]) -> pd.DataFrame:
    """The table without grades in rows that have a flag of `words`: their answer is ungradable, with the reason."""
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
