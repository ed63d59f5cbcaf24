"""Predictor: one or more trained runs and pictures in, probabilities out.

Preparation, image size and normalisation come from each run (model.json), so a picture is treated at prediction
exactly as it was in training. A run of folds is an ensemble by itself; several runs are one, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal import checkpoint
from foveal.augment.views import NetworkInput, plain_view
from foveal.losses.grading import LOSSES
from foveal.nets.encoder import create_encoder
from foveal.nets.heads import Grader
from foveal.nets.looking import Looking, has_map
from foveal.predict.model import BATCH, Model
from foveal.readout.cutoffs import half_way
from foveal.readout.readout import FILE as READOUT
from foveal.readout.readout import Readout, read_readout
from foveal.runs import read_model
from foveal.sets.records import PreparedSet

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


class Predictor(Model):
    """Graders loaded strictly from the run folders that `train` wrote; `tta` None takes that of the first run."""

    def __init__(self, run: Path | Sequence[Path], device: torch.device | None = None, tta: str | None = None) -> None:
        runs = [run] if isinstance(run, Path) else list(run)
        models = [_grader_model(path) for path in runs]
        model = models[0]
        for path, other in zip(runs, models, strict=True):
            different = [key for key in ALIKE if other.get(key) != model.get(key)]
            if different:
                raise ValueError(f"{runs[0]} and {path} cannot grade together: they differ in {', '.join(different)}")
        self.runs = runs
        self.device = device or torch.device("cpu")
        self.ensembles = [_members(path, made, self.device) for path, made in zip(runs, models, strict=True)]
        self.readouts = [
            read_readout(path, made["decision"], made["task"] == "grading", made.get("readout", False))
            for path, made in zip(runs, models, strict=True)
        ]
        name = " + ".join(path.resolve().name for path in runs)
        super().__init__(name, model, _together(self.readouts, len(model["classes"])), tta or model.get("tta", "none"))

    @cached_property
    def key(self) -> str:
        """A digest of all that decides an answer: models, readouts and weights, and the turns and flips."""
        digest = hashlib.sha256(self.tta.encode())
        for run in self.runs:
            files = [file for name in ("model.json", READOUT, "best.pt") for file in sorted(run.rglob(name))]
            for file in files:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    @property
    def single(self) -> bool:
        """Whether there is but one grader."""
        return len(self.ensembles) == 1 and len(self.ensembles[0]) == 1

    @property
    def member(self) -> Member:
        """The only grader; ValueError where there are several."""
        if not self.single:
            raise ValueError("these are several graders (folds or runs); choose one, such as RUN/fold1")
        return self.ensembles[0][0]

    @property
    def grader(self) -> Grader:
        """The network of the only grader."""
        return self.member.grader

    @property
    def encoder_name(self) -> str:
        """What timm, or Foveal, calls the encoder of the only grader."""
        name: str = read_model(self.runs[0])["encoder"]
        return name

    @property
    def input(self) -> NetworkInput:
        """What the only grader sees."""
        return self.member.input

    def probabilities(self, images: np.ndarray) -> np.ndarray:
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
                ).mean(0)
                for start in range(0, len(images), BATCH)
            ]
        return torch.cat([torch.empty(0, len(self.classes), device=self.device), *parts]).cpu().numpy()

    def looks(self, images: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(maps float32 [n, h, w] or None, features float32 [n, D] or None), of the plain view of the only grader."""
        if not self.single:
            return None, None
        with torch.inference_mode():
            outputs = [
                self._looking(plain_view(images[start : start + BATCH], self.input, self.device))[1:]
                for start in range(0, len(images), BATCH)
            ]
        features, *maps = (torch.cat(parts).float().cpu().numpy() for parts in zip(*outputs, strict=True))
        return (maps[0] if maps else None), features

    @cached_property
    def _looking(self) -> Looking:
        size = self.input.image_size
        black = np.zeros((1, size, size, self.preparation.channels), np.uint8)
        return Looking(self.grader, self.decision, has_map(self.grader, plain_view(black, self.input, self.device)))

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
        assert self.second is not None
        answers = [torch.empty(0, len(self.second[1]), device=self.device)]
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
        parts = [self.second_probabilities(part) for part in self._images(prepared, records)]
        answers = np.concatenate([self.second_probabilities(self.blank(0)), *parts])
        return self.known_second(prepared, records).join(self.second_columns(answers))

    def _images(self, prepared: PreparedSet, records: pd.DataFrame) -> Iterator[np.ndarray]:
        return (images for _, images in self.images_of(prepared, records))


def turned(images: Tensor, how: str) -> list[Tensor]:
    """[B, C, s, s] as the network is asked of them: once, in 4 flips, or in 8 flips and quarter turns."""
    if how == "none":
        return [images]
    flips = [images, images.flip(3), images.flip(2), images.flip(2, 3)]
    return flips if how == "flips" else [*flips, *(flip.transpose(2, 3) for flip in flips)]


def _together(readouts: Sequence[Readout], classes: int) -> Readout:
    """What turns probabilities into grades and sets: the run's own; of several runs mean thresholds, no sets."""
    first = readouts[0]
    if len(readouts) == 1:
        return first
    cuts = [readout.thresholds or half_way(classes) for readout in readouts]
    mean = tuple(np.mean(cuts, axis=0).tolist()) if any(readout.thresholds for readout in readouts) else None
    return Readout(decision=first.decision, ordered=first.ordered, thresholds=mean)


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
