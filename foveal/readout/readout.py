"""Readout: from what a grader computes to what it says, fitted on images that it has not learned from.

A run keeps it in RUN/readout.json, with the cutoffs under the name `thresholds`. The images that a readout was fitted
on are themselves judged by one that was fitted on the others (`crossed`): no image helps to choose what judges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import FovealError
from foveal.files import read_json, write_json
from foveal.readout import prediction_sets
from foveal.readout.calibration import fit_steps, fit_temperature, heated, stepped
from foveal.readout.cutoffs import cut, expected_grades, fit_cutoffs, half_way

FILE = "readout.json"
LEAST_IMAGES = 50  # fewer say nothing reliable about a temperature or a cutoff


@dataclass(frozen=True, kw_only=True)
class Readout:
    """What is done to raw probabilities [n, K]; `decision` as in losses/grading.py.

    steps: calibration in place of the temperature. cutoffs: None for half-way. limits: the least probability with
    which a class enters a set of that `coverage`; None for no sets. images: how many it was fitted on.
    """

    decision: str
    ordered: bool
    temperature: float = 1.0
    steps: tuple[tuple[float, float], ...] | None = None
    cutoffs: tuple[float, ...] | None = None
    limits: tuple[float, ...] | None = None
    coverage: float = 0.0
    images: int = 0

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """float [n, K] after calibration."""
        return heated(raw, self.temperature) if self.steps is None else stepped(raw, self.steps)

    def grades(self, probabilities: np.ndarray) -> np.ndarray:
        """int [n] of calibrated probabilities [n, K]."""
        if self.decision == "most_probable":
            return probabilities.argmax(1)
        return cut(expected_grades(probabilities), self.cutoffs or half_way(probabilities.shape[1]))

    def sets(self, probabilities: np.ndarray, grades: np.ndarray) -> list[str]:
        """The set of each image as words, "1 2"; empty without limits."""
        if self.limits is None:
            return [""] * len(grades)
        return prediction_sets.as_words(prediction_sets.sets_of(probabilities, grades, self.limits, self.ordered))

    def as_json(self) -> dict[str, Any]:
        """What readout.json holds."""
        return {"thresholds" if key == "cutoffs" else key: value for key, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class ReadoutOptions:
    """What is fitted: a temperature (or `steps` in its place), cutoffs, and sets of that coverage (0 = none)."""

    decision: str
    ordered: bool
    temperature: bool
    steps: bool = False
    cutoffs: bool
    coverage: float


def fit_readout(raw: np.ndarray, labels: np.ndarray, options: ReadoutOptions, least: int = LEAST_IMAGES) -> Readout:
    """The readout for raw probabilities [n, K] with labels int [n]; nothing is fitted on fewer than `least` images."""
    plain = Readout(decision=options.decision, ordered=options.ordered)
    if len(labels) < least or not (options.temperature or options.cutoffs or options.coverage):
        return plain
    calibrated = plain
    if options.temperature and options.steps:
        calibrated = replace(plain, steps=fit_steps(raw, labels))
    elif options.temperature:
        calibrated = replace(plain, temperature=fit_temperature(raw, labels))
    probabilities, cutoffs = calibrated.probabilities(raw), None
    if options.cutoffs and options.decision == "expected":
        truth = np.eye(raw.shape[1])[labels] if calibrated.steps is None else probabilities
        cutoffs = fit_cutoffs(expected_grades(probabilities), truth)
    limits = prediction_sets.fit_limits(probabilities, labels, options.coverage) if options.coverage else None
    return replace(calibrated, cutoffs=cutoffs, limits=limits, coverage=options.coverage, images=len(labels))


def crossed(
    raw: np.ndarray, labels: np.ndarray, parts: np.ndarray, options: ReadoutOptions
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Probabilities [n, K], grades [n] and sets [n] of the images that a readout is fitted on.

    parts: int [n]; the images of each part are read with what was fitted on all the others. A single part is read with
    what was fitted on itself.
    """
    probabilities, grades = np.empty_like(raw), np.empty(len(raw), np.int64)
    words = np.empty(len(raw), dtype=object)
    single = len(np.unique(parts)) < 2
    for part in np.unique(parts):
        own = parts == part
        others = own if single else ~own
        readout = fit_readout(raw[others], labels[others], options, least=LEAST_IMAGES if single else 1)
        probabilities[own] = readout.probabilities(raw[own])
        grades[own] = readout.grades(probabilities[own])
        words[own] = readout.sets(probabilities[own], grades[own])
    return probabilities, grades, list(words)


def write_readout(run: Path, readout: Readout) -> None:
    """Write RUN/readout.json."""
    write_json(run / FILE, readout.as_json())


def read_readout(run: Path, decision: str, ordered: bool, expected: bool = False) -> Readout:
    """RUN/readout.json, or a plain readout where the run has none; FovealError where one was `expected`."""
    file = run / FILE
    if not file.is_file():
        if expected:
            raise FovealError("run.damaged", f"{file} is missing, without which {run} would give other grades",
                              fix="copy it again")  # fmt: skip
        return Readout(decision=decision, ordered=ordered)
    return readout_from(read_json(file))


def readout_from(found: Mapping[str, Any]) -> Readout:
    """A readout from what `as_json` made of one."""
    return Readout(**{"cutoffs" if key == "thresholds" else key: _as_tuples(found[key]) for key in found})


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value
