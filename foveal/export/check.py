"""Check: compare the results of an exported file with those of the run, on real images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveal.console import warn
from foveal.errors import FovealError
from foveal.export.graph import Graph
from foveal.fundus.preparation import at_size
from foveal.predict.model import Answers
from foveal.predict.opened import AT_ONCE, Exported
from foveal.predict.predictor import Predictor

EXACT = 1e-4  # largest allowed difference of a probability for float32 files
EXACT_FORMATS = ("onnx", "torch")
LEAST_AGREEMENT = 0.98  # of grades; below this, a file of lower precision is written with a warning


@dataclass(frozen=True)
class Work:
    """The data of an export. checked, calibrating: images uint8 [n, S, S, C]. said: the content of foveal.json."""

    predictor: Predictor
    graph: Graph
    example: torch.Tensor
    checked: np.ndarray
    calibrating: np.ndarray
    folder: Path
    said: dict[str, Any]

    @cached_property
    def expected(self) -> np.ndarray:
        """The probabilities of the run for the `checked` images."""
        return both(self.predictor.answer(self.checked))


def both(answers: Answers) -> np.ndarray:
    """Probabilities float32 [n, K + C]: of the grades and, if there is one, of the second task."""
    return np.hstack([found for found in (answers.probabilities, answers.second) if found is not None])


def describe(work: Work, file: Path, what: str) -> dict[str, Any]:
    """Add a finished file to the content of foveal.json; returns its entry."""
    entry = {"what": what, "bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    work.said["files"][file.name] = entry
    return entry


def check(work: Work, file: Path, what: str, *, exact: bool) -> list[str]:
    """Add the file to the content of foveal.json, with its difference from the run; returns a row for the table.

    FovealError if probabilities are not finite, or if an `exact` file differs by more than `EXACT`.
    """
    expected, found = work.expected, _answers(file, work)
    if not np.isfinite(found).all():
        raise FovealError(
            "export.not_finite", f"{file.name} computes values that are not finite: its precision is too low",
            fix="leave its format out of --formats",
        )  # fmt: skip
    difference = float(np.abs(expected - found).max())
    grades, classes = work.predictor.readout.grades, len(work.predictor.classes)
    agreement = float((grades(expected[:, :classes]) == grades(found[:, :classes])).mean())
    if exact and difference > EXACT:
        what = f"{file.name} differs from the run by {difference:.2g} in a probability, so nothing was exported"
        raise FovealError("export.inexact", what, expected=f"at most {EXACT:g}")
    if agreement < LEAST_AGREEMENT:
        warn(
            f"{file.name} gives a different grade for {1 - agreement:.1%} of {len(expected)} images: evaluate this "
            "file before you use it, or use model.onnx"
        )
    entry = describe(work, file, what)
    entry |= {"largest_difference": difference, "equal_grades": agreement, "images": len(expected)}
    entry["parity"] = f"largest difference {difference:.1e}, equal grades {agreement:.1%} of {len(expected)} images"
    return [file.name, f"{entry['bytes'] / 1e6:.1f}", f"{difference:.1e}", f"{agreement:.1%}", str(len(expected))]


def _answers(file: Path, work: Work) -> np.ndarray:
    """Probabilities float32 [n, K + C] of a written file."""
    if file.suffix == ".onnx":
        return both(Exported(file, "cpu", about=work.said).answer(work.checked))
    module, count = torch.export.load(file).module(), 1 if work.predictor.second is None else 2
    pixels, parts = torch.from_numpy(at_size(work.checked, work.said["input"]["side"])), []
    with torch.inference_mode():
        for part in pixels.split(AT_ONCE):
            parts.append(np.hstack([output.numpy() for output in module(part)[:count]]))
    return np.concatenate(parts)
