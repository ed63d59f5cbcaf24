"""Predictor: grade images with a trained run, treated as in its training (model.json). A run of folds is an ensemble.

Test-time augmentation grades the flips and turns of an image in the same batch and averages the probabilities.

Legend: N images, C channels, s pixels a side, K classes.
"""

import copy
import hashlib
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal import checkpoint
from foveal.augment.views import NetworkInput, plain_view
from foveal.errors import FovealError
from foveal.losses.grading import LOSSES
from foveal.nets.encoder import reopened
from foveal.nets.heads import Grader, Looking, has_map, texture_of, watching
from foveal.predict import likeness
from foveal.predict.model import BATCH, GRADE, Answers, Model, Want, joined
from foveal.readout.readout import FILE as READOUT
from foveal.readout.readout import read_readout
from foveal.runs import read_model
from foveal.sets.records import PreparedSet

VIEWS = {"none": 1, "flips": 4, "turns": 8}


class Member(NamedTuple):
    """One grader, and its input format."""

    grader: Grader
    input: NetworkInput


class Predictor(Model):
    """The graders loaded from a run folder of `train`; weights must match exactly. tta: auto is as in the run.

    encoder: the network of a program that the run was made with, if any.
    """

    def __init__(self, run: Path, device: torch.device | None = None, tta: str = "auto", encoder: str = "") -> None:
        self.run, model = run, _grader_model(run)
        self.device = device or torch.device("cpu")
        self.members = _members(run, model, self.device, encoder)
        self.has_features = len(self.members) == 1
        self.likeness = likeness.read_likeness(run / model.get("members", ["."])[0])  # of folds, that of the first
        readout = read_readout(run, model["decision"], model["task"] == "grading", model.get("readout", False))
        super().__init__(run.resolve().name, model, readout, model.get("tta", "none") if tta == "auto" else tta)

    @cached_property
    def key(self) -> str:
        """A digest of models, readout, weights and test-time augmentation."""
        digest = hashlib.sha256(self.tta.encode())
        for name in ("model.json", READOUT, "best.pt", likeness.FILE):
            for file in sorted(self.run.rglob(name)):
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    @cached_property
    def has_maps(self) -> bool:  # type: ignore[override]
        """See `Model`; the first access runs the network on one black image."""
        return self.has_features and self.looking.maps

    @property
    def grader(self) -> Grader:
        """The network of the only grader."""
        return self._only.grader

    @property
    def input(self) -> NetworkInput:
        """The input format of the only grader."""
        return self._only.input

    @property
    def _only(self) -> Member:
        if not self.has_features:
            raise FovealError("run.several", f"{self.name} has several graders", fix="choose one, such as RUN/fold1")
        return self.members[0]

    @cached_property
    def looking(self) -> Looking:
        """The only grader as a module: input -> logits, features and, if it has them, places, in one pass."""
        size = self.input.image_size
        black = np.zeros((1, size, size, self.preparation.channels), np.uint8)
        return Looking(self.grader, self.decision, has_map(self.grader, plain_view(black, self.input, self.device)))

    def answer(self, pixels: np.ndarray, want: Want = GRADE) -> Answers:
        """See `Model.answer`; the probabilities of folds are averaged before the readout."""
        if "probabilities" not in want:
            return self._pass(self._only, pixels, want) if self.has_features else Answers()
        raw = self.raw_answers(pixels, want)
        whole = raw._replace(probabilities=self.readout.probabilities(np.asarray(raw.probabilities)).astype(np.float32))
        return whole if self.has_features else whole._replace(features=None, maps=None)

    def of_fold(self, number: int) -> "Predictor":
        """The grader of one fold (from 1), with the readout of the run."""
        one = copy.copy(self)
        one.members = self.members[number - 1 : number]
        return one

    def _pass(self, member: Member, pixels: np.ndarray, want: Want = GRADE) -> Answers:
        """The answers of one network, with probabilities before the readout."""
        tta = self.tta if "probabilities" in want else "none"
        looking = self.looking if "map" in want and self.has_maps else Looking(member.grader, self.decision, False)
        step, parts = BATCH // VIEWS[tta], []
        watched: Any = watching(member.grader.encoder) if "texture" in want else nullcontext()
        with torch.inference_mode(), watched as middle:
            for start in range(0, len(pixels), step):
                seen = plain_view(pixels[start : start + step], member.input, self.device)
                shares, features, *maps = look(looking, seen, tta)
                found = {"maps": maps[0]} if maps else {}
                if "features" in want:
                    found["features"] = features
                if "probabilities" in want:
                    found["probabilities"] = shares
                    if member.grader.second_head is not None:
                        found["second"] = member.grader.second_head(features).float().softmax(1)
                if middle is not None:  # the unchanged images come first
                    found["texture"] = texture_of(middle.pop()[: len(seen)])
                parts.append(Answers(**{name: values.float().cpu().numpy() for name, values in found.items()}))
        return joined(parts) if parts else self.nothing()

    def raw_answers(self, pixels: np.ndarray, want: Want = GRADE) -> Answers:
        """The answers of the first grader, but with probabilities averaged over all graders, before the readout."""
        passes = [self._pass(member, pixels, want) for member in self.members]
        tasks = ("probabilities", "second") if self.second else ("probabilities",)
        return passes[0]._replace(**{task: np.mean([getattr(one, task) for one in passes], axis=0) for task in tasks})

    def raw_answers_of(self, prepared: PreparedSet, records: pd.DataFrame) -> Answers:
        """`raw_answers` for records of a prepared set."""
        return joined([self.nothing(), *(self.raw_answers(images) for _, images in self.images_of(prepared, records))])


def _grader_model(run: Path) -> dict[str, Any]:
    model = read_model(run)
    if model["kind"] != "grader":
        fix = f"foveal train DATA --init {run}, or give {run / 'encoder.safetensors'} to timm"
        raise FovealError("run.not_a_grader", f"{run} is not a grader", fix=fix)
    return model


def _members(run: Path, model: dict[str, Any], device: torch.device, given: str) -> list[Member]:
    if model.get("members"):
        parts = [run / name for name in model["members"]]
        return [one for part in parts for one in _members(part, _grader_model(part), device, given)]
    encoder = reopened(model, given)
    form = LOSSES[model["loss"]].form if "loss" in model else "softmax"  # older runs do not have this key
    grader = Grader(encoder, model["features"], len(model["classes"]), form, len(model.get("second_classes", ())))
    kept = checkpoint.load(run / "best.pt")
    checkpoint.load_strict(grader, kept["grader"], str(run / "best.pt"))
    for key, value in kept.get("input", {}).items():  # older runs do not have this key
        if model[key] != value:
            raise FovealError("run.mismatch", f"{key} is {model[key]} in {run / 'model.json'} but {value} in best.pt")
    grader.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return [Member(grader=grader, input=NetworkInput(model["image_size"], tuple(model["mean"]), tuple(model["std"])))]


def turned(images: Tensor, how: str) -> list[Tensor]:
    """[N, C, s, s] unchanged, in its 4 flips, or in its 8 flips and quarter turns; the unchanged image comes first."""
    if how == "none":
        return [images]
    flips = [images, images.flip(3), images.flip(2), images.flip(2, 3)]
    return flips if how == "flips" else [*flips, *(flip.transpose(2, 3) for flip in flips)]


def look(looking: Looking, images: Tensor, how: str) -> tuple[Tensor, ...]:
    """One pass: probabilities [N, K] averaged over all views, then features and places of the unchanged images."""
    views = turned(images, how)
    logits, *seen = looking(views[0] if len(views) == 1 else torch.cat(views))
    shares, *plain = (values.unflatten(0, (len(views), -1)) for values in (logits.float().softmax(1), *seen))
    return shares.mean(0), *(values[0] for values in plain)
