"""Predictor: a trained run and pictures in, probabilities out.

Preparation, image size and normalisation come from the run (model.json), so a picture is treated at prediction
exactly as it was in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from foveal.fundus.decode import DecodeError
from foveal.fundus.preparation import Preparation, prepare_file
from foveal.losses.grading import decide
from foveal.nets.encoder import create_encoder
from foveal.nets.heads import Grader
from foveal.runs import read_model

BATCH = 64


class Predictor:
    """A grader loaded strictly from the run folder that `train` wrote."""

    def __init__(self, run: Path, device: torch.device | None = None) -> None:
        model = read_model(run)
        if model["kind"] != "grader":
            raise ValueError(
                f"{run} holds a pre-trained encoder, not a grader; train one with: foveal train DATA --init {run}"
            )
        self.classes: list[str] = model["classes"]
        self.scale: str = model["scale"]
        self.decision: str = model["decision"]
        self.preparation = Preparation(**model["preparation"])
        self.fundus: bool = model.get("fundus", self.preparation.crop == "disc")  # runs of old do not say it
        self.input = NetworkInput(model["image_size"], tuple(model["mean"]), tuple(model["std"]))
        self.device = device or torch.device("cpu")
        encoder = create_encoder(model["encoder"], model["channels"], model["image_size"])
        self.grader = Grader(encoder, model["features"], len(self.classes))
        checkpoint.load_strict(self.grader, checkpoint.load(run / "best.pt")["grader"], str(run / "best.pt"))
        self.grader.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, K]."""
        with torch.inference_mode():
            logits = [self._logits(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        return torch.cat(logits).float().softmax(1).cpu().numpy()

    def _logits(self, images: np.ndarray) -> Tensor:
        logits: Tensor = self.grader(plain_view(images, self.input, self.device))
        return logits

    def predict_files(self, files: Sequence[Path]) -> tuple[pd.DataFrame, list[tuple[Path, str]]]:
        """The table of predictions for picture files, and [(file, why it could not be read)]; ids are the paths.

        Photographs of retinas are flagged as `prepare` flags them. Files are decoded in threads and graded in batches:
        memory does not grow with their number.
        """
        read, flags, parts, failed = [], [], [np.empty((0, len(self.classes)), np.float32)], []
        waiting: list[np.ndarray] = []
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
                parts.append(self.predict(np.stack(waiting)))
                waiting = []
        if waiting:
            parts.append(self.predict(np.stack(waiting)))
        return self.table(read, np.concatenate(parts), flags=flags), failed

    def predict_prepared(self, prepared: PreparedSet, records: pd.DataFrame) -> pd.DataFrame:
        """The table of predictions for records of a prepared set; ValueError when it was prepared differently."""
        options = Preparation(**prepared.card["options"])
        if options != self.preparation:
            raise ValueError(
                f"{prepared.path} was prepared with {options}, the run expects {self.preparation}; prepare it again so"
            )
        store = ImageStore([(prepared, records)])
        steps = range(0, len(store), 16 * BATCH)
        chunks = [self.predict(store.gather(np.arange(s, min(s + 16 * BATCH, len(store))))) for s in steps]
        same = (prepared.classes, prepared.card["scale"]) == (self.classes, self.scale)
        if not same and records["label"].notna().any():
            warn(
                f"{prepared.path} is labelled on the scale '{prepared.card['scale']}' ({', '.join(prepared.classes)}), "
                f"the run grades on '{self.scale}' ({', '.join(self.classes)}): its labels are left out"
            )
        labels = records["label"] if same else pd.array([pd.NA] * len(records), dtype="Int64")
        probabilities, flags = np.concatenate(chunks), records["flags"]
        return self.table(list(records["id"]), probabilities, labels, records["group"], records["split"], flags)

    def table(
        self, ids: Sequence[str], probabilities: np.ndarray, labels: Iterable[Any] | None = None,
        groups: Iterable[str] | None = None, splits: Iterable[str] | None = None, flags: Iterable[str] | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """The table that predictions.csv holds: id, label, p0 … pK, grade, referable, group, split, flags."""
        blank = [""] * len(ids)
        table = pd.DataFrame({"id": list(ids), "label": pd.array([pd.NA] * len(ids), dtype="Int64")})
        if labels is not None:
            table["label"] = pd.array(list(labels), dtype="Int64")
        for number in range(len(self.classes)):
            table[f"p{number}"] = probabilities[:, number].astype(float).round(6)
        table["grade"] = decide(torch.from_numpy(probabilities), self.decision).numpy()
        referred = referable_from(self.scale)
        table["referable"] = pd.array([pd.NA] * len(ids), dtype="Int64")
        if referred is not None:
            table["referable"] = (table["grade"] >= referred).astype("Int64")
        table["group"] = blank if groups is None else list(groups)
        table["split"] = blank if splits is None else list(splits)
        table["flags"] = blank if flags is None else list(flags)
        return table
