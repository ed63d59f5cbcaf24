"""Predictor: one or more trained runs and pictures in, probabilities out.

Preparation, image size and normalisation come from each run (model.json), so a picture is treated at prediction
exactly as it was in training. A run of folds is an ensemble by itself; several runs are one, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal import checkpoint
from foveal.augment.views import NetworkInput, plain_view
from foveal.console import warn
from foveal.data.classes import referable_from
from foveal.data.loader import ImageStore
from foveal.data.records import PreparedSet
from foveal.data.shards import in_threads
from foveal.evaluate.readout import Readout, read_readout
from foveal.fundus.decode import DecodeError
from foveal.fundus.preparation import Preparation, prepare_file
from foveal.losses.grading import LOSSES
from foveal.nets.encoder import create_encoder
from foveal.nets.heads import Grader
from foveal.runs import read_model

BATCH = 64
AUGMENTATIONS = ("none", "flips", "turns")
ALIKE = (
    "classes",
    "scale",
    "task",
    "preparation",
    "decision",
    "second",
    "second_classes",
)  # what runs of an ensemble must have in common


@dataclass(frozen=True, kw_only=True)
class Member:
    """One grader, and what it sees."""

    grader: Grader
    input: NetworkInput


class Predictor:
    """Graders loaded strictly from the run folders that `train` wrote; `tta` None takes that of the first run."""

    def __init__(self, run: Path | Sequence[Path], device: torch.device | None = None, tta: str | None = None) -> None:
        runs = [run] if isinstance(run, Path) else list(run)
        models = [_grader_model(path) for path in runs]
        model = models[0]
        for path, other in zip(runs, models, strict=True):
            different = [key for key in ALIKE if other.get(key) != model.get(key)]
            if different:
                raise ValueError(f"{runs[0]} and {path} cannot grade together: they differ in {', '.join(different)}")
        self.device = device or torch.device("cpu")
        self.classes: list[str] = model["classes"]
        self.scale: str = model["scale"]
        self.preparation = Preparation(**model["preparation"])
        self.fundus: bool = model.get("fundus", self.preparation.crop == "disc")  # runs of old do not say it
        self.tta = tta or model.get("tta", "none")
        self.second: tuple[str, list[str]] | None = (
            (model["second"], model["second_classes"]) if model.get("second") else None
        )
        self.ensembles = [_members(path, made, self.device) for path, made in zip(runs, models, strict=True)]
        self.readouts = [
            read_readout(path, made["decision"], made["task"] == "grading")
            for path, made in zip(runs, models, strict=True)
        ]

    @property
    def readout(self) -> Readout:
        """What turns probabilities into grades and sets: the run's own; of several runs mean thresholds, no sets."""
        first = self.readouts[0]
        if len(self.readouts) == 1:
            return first
        cuts = [readout.thresholds for readout in self.readouts if readout.thresholds is not None]
        mean = tuple(np.mean(cuts, axis=0).tolist()) if len(cuts) == len(self.readouts) else None
        return Readout(decision=first.decision, ordered=first.ordered, thresholds=mean)

    @property
    def decision(self) -> str:
        """How a grade follows from probabilities."""
        return self.readout.decision

    @property
    def member(self) -> Member:
        """The only grader; ValueError where there are several."""
        if len(self.ensembles) > 1 or len(self.ensembles[0]) > 1:
            raise ValueError("these are several graders (folds or runs); choose one, such as RUN/fold1")
        return self.ensembles[0][0]

    @property
    def grader(self) -> Grader:
        """The network of the only grader."""
        return self.member.grader

    @property
    def input(self) -> NetworkInput:
        """What the only grader sees."""
        return self.member.input

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, K], each run's after its own readout."""
        raw = [
            readout.probabilities(self.raw(images, members))
            for members, readout in zip(self.ensembles, self.readouts, strict=True)
        ]
        mean: np.ndarray = np.mean(raw, axis=0).astype(np.float32)
        return mean

    def raw(self, images: np.ndarray, members: Sequence[Member] | None = None) -> np.ndarray:
        """Probabilities float32 [n, K] before any readout: the mean over members and over turns and flips."""
        with torch.inference_mode():
            parts = [
                torch.stack(
                    [self._probabilities(images[start : start + BATCH], one) for one in members or self.ensembles[0]]
                )
                for start in range(0, len(images), BATCH)
            ]
        return torch.cat([part.mean(0) for part in parts]).cpu().numpy()

    def grade(self, logits: Tensor) -> Tensor:
        """Grades int64 [B] from logits [B, K] of the only grader, as `table` would write them."""
        probabilities = self.readout.probabilities(logits.float().softmax(1).cpu().numpy())
        return torch.from_numpy(self.readout.grades(probabilities))

    def _probabilities(self, images: np.ndarray, member: Member) -> Tensor:
        seen = plain_view(images, member.input, self.device)
        views = [member.grader(view).float().softmax(1) for view in turned(seen, self.tta)]
        return torch.stack(views).mean(0)

    def second_probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities float32 [n, C] of the second task: the mean over all graders, of the plain view."""
        answers = []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                part = images[start : start + BATCH]
                of_members = []
                for member in (one for members in self.ensembles for one in members):
                    head = member.grader.second_head
                    assert head is not None
                    features = member.grader.encoder(plain_view(part, member.input, self.device))
                    of_members.append(head(features).float().softmax(1))
                answers.append(torch.stack(of_members).mean(0))
        return torch.cat(answers).cpu().numpy()

    def predict_files(self, files: Sequence[Path]) -> tuple[pd.DataFrame, list[tuple[Path, str]]]:
        """The table of predictions for picture files, and [(file, why it could not be read)]; ids are the paths.

        Photographs of retinas are flagged as `prepare` flags them. Files are decoded in threads and graded in batches:
        memory does not grow with their number.
        """
        read, flags, parts, failed = [], [], [np.empty((0, len(self.classes)), np.float32)], []
        second: list[np.ndarray] = []
        waiting: list[np.ndarray] = []

        def grade_waiting() -> None:
            if waiting:
                images = np.stack(waiting)
                parts.append(self.predict(images))
                if self.second:
                    second.append(self.second_probabilities(images))
                waiting.clear()

        retinas = self.fundus
        prepared = in_threads(lambda number: prepare_file(files[number], self.preparation, retinas), len(files))
        for file, result in zip(files, prepared, strict=True):
            if isinstance(result, DecodeError):
                failed.append((file, str(result)))
                continue
            read.append(file.as_posix())
            flags.append(" ".join(result.flags))
            waiting.append(result.pixels)
            if len(waiting) == BATCH:
                grade_waiting()
        grade_waiting()
        table = self.table(read, np.concatenate(parts), flags=flags)
        return (table.join(self._second_columns(np.concatenate(second))) if second else table), failed

    def predict_prepared(self, prepared: PreparedSet, records: pd.DataFrame) -> pd.DataFrame:
        """The table of predictions for records of a prepared set; ValueError when it was prepared differently."""
        probabilities = np.concatenate([self.predict(part) for part in self._images(prepared, records)])
        same = (prepared.classes, prepared.card["scale"]) == (self.classes, self.scale)
        if not same and records["label"].notna().any():
            warn(
                f"{prepared.path} is labelled on the scale '{prepared.card['scale']}' ({', '.join(prepared.classes)}), "
                f"the run grades on '{self.scale}' ({', '.join(self.classes)}): its labels are left out"
            )
        labels = records["label"] if same else pd.array([pd.NA] * len(records), dtype="Int64")
        table = self.table(
            list(records["id"]), probabilities, labels, records["group"], records["split"], records["flags"]
        )
        second = self.second_of(prepared, records)
        return table if second is None else table.join(second.set_index(table.index))

    def raw_of(self, prepared: PreparedSet, records: pd.DataFrame) -> np.ndarray:
        """Probabilities float32 [n, K] of records before the readout; by the first run where there are several."""
        parts = [self.raw(part) for part in self._images(prepared, records)]
        return np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])

    def answers_of(self, prepared: PreparedSet, records: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities [n, K] of records, and bool [n]: all graders find the same class likeliest."""
        probabilities, agreed = [], []
        for images in self._images(prepared, records):
            single = [[self.raw(images, [one]) for one in members] for members in self.ensembles]
            likeliest = np.stack([raw.argmax(1) for of_run in single for raw in of_run])
            agreed.append((likeliest == likeliest[0]).all(0))
            read = [
                readout.probabilities(np.mean(of_run, axis=0))
                for of_run, readout in zip(single, self.readouts, strict=True)
            ]
            probabilities.append(np.mean(read, axis=0))
        return np.concatenate(probabilities), np.concatenate(agreed)

    def second_of(self, prepared: PreparedSet, records: pd.DataFrame) -> pd.DataFrame | None:
        """What is known of a second task, and its probabilities, a column "NAME=CLASS" each; None without one."""
        if self.second is None:
            return None
        name, classes = self.second
        parts = [self.second_probabilities(part) for part in self._images(prepared, records)]
        answers = np.concatenate([np.empty((0, len(classes)), np.float32), *parts])
        known = prepared.columns[name] if name in prepared.columns else pd.Series(dtype=object)
        said = pd.DataFrame({name: known.reindex(records["id"]).fillna("").to_numpy()})
        return said.join(self._second_columns(answers))

    def _second_columns(self, answers: np.ndarray) -> pd.DataFrame:
        """Probabilities [n, C] of the second task as columns "NAME=CLASS"."""
        assert self.second is not None
        name, classes = self.second
        columns = {f"{name}={value}": answers[:, k].astype(float).round(6) for k, value in enumerate(classes)}
        return pd.DataFrame(columns)

    def _images(self, prepared: PreparedSet, records: pd.DataFrame) -> Iterator[np.ndarray]:
        """Prepared images of records, some batches at a time; ValueError when they were prepared differently."""
        options = Preparation(**prepared.card["options"])
        if options != self.preparation:
            raise ValueError(
                f"{prepared.path} was prepared with {options}, the run expects {self.preparation}; prepare it again so"
            )
        if len(records):
            store = ImageStore([(prepared, records)])
            for start in range(0, len(store), 16 * BATCH):
                yield store.gather(np.arange(start, min(start + 16 * BATCH, len(store))))

    def table(
        self, ids: Sequence[str], probabilities: np.ndarray, labels: Iterable[Any] | None = None,
        groups: Iterable[str] | None = None, splits: Iterable[str] | None = None, flags: Iterable[str] | None = None,
        graded: tuple[np.ndarray, list[str]] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """The table that predictions.csv holds: id, label, p0 … pK, grade, referable, group, split, flags, and set.

        graded: grades and sets that do not come from the run's own readout.
        """
        if graded is None:
            grades = self.readout.grades(probabilities)
            graded = grades, self.readout.sets(probabilities, grades)
        blank = [""] * len(ids)
        table = pd.DataFrame({"id": list(ids), "label": pd.array([pd.NA] * len(ids), dtype="Int64")})
        if labels is not None:
            table["label"] = pd.array(list(labels), dtype="Int64")
        for number in range(len(self.classes)):
            table[f"p{number}"] = probabilities[:, number].astype(float).round(6)
        table["grade"] = graded[0]
        referred = referable_from(self.scale)
        table["referable"] = pd.array([pd.NA] * len(ids), dtype="Int64")
        if referred is not None:
            table["referable"] = (table["grade"] >= referred).astype("Int64")
        table["group"] = blank if groups is None else list(groups)
        table["split"] = blank if splits is None else list(splits)
        table["flags"] = blank if flags is None else list(flags)
        if any(graded[1]):
            table["set"] = graded[1]
        return table


def turned(images: Tensor, how: str) -> list[Tensor]:
    """[B, C, s, s] as the network is asked of them: once, in 4 flips, or in 8 flips and quarter turns."""
    if how == "none":
        return [images]
    flips = [images, images.flip(3), images.flip(2), images.flip(2, 3)]
    return flips if how == "flips" else [*flips, *(flip.transpose(2, 3) for flip in flips)]


def _grader_model(run: Path) -> dict[str, Any]:
    model = read_model(run)
    if model["kind"] != "grader":
        raise ValueError(
            f"{run} holds a pre-trained encoder, not a grader; train one with: foveal train DATA --init {run}"
        )
    return model


def _members(run: Path, model: dict[str, Any], device: torch.device) -> list[Member]:
    """The grader of a run, or those of its folds."""
    if model.get("members"):
        return [one for name in model["members"] for one in _members(run / name, _grader_model(run / name), device)]
    encoder = create_encoder(model["encoder"], model["channels"], model["image_size"])
    form = LOSSES[model["loss"]].form if "loss" in model else "softmax"  # runs of old do not say it
    grader = Grader(encoder, model["features"], len(model["classes"]), form, len(model.get("second_classes", ())))
    kept = checkpoint.load(run / "best.pt")
    checkpoint.load_strict(grader, kept["grader"], str(run / "best.pt"))
    for key, value in kept.get("input", {}).items():  # runs of old do not say it
        if model[key] != value:
            raise ValueError(
                f"{run / 'model.json'} says {key} {model[key]}, but the weights beside it learned with {value}: a "
                "grader that sees images otherwise than it learned them is wrong. Put the file back as it was"
            )
    grader.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return [Member(grader=grader, input=NetworkInput(model["image_size"], tuple(model["mean"]), tuple(model["std"])))]
