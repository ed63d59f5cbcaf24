"""Readout: turns a grader's raw probabilities into calibrated ones, grades and sets; fitted on held-out images.

It is saved in RUN/readout.json, with the cutoffs under the key `thresholds`. The images used to fit a readout get
cross-fitted results (`crossed`): each is read with a readout that was fitted without it.
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
LEAST_IMAGES = 50  # fewer are not enough to fit a temperature or a cutoff reliably


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How to read raw probabilities [n, K]; `decision` as in losses/grading.py.

    steps: calibration in steps, instead of the temperature. cutoffs: None for half-way. limits: the lowest probability
    with which a class enters a set of that `coverage`; None for no sets. images: the number it was fitted on.
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
        """Calibrated probabilities float [n, K]."""
        return heated(raw, self.temperature) if self.steps is None else stepped(raw, self.steps)

    def grades(self, probabilities: np.ndarray) -> np.ndarray:
        """Grades int [n] from calibrated probabilities [n, K]."""
        if self.decision == "most_probable":
            return probabilities.argmax(1)
        return cut(expected_grades(probabilities), self.cutoffs or half_way(probabilities.shape[1]))

    def sets(self, probabilities: np.ndarray, grades: np.ndarray) -> list[str]:
        """The set of each image as words, "1 2"; empty without limits."""
        if self.limits is None:
            return [""] * len(grades)
        return prediction_sets.as_words(prediction_sets.sets_of(probabilities, grades, self.limits, self.ordered))

    def as_json(self) -> dict[str, Any]:
        """The content of readout.json."""
        return {"thresholds" if key == "cutoffs" else key: value for key, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class ReadoutOptions:
    """What to fit: a temperature (or `steps` instead), cutoffs, and prediction sets of that coverage (0 = no sets)."""

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
    """Cross-fitted probabilities [n, K], grades [n] and sets [n] of the images that a readout is fitted on.

    parts: int [n]; each part is read with a readout fitted on all other parts. A single part is read with one fitted on
    itself.
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
    """Read RUN/readout.json, or return a plain readout if the run has none; FovealError if one was `expected`."""
    file = run / FILE
    if not file.is_file():
        if expected:
            raise FovealError("run.damaged", f"{file} is missing; without it, {run} would give different grades",
                              fix="copy the whole run folder again")  # fmt: skip
        return Readout(decision=decision, ordered=ordered)
    return readout_from(read_json(file))


def readout_from(found: Mapping[str, Any]) -> Readout:
    """The readout that `as_json` converted."""
    return Readout(**{"cutoffs" if key == "thresholds" else key: _as_tuples(found[key]) for key in found})


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value
