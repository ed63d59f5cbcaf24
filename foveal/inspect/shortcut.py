"""The shortcut probe: can the grade be guessed from size, border and colour, without looking at the retina?

A network that learns such a shortcut scores well, and fails at the next clinic. Extremely randomised trees (Geurts et
al. 2006) find steps, slopes and interactions; large leaves prevent overfitting.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from foveal import metrics
from foveal.evaluate.intervals import Resampling
from foveal.sets.splits import draw_groups, k_folds

CUES = ("width", "height", "aspect ratio", "border", "red", "green", "blue", "grey")
FOLDS = 5
FEWEST_IMAGES = 50
FEWEST_GROUPS = 20  # four per fold; with fewer, whole classes may be missing from the training folds
MOST_IMAGES = 10_000  # more would be slow and hardly narrow the interval
TREES, TREES_OF_ONE = 100, 30  # for all cues together, and for a single cue
DEALS = 19  # shuffled labels: by chance, a value is above all of them 1 time in 20
BEYOND_CHANCE = 0.3  # share of the way from chance to perfect: a lower bound above this needs no shuffled labels


def probe(cues: pd.DataFrame, labels: np.ndarray, units: np.ndarray, *, ordered: bool) -> dict[str, Any]:
    """Guess int labels [n] from the numbers in `cues` [n rows], by cross-validation over groups (units: int [n]).

    Returns `metric` (quadratic kappa for ordered grades, else balanced accuracy) and its `chance` level; `value`,
    `low`, `high`; `strength`, 0 at chance and 1 for perfect guesses; `found`, whether there is a shortcut; `luck`, the
    best of shuffled labels (None if not needed); `n` images in `groups` groups, out of `of` labelled images; `cues`,
    each that varies alone, strongest first; `why_not`, why nothing could be measured (all figures are then None).
    """
    cues = cues.loc[:, [name for name in cues if cues[name].nunique() > 1]]
    empty = dict.fromkeys(("chance", "value", "low", "high", "luck", "strength"))
    found: dict[str, Any] = {"metric": "quadratic kappa" if ordered else "balanced accuracy", **empty, "found": False,
                             "n": len(labels), "of": len(labels), "groups": 0, "cues": []}  # fmt: skip
    found["why_not"] = _why_not(cues, labels, units)
    if found["why_not"]:
        return found
    generator = np.random.default_rng(0)
    chosen = np.ones(len(units), bool) if len(units) <= MOST_IMAGES else draw_groups(units, MOST_IMAGES, generator)
    values = cues.fillna(cues.median()).to_numpy(float)[chosen]
    labels, units = np.unique(labels[chosen], return_inverse=True)[1], np.unique(units[chosen], return_inverse=True)[1]
    classes, resampling = int(labels.max()) + 1, Resampling(units)
    chance, metric = (0.0, metrics.quadratic_kappa) if ordered else (1 / classes, metrics.balanced_accuracy)
    folds = k_folds(labels, units.astype(str), FOLDS, generator)  # shared by all cues, so that they can be compared

    def judge(columns: np.ndarray, trees: int) -> dict[str, float]:
        given = _guessed(columns, labels, folds, trees, ordered)
        value, drawn = resampling.graded(metric, labels, given, classes)
        low, high = resampling.interval(value, drawn)
        return {"value": value, "low": low, "high": high}

    def luck_of_one() -> float:  # with labels shuffled between groups; images of a group stay together
        given_to, taken_from = (np.argsort(generator.permutation(int(units.max()) + 1)[units], kind="stable")
                                for _ in range(2))  # fmt: skip
        dealt = np.empty_like(labels)
        dealt[given_to] = labels[taken_from]
        given = _guessed(values, dealt, k_folds(dealt, units.astype(str), FOLDS, generator), TREES_OF_ONE, ordered)
        return float(metric(metrics.confusion_matrix(dealt, given, classes)))

    alone: Any = [{"name": name, **judge(values[:, [k]], TREES_OF_ONE)} for k, name in enumerate(cues)]
    together = judge(values, TREES)
    unsure = chance < together["low"] < chance + BEYOND_CHANCE * (1 - chance)
    luck = max(luck_of_one() for _ in range(DEALS)) if unsure else None
    return found | together | {"chance": chance, "luck": luck, "strength": (together["value"] - chance) / (1 - chance),
                               "found": is_found(together, chance, luck), "n": len(labels),
                               "groups": int(units.max()) + 1,
                               "cues": sorted(alone, key=lambda cue: -cue["value"])}  # fmt: skip


def is_found(entry: dict[str, float], chance: float, luck: float | None) -> bool:
    """Whether the whole interval is above chance (1 has none), and the value above the best of shuffled labels."""
    return (entry["low"] > chance or entry["value"] == 1) and (luck is None or entry["value"] > luck)


def _why_not(cues: pd.DataFrame, labels: np.ndarray, units: np.ndarray) -> str:
    if len(labels) < FEWEST_IMAGES:
        return f"only {len(labels)} labelled images; {FEWEST_IMAGES} are needed"
    if len(np.unique(labels)) < 2:
        return "all labelled images have the same class"
    if len(np.unique(units)) < FEWEST_GROUPS:
        return f"only {len(np.unique(units))} groups; {FEWEST_GROUPS} are needed"
    return "" if cues.shape[1] else "size, border and colour are the same for all images"


def _guessed(values: np.ndarray, labels: np.ndarray, folds: np.ndarray, trees: int, ordered: bool) -> np.ndarray:
    """int [n]: the class given to each image by a forest trained on the other folds."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    given = np.zeros_like(labels)
    forest: Any = ExtraTreesRegressor() if ordered else ExtraTreesClassifier(class_weight="balanced")
    forest.set_params(n_estimators=trees, max_features=1.0, random_state=0)
    for fold in range(FOLDS):
        held, known = folds == fold, labels[folds != fold]
        forest.set_params(min_samples_leaf=max(5, len(known) // 200)).fit(values[~held], known)
        answers = forest.predict(values[held])
        given[held] = as_grades(answers, known, int(labels.max()) + 1) if ordered else answers
    return given


def as_grades(scores: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Grades by rank, with the frequencies of the `known` labels; rounding would hide a weak signal from kappa."""
    up_to = np.cumsum(np.bincount(known, minlength=classes)) / len(known)
    return np.minimum(np.searchsorted(up_to, (rankdata(scores) - 0.5) / len(scores), side="right"), classes - 1)
