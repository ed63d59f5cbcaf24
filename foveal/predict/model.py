"""Model: the interface of a grader, and `Answers`, its outputs for a batch of photographs; works without torch.

Its subclasses compute the outputs: `Predictor` for a run folder, `Exported` for a file of `foveal export`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.fundus.preparation import Preparation, Prepared, prepare_file, prepare_pixels
from foveal.fundus.quality import FLAGS, advice_of
from foveal.predict.inputs import Photograph
from foveal.predict.likeness import Likeness, diameter, diameters_of, looks_of
from foveal.readout.readout import Readout
from foveal.readout.referral import is_oedema, oedema_of, predicted_oedema
from foveal.readout.scales import referable_from
from foveal.sets.records import PreparedSet
from foveal.sets.shards import in_threads

UNREADABLE = "export the photograph again, and check that other programs open it"  # what to do then
BATCH = 64  # photographs to grade, and rows to write, at a time
SET_BATCH = 256  # images to read from a prepared set at a time
Read = tuple[Photograph, Prepared | FovealError]
Want = tuple[Literal["probabilities", "features", "map", "texture"], ...]
GRADE: Want = ("probabilities",)
ALL: Want = ("probabilities", "features", "map", "texture")


class Answers(NamedTuple):
    """The result of `Model.answer` for n images and K classes; outputs not requested or not available are None.

    probabilities: float32 [n, K]. second: float32 [n, C], probabilities of a second task. features: float32 [n, D], of
    the encoder. maps: float32 [n, h, w] >= 0, how much each place supports the grade. texture: float32 [n, 2 M], see
    nets/heads.py. Probabilities are averaged over test-time augmentation; the others are of the original image.
    """

    probabilities: np.ndarray | None = None
    second: np.ndarray | None = None
    features: np.ndarray | None = None
    maps: np.ndarray | None = None
    texture: np.ndarray | None = None


def joined(parts: Sequence[Answers]) -> Answers:
    """Concatenate the answers of one or more batches."""
    return Answers(*(None if arrays[0] is None else np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


class Model(ABC):
    """A grader without its weights. said: the keys of model.json.

    has_maps, has_features: whether `answer` can compute them. Both need a single grader; maps also need a head that
    uses the mean of the last feature map.
    """

    has_maps: bool
    has_features: bool
    likeness: Likeness | None = None  # of the training photographs; without it, rows have no column `unlike`

    def __init__(self, name: str, said: Mapping[str, Any], readout: Readout, tta: str) -> None:
        self.name, self.readout, self.tta, self.decision = name, readout, tta, readout.decision
        self.classes: list[str] = list(said["classes"])
        self.scale: str = said["scale"]
        self.preparation = Preparation(**said["preparation"])
        self.fundus: bool = said.get("fundus", self.preparation.crop == "disc")  # older runs do not have this key
        # The name and the classes of a second task.
        self.second = (said["second"], list(said["second_classes"])) if said.get("second") else None

    @property
    @abstractmethod
    def key(self) -> str:
        """A digest of everything that affects the result."""

    @abstractmethod
    def answer(self, pixels: np.ndarray, want: Want = GRADE) -> Answers:
        """The outputs in `want` for prepared images uint8 [n, S, S, C], from one pass of each network."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, K], calibrated."""
        shares = self.answer(images).probabilities
        assert shares is not None
        return shares

    def nothing(self) -> Answers:
        """The answers for no images."""
        second = None if self.second is None else np.empty((0, len(self.second[1])), np.float32)
        return Answers(probabilities=np.empty((0, len(self.classes)), np.float32), second=second)

    @property
    def wanted(self) -> Want:
        """What rows of predictions need: with `likeness`, also the texture."""
        return GRADE if self.likeness is None else ("probabilities", "texture")

    def blank(self, count: int) -> np.ndarray:
        """Black prepared images uint8 [count, S, S, C]."""
        return np.zeros((count, self.preparation.size, self.preparation.size, self.preparation.channels), np.uint8)

    def read(self, photographs: Iterable[Photograph]) -> Iterator[Read]:
        """`read_photographs`, prepared as for the training of this model."""
        return read_photographs(photographs, self.preparation, self.fundus)

    def images_of(self, prepared: PreparedSet, records: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
        """(records, their prepared images), in batches; FovealError if they were prepared differently."""
        check_preparation(prepared, self.preparation)
        for start in range(0, len(records), SET_BATCH):
            part = records.iloc[start : start + SET_BATCH]
            yield part, prepared.pixels(part)

    def predict_prepared(self, prepared: PreparedSet, records: pd.DataFrame) -> pd.DataFrame:
        """The table of predictions for records of a prepared set; FovealError if it was prepared differently."""
        return pd.concat(list(self.tables_of_set(prepared, records)), ignore_index=True)

    def tables_of_set(self, prepared: PreparedSet, records: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Like `predict_prepared`, but a few hundred rows at a time."""
        if (prepared.classes, prepared.card["scale"]) != (self.classes, self.scale):
            if records["label"].notna().any():
                scales = f"the scale '{prepared.card['scale']}', not '{self.scale}', or other classes"
                warn(f"the labels of {prepared.path} are ignored: they have {scales}")
            records = records.drop(columns="label")
        for part, images in self.images_of(prepared, records):
            answers, sizes = self.answer(images, self.wanted), diameters_of(part, prepared.measures)
            yield self._rows(part, answers, self.second_table(answers, prepared, part), images, sizes)

    def table_of_photographs(self, batch: Sequence[Read]) -> pd.DataFrame:
        """One row for each photograph from `read`."""
        graded = {photograph.id: result for photograph, result in batch if isinstance(result, Prepared)}
        failed = {photograph.id: str(result) for photograph, result in batch if isinstance(result, FovealError)}
        images = [result.pixels for result in graded.values()]
        answers = self.answer(np.stack(images), self.wanted) if images else self.nothing()
        table = self.rows(list(graded), answers, list(graded.values()))
        table = table.set_index("id").reindex([photograph.id for photograph, _ in batch])
        words = ["group", "split", "flags", "set", "unlike", "answer", "reason", "advice", *(self.second or ())[:1]]
        text = table.columns.intersection(words)
        table[text] = table[text].astype(object).fillna("")
        for column, values in (("answer", "unreadable"), ("reason", list(failed.values())), ("advice", UNREADABLE)):
            table.loc[list(failed), column] = values
        return table.reset_index()

    def rows(self, ids: Sequence[str], answers: Answers, photographs: Sequence[Prepared]) -> pd.DataFrame:
        """The rows of predictions.csv for photographs from `read` that have answers, with all columns."""
        records = pd.DataFrame({"id": ids, "flags": [" ".join(one.flags) for one in photographs]})
        records["advice"] = [advice_of(one.flags, one.sides) for one in photographs]
        images = np.stack([one.pixels for one in photographs]) if photographs else self.blank(0)
        sizes = [diameter(one.width, one.height, one.measures.get("border", np.nan)) for one in photographs]
        return self._rows(records, answers, self.second_table(answers), images, np.array(sizes))

    def _rows(self, records: pd.DataFrame, answers: Answers, second: pd.DataFrame | None, images: np.ndarray,
              diameters: np.ndarray) -> pd.DataFrame:  # fmt: skip
        assert answers.probabilities is not None
        table = self.table(records, answers.probabilities, extra=second)
        if self.likeness is not None:
            table["unlike"] = self.unlike(images, diameters, answers)
        advice = records["advice"] if "advice" in records else records["flags"].str.split().map(advice_of)
        return table.assign(answer="graded", reason="", advice=advice.to_numpy())

    def unlike(self, images: np.ndarray, diameters: np.ndarray, answers: Answers) -> list[str]:
        """In what each image is unlike the training photographs; "" for nothing, or if it is not known."""
        if self.likeness is None or answers.texture is None:
            return [""] * len(images)
        return self.likeness.unlike(looks_of(images, diameters, int(self.likeness.side)), answers.texture)

    def second_table(
        self, answers: Answers, prepared: PreparedSet | None = None, records: pd.DataFrame | None = None
    ) -> pd.DataFrame | None:
        """The columns of a second task, with labels from the records of a set, else ""; None without such a task."""
        if self.second is None or answers.second is None:
            return None
        (name, classes), known = self.second, None
        if prepared is not None and records is not None:
            known = oedema_of(prepared.columns) if is_oedema(name, classes) else prepared.columns.get(name)
        labels = "" if known is None or records is None else known.reindex(records["id"]).fillna("").to_numpy()
        shares = {f"{name}={value}": answers.second[:, k].astype(float).round(6) for k, value in enumerate(classes)}
        return pd.DataFrame({name: labels, **shares}, index=range(len(answers.second)))

    def table(self, records: pd.DataFrame, probabilities: np.ndarray,
              graded: tuple[np.ndarray, list[str]] | None = None, extra: pd.DataFrame | None = None,
              ) -> pd.DataFrame:  # fmt: skip
        """The columns id, label, p0 … pK, grade, referable, group, split, flags and, with prediction sets, set.

        records: column id and, if known, label, group, split and flags. graded: grades and sets to use instead of those
        of the model's readout. extra: further columns; macular oedema in them can refer an image. FovealError for
        probabilities [n, K] that are not finite; otherwise their argmax would be grade 0.
        """
        if not np.isfinite(probabilities).all():
            what = f"{self.name} computes probabilities that are not finite"
            raise FovealError("run.not_finite", f"{what}: its weights are damaged or training diverged")
        has_sets = self.readout.limits is not None if graded is None else any(graded[1])
        if graded is None:
            grades = self.readout.grades(probabilities)
            graded = grades, self.readout.sets(probabilities, grades)
        unknown = [pd.NA] * len(records)
        refers, lowest = unknown, referable_from(self.scale)
        if lowest is not None:
            oedema = None if extra is None else predicted_oedema(extra)
            refers = list(self.readout.referred(probabilities, graded[0], lowest, oedema) * 1)
        table = pd.DataFrame({
            "id": list(records["id"]), "label": pd.array(list(records.get("label", unknown)), dtype="Int64"),
            **{f"p{number}": probabilities[:, number].astype(float).round(6) for number in range(len(self.classes))},
            "grade": pd.array(graded[0], dtype="Int64"), "referable": pd.array(refers, dtype="Int64"),
            **{name: list(records.get(name, [""] * len(records))) for name in ("group", "split", "flags")},
        })  # fmt: skip
        table = table.assign(set=graded[1]) if has_sets else table
        return table if extra is None else table.join(extra.set_index(table.index))


def check_preparation(prepared: PreparedSet, expected: Preparation) -> None:
    """FovealError if a set was prepared differently from the model's training images."""
    ours, theirs = asdict(expected), asdict(Preparation(**prepared.card["options"]))
    if different := [name for name in ours if ours[name] != theirs[name]]:
        what = f"{prepared.path} was prepared with {', '.join(f'{name} {theirs[name]}' for name in different)}"
        needed = f"{', '.join(f'{name} {ours[name]}' for name in different)}, as the images of the run"
        raise FovealError("set.preparation", what, expected=needed, fix="prepare it again with these options")


def read_photographs(photographs: Iterable[Photograph], preparation: Preparation, fundus: bool) -> Iterator[Read]:
    """(photograph, its prepared form or an error), in order, decoded ahead of time in threads.

    Fundus photographs get measures and quality flags, as in `foveal prepare`. A photograph comes without its pixels in
    memory, which would pile up with the results.
    """

    def prepare(photograph: Photograph) -> Prepared:
        if isinstance(photograph.pixels, FovealError):
            raise photograph.pixels
        if photograph.pixels is not None:
            return prepare_pixels(photograph.pixels, preparation, fundus)
        return prepare_file(photograph.source(), preparation, fundus, name=photograph.id)

    for photograph, result in in_threads(prepare, photographs):
        yield replace(photograph, pixels=None), result


def batches(reads: Iterable[Read]) -> Iterator[list[Read]]:
    """The results of `Model.read`, `BATCH` photographs at a time."""
    remaining = iter(reads)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def set_ungradable(table: pd.DataFrame, words: Iterable[str]) -> pd.DataFrame:
    """Remove the grade from rows with one of the flags `words`; their `answer` becomes ungradable, with a reason."""
    wanted, table = set(words), table.copy()
    found = table["flags"].str.split().map(lambda flags: [word for word in flags if word in wanted])
    without = (table["answer"] == "graded") & (found.map(len) > 0)
    table.loc[without, "answer"] = "ungradable"
    table.loc[without, "reason"] = [" ".join(f"{word}: {FLAGS[word]}" for word in flags) for flags in found[without]]
    table.loc[without, ["grade", "referable"]] = pd.NA
    if "set" in table:
        table.loc[without, "set"] = ""
    return table
