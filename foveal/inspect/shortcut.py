"""The shortcut probe: can the grade be told from the frame of a picture, without looking at what is in it?

Grades that came from several cameras or clinics often go with the size of the file, the width of the black border or
the tint of the whole picture. A network finds such a shortcut, scores well, and fails at the next clinic. So a small
model is asked to tell the grade from these few numbers alone, on images of groups that it has not learned from.

Forests of extremely randomised trees (Geurts et al. 2006) find steps, slopes and combinations alike, and with large
leaves they find little where there is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from foveal import metrics
from foveal.evaluate.intervals import draw_counts, percentile_interval

CUES = ("width", "height", "aspect ratio", "border", "red", "green", "blue", "grey")
FOLDS = 5
RESAMPLES = 1000
FEWEST_IMAGES = 50
FEWEST_GROUPS = 20  # four to a fold: below, whole classes are missing from what is learned
MOST_IMAGES = 10_000  # more would narrow the interval by little, and cost time
TREES, TREES_OF_ONE = 100, 30  # for all cues together, and for one alone
DEALS = 19  # beating the labels of all of them happens by luck once in twenty times
BEYOND_LUCK = 0.3  # of the way from chance to perfect: a lower bound above this is no luck, and needs no deals


@dataclass(frozen=True, kw_only=True)
class Cue:
    """How far one number alone tells the grade."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """What the probe found: `value` in `metric`, which is `chance` where there is no shortcut; cues strongest first.

    `luck` is the most that labels without any signal reached, nan where that was not needed. `why_not` says why
    nothing could be measured; all figures are nan then.
    """

    metric: str
    chance: float = np.nan
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    luck: float = np.nan
    n: int = 0
    of: int = 0  # labelled images; n of them were drawn where there are too many
    groups: int = 0
    cues: tuple[Cue, ...] = ()
    why_not: str = ""

    @property
    def found(self) -> bool:
        """True when the whole interval is above chance, and the value above what luck reached."""
        return self.low > self.chance and not self.value <= self.luck

    @property
    def strength(self) -> float:
        """0 at chance, 1 where the frame tells every grade."""
        return (self.value - self.chance) / (1 - self.chance)


def probe(cues: pd.DataFrame, labels: np.ndarray, units: np.ndarray, *, ordered: bool, seed: int = 0) -> Shortcut:
    """Tell int labels [n] from the numbers in `cues` [n rows], by cross-validation over groups.

    units: int [n], the group of each image. Ordered grades are judged in quadratic kappa, others in balanced accuracy,
    both with a 95 % interval that draws whole groups. Cues that never change are left out.
    """
    metric = "quadratic kappa" if ordered else "balanced accuracy"
    cues = cues.loc[:, [name for name in cues if cues[name].nunique() > 1]]
    why_not = _why_not(cues, labels, units)
    if why_not:
        return Shortcut(metric=metric, n=len(labels), of=len(labels), why_not=why_not)
    generator = np.random.default_rng(seed)
    chosen, of = _some_groups(units, generator), len(labels)
    values = cues.fillna(cues.median()).to_numpy(float)[chosen]
    labels, units = np.unique(labels[chosen], return_inverse=True)[1], np.unique(units[chosen], return_inverse=True)[1]
    judge = _Judge(labels, units, ordered, generator)
    each = [judge.judge(values[:, [column]], TREES_OF_ONE) for column in range(values.shape[1])]
    value, low, high = judge.judge(values, TREES)
    unsure = judge.chance < low < judge.chance + BEYOND_LUCK * (1 - judge.chance)
    luck = max(judge.luck(values, generator) for _ in range(DEALS)) if unsure else np.nan
    named = [Cue(name=str(name), value=v, low=lo, high=hi) for name, (v, lo, hi) in zip(cues, each, strict=True)]
    return Shortcut(
        metric=metric, chance=judge.chance, value=value, low=low, high=high, luck=luck,
        n=len(labels), of=of, groups=int(units.max()) + 1, cues=tuple(sorted(named, key=lambda cue: -cue.value)),
    )  # fmt: skip


def _why_not(cues: pd.DataFrame, labels: np.ndarray, units: np.ndarray) -> str:
    if len(labels) < FEWEST_IMAGES:
        return f"{len(labels)} labelled images are too few; {FEWEST_IMAGES} are needed"
    if len(np.unique(labels)) < 2:
        return "all labelled images are of one class"
    if len(np.unique(units)) < FEWEST_GROUPS:
        return f"{len(np.unique(units))} groups are too few; {FEWEST_GROUPS} are needed"
    return "" if cues.shape[1] else "size, border and colour are the same for all images"


def _some_groups(units: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions of the images of as many whole groups as hold MOST_IMAGES; of all where there are no more."""
    if len(units) <= MOST_IMAGES:
        return np.arange(len(units))
    order = generator.permutation(int(units.max()) + 1)
    sizes = np.bincount(units)[order]
    kept = order[np.cumsum(sizes) <= MOST_IMAGES]
    return np.flatnonzero(np.isin(units, kept))


class _Judge:
    """Folds and resamples, the same for every set of cues, so that their figures can be compared."""

    def __init__(self, labels: np.ndarray, units: np.ndarray, ordered: bool, generator: np.random.Generator) -> None:
        self.labels, self.units, self.ordered = labels, units, ordered
        self.classes = int(labels.max()) + 1
        self.chance = 0.0 if ordered else 1 / self.classes
        self.folds = folds_of(labels, units, generator)
        self.counts = draw_counts(int(units.max()) + 1, RESAMPLES, generator)

    def judge(self, values: np.ndarray, trees: int) -> tuple[float, float, float]:
        """(value, low, high) of what the columns of `values` tell of images whose group was not learned from."""
        tables = self._told(values, self.labels, self.folds, trees)
        drawn = np.tensordot(self.counts, tables, 1)
        return float(self._score(tables.sum(0))), *percentile_interval(self._score(drawn))

    def luck(self, values: np.ndarray, generator: np.random.Generator) -> float:
        """What the same columns reach where the labels are dealt out anew; neighbours in a group stay neighbours."""
        given_to, taken_from = (np.argsort(generator.permutation(len(self.counts[0]))[self.units], kind="stable")
                                for _ in range(2))  # fmt: skip
        dealt = np.empty_like(self.labels)
        dealt[given_to] = self.labels[taken_from]
        folds = folds_of(dealt, self.units, generator)
        return float(self._score(self._told(values, dealt, folds, TREES_OF_ONE).sum(0)))

    def _told(self, values: np.ndarray, labels: np.ndarray, folds: np.ndarray, trees: int) -> np.ndarray:
        given = np.zeros_like(labels)
        for fold in range(FOLDS):
            held = folds == fold
            given[held] = self._tell(values[~held], labels[~held], values[held], trees)
        return metrics.confusion_matrices(labels, given, self.units, self.classes)

    def _tell(self, known: np.ndarray, labels: np.ndarray, asked: np.ndarray, trees: int) -> np.ndarray:
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        options: dict[str, Any] = {"min_samples_leaf": max(5, len(known) // 200), "random_state": 0}
        if self.ordered:
            forest = ExtraTreesRegressor(trees, max_features=1.0, **options).fit(known, labels.astype(float))
            return as_grades(forest.predict(asked), labels, self.classes)
        forest = ExtraTreesClassifier(trees, max_features=1.0, class_weight="balanced", **options).fit(known, labels)
        return np.asarray(forest.predict(asked))

    def _score(self, confusion: np.ndarray) -> np.ndarray:
        if self.ordered:
            return metrics.quadratic_kappa(confusion)
        recalls = metrics.recall(confusion)
        present = ~np.isnan(recalls)  # a class that was not drawn has no recall
        return np.where(present, recalls, 0).sum(-1) / present.sum(-1)


def folds_of(labels: np.ndarray, units: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """int [n]: a fold for each image; groups stay whole, and each fold has about the same mix of labels."""
    count = int(units.max()) + 1
    highest = np.zeros(count, np.int64)
    np.maximum.at(highest, units, labels)
    shuffled = generator.permutation(count)
    order = shuffled[np.argsort(highest[shuffled], kind="stable")]
    folds = np.empty(count, np.int64)
    folds[order] = np.arange(count) % FOLDS
    return folds[units]


def as_grades(scores: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Grades by rank: as many images get each grade as have it among the `known` labels; ties get the same.

    Rounding would give most images the middle grade wherever the signal is weak, and hide it from kappa.
    """
    share = (rankdata(scores) - 0.5) / len(scores)
    up_to = np.cumsum(np.bincount(known, minlength=classes)) / len(known)
    return np.minimum(np.searchsorted(up_to, share, side="right"), classes - 1)
