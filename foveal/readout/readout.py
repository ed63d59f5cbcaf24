"""Readout: turns a grader's raw probabilities into calibrated ones, grades and sets; fitted on held-out images.

It is saved in RUN/readout.json, with the cutoffs under the key `thresholds`.

Prediction sets contain the true grade with a given coverage (class-conditional conformal prediction, Vovk 2012,
https://proceedings.mlr.press/v25/vovk12.html): each class has a limit, which a share `coverage` of its calibration
images reach, and a set contains the classes whose probability reaches their limit. So every class, even a rare one, has
this coverage, if new images are like the calibration images. Sets of ordered grades have no gaps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.errors import FovealError
from foveal.files import read_json, write_json
from foveal.readout import calibration, decisions
from foveal.readout.calibration import Adjustment
from foveal.readout.decisions import choose_cutoffs
from foveal.readout.referral import LIKELY, Referral, score

FILE = "readout.json"
LEAST_IMAGES = 50  # fewer are not enough to fit a temperature or a cutoff reliably
SAME = 1e-5  # probabilities that differ by less count as equal


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How to read raw probabilities [n, K]; `decision` as in decisions.py.

    steps: instead of the temperature. cutoffs: None for half-way. limits: the lowest probability with which a class
    enters a set; None for no sets. images: the number it was fitted on. referral: None to refer by grade. adjustment:
    to a clinic, after calibration; grades and sets follow from the probabilities before it.
    """

    decision: str
    ordered: bool
    temperature: float = 1.0
    steps: tuple[tuple[float, float], ...] | None = None
    cutoffs: tuple[float, ...] | None = None
    limits: tuple[float, ...] | None = None
    coverage: float = 0.0
    images: int = 0
    referral: Referral | None = None
    adjustment: Adjustment | None = None

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Calibrated probabilities float [n, K]."""
        read = calibration.heated(raw, self.temperature) if self.steps is None else calibration.stepped(raw, self.steps)
        return read if self.adjustment is None else self.adjustment.applied(read)

    def before(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities [n, K] without the adjustment."""
        return probabilities if self.adjustment is None else self.adjustment.undone(probabilities)

    def grades(self, probabilities: np.ndarray) -> np.ndarray:
        """Grades int [n] from calibrated probabilities [n, K]."""
        return decisions.decide(self.before(probabilities), self.decision, self.cutoffs)

    def referred(
        self, probabilities: np.ndarray, grades: np.ndarray, lowest: int, oedema: np.ndarray | None = None
    ) -> np.ndarray:
        """bool [n]: which images are referred, by the threshold if there is one, else from grade `lowest` upwards or by
        the probability of macular oedema [n], if that was learned."""
        point = self.referral
        called = grades >= lowest if point is None else score(probabilities, point.lowest) >= point.threshold
        return called if oedema is None else called | (oedema >= self.oedema_from)

    @property
    def oedema_from(self) -> float:
        """The probability of macular oedema from which an image is referred."""
        return LIKELY if self.referral is None else self.referral.threshold

    def sets(self, probabilities: np.ndarray, grades: np.ndarray) -> list[str]:
        """The set of each image as in predictions.csv: class numbers separated by spaces, "1 2"; "" without limits."""
        if self.limits is None:
            return [""] * len(grades)
        members = sets_of(self.before(probabilities), grades, self.limits, self.ordered)
        return [" ".join(map(str, np.flatnonzero(row))) for row in members]

    def as_json(self) -> dict[str, Any]:
        """The content of readout.json."""
        later = ("referral", "adjustment")  # keys that earlier versions cannot read
        return {"thresholds" if key == "cutoffs" else key: value for key, value in asdict(self).items()
                if value is not None or key not in later}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReadoutOptions:
    """What to fit: a temperature (or `steps` instead), cutoffs, and prediction sets of that coverage (0 = no sets)."""

    decision: str
    ordered: bool
    temperature: bool
    steps: bool = False
    cutoffs: bool
    coverage: float


def fit_readout(
    raw: np.ndarray, labels: np.ndarray, options: ReadoutOptions, groups: np.ndarray | None = None,
    least: int = LEAST_IMAGES,
) -> Readout:  # fmt: skip
    """The readout for raw probabilities [n, K], labels and patients int [n]; plain for fewer than `least` images."""
    if len(labels) < least or not (options.temperature or options.cutoffs or options.coverage):
        return Readout(decision=options.decision, ordered=options.ordered)
    readout = Readout(decision=options.decision, ordered=options.ordered, coverage=options.coverage, images=len(labels))
    if options.temperature and options.steps:
        readout = replace(readout, steps=calibration.fit_steps(raw, labels))
    elif options.temperature:
        readout = replace(readout, temperature=calibration.fit_temperature(raw, labels))
    probabilities, cutoffs = readout.probabilities(raw), None
    if options.cutoffs and options.decision != "most_probable":
        truth = np.eye(raw.shape[1])[labels] if readout.steps is None else probabilities
        places = decisions.place_of(probabilities, options.decision)
        units = np.arange(len(labels)) if groups is None else groups
        cutoffs = choose_cutoffs(places, labels, truth, np.unique(units, return_inverse=True)[1])
    limits = fit_limits(probabilities, labels, options.coverage) if options.coverage else None
    return replace(readout, cutoffs=cutoffs, limits=limits)


def crossed(
    fit: Callable[[np.ndarray], Readout], raw: np.ndarray, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Cross-fitted probabilities [n, K], grades [n] and sets [n] of images with raw probabilities [n, K].

    fit: the readout fitted on the images bool [n]. parts: int [n]; each part is read with a readout fitted on all other
    parts, a single part with one fitted on itself.
    """
    probabilities, grades, words = np.empty_like(raw), np.empty(len(raw), np.int64), np.empty(len(raw), dtype=object)
    for part in np.unique(parts):
        own = parts == part
        readout = fit(own if own.all() else ~own)
        probabilities[own] = readout.probabilities(raw[own])
        grades[own] = readout.grades(probabilities[own])
        words[own] = readout.sets(probabilities[own], grades[own])
    return probabilities, grades, list(words)


def fit_limits(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> tuple[float, ...]:
    """The limit of each class [K] from calibration images: the lowest probability with which it enters a set.

    It is 0, so that the class is in every set, if fewer than coverage / (1 - coverage) images cannot guarantee more.
    """
    limits = []
    for k in range(probabilities.shape[1]):
        own = np.sort(probabilities[labels == k, k])[::-1]
        rank = math.ceil(coverage * (len(own) + 1) - 1e-9)
        limits.append(float(own[rank - 1]) if rank <= len(own) else 0.0)
    return tuple(limits)


def sets_of(probabilities: np.ndarray, grades: np.ndarray, limits: Sequence[float], ordered: bool) -> np.ndarray:
    """bool [n, K]: the classes in the set of each image, always including its grade; without gaps if `ordered`."""
    # A limit equals the probability of a calibration image, which an exported file reproduces only to six digits.
    members = probabilities >= np.asarray(limits) - SAME
    members[np.arange(len(grades)), grades] = True
    if not ordered:
        return members
    from_below = np.logical_or.accumulate(members, axis=1)
    return np.asarray(from_below & np.logical_or.accumulate(members[:, ::-1], axis=1)[:, ::-1])


def from_words(column: pd.Series, classes: int) -> np.ndarray:
    """The column `set` of predictions.csv: bool [n, K]; FovealError for anything but class numbers."""
    members = np.zeros((len(column), classes), bool)
    for row, words in enumerate(column.fillna("").astype(str)):
        for word in words.split():
            if not word.isdigit() or int(word) >= classes:
                expected = f"class numbers 0 to {classes - 1}, separated by spaces"
                raise FovealError("predictions.value", f"column set contains '{words}'", expected=expected)
            members[row, int(word)] = True
    return members


def write_readout(run: Path, readout: Readout) -> None:
    """Write RUN/readout.json."""
    write_json(run / FILE, readout.as_json())


def read_readout(run: Path, decision: str, ordered: bool, expected: bool = False) -> Readout:
    """Read RUN/readout.json, or return a plain readout if the run has none; FovealError if one was `expected`."""
    file = run / FILE
    if file.is_file():
        return readout_from(read_json(file))
    if expected:
        raise FovealError("run.damaged", f"{file} is missing", fix="copy the whole run folder again")
    return Readout(decision=decision, ordered=ordered)


def readout_from(found: Mapping[str, Any]) -> Readout:
    """The readout that `as_json` converted."""
    kept = {"cutoffs" if key == "thresholds" else key: _as_tuples(value) for key, value in found.items()}
    for name, made in (("referral", Referral), ("adjustment", Adjustment)):
        if kept.get(name) is not None:
            kept[name] = made(**kept[name])
    return Readout(**kept)


def _as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_tuples(one) for key, one in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value
