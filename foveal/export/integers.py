"""Integers: choose the parts of the encoder to convert to 8-bit integers, on calibration images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveal.export.check import Work
from foveal.export.lower import write_int8
from foveal.fundus.preparation import at_size
from foveal.predict.opened import Exported

MEASURED = 3  # every third calibration image measures ranges; the others select the parts that stay in float32
FEW = 48  # of the others measure the cost of one part: a mean change needs fewer images than an agreement of grades
TURNS = 32  # number of other images that the change of each image is applied to


def write_integers(work: Work, onnx_file: Path, file: Path) -> str:
    """Write the quantised file; returns a text about how much of it stayed in float32."""
    side = int(work.example.shape[1])
    measured, others = work.calibrating[::MEASURED], np.delete(work.calibrating, slice(None, None, MEASURED), 0)
    others = others if len(others) else measured

    def answers(of: Path, images: np.ndarray) -> np.ndarray:
        return Exported(of, "cpu", about=work.said).probabilities(images)

    exact, grades = answers(onnx_file, others), work.predictor.readout.grades
    some = slice(None, None, -(-len(others) // FEW))

    def change(tried: Path) -> float:
        return float(np.sqrt(((answers(tried, others[some]) - exact[some]) ** 2).mean()))

    def agreement(tried: Path) -> float:
        changes = answers(tried, others) - exact
        # Each image's change is also applied to other images, so that a few images near a cutoff do not dominate.
        turned = [np.roll(changes, turn, 0) for turn in np.linspace(0, len(others), TURNS, endpoint=False).astype(int)]
        return float(np.mean([grades(exact + change) == grades(exact) for change in turned]))

    left = write_int8(onnx_file, file, at_size(measured, side), change, agreement)
    return (
        f"; {left.kept} of {left.parts} parts of it stay in float32 ({left.agreement:.1%} of {len(others)} "
        "calibration images keep their grade)"
    )
