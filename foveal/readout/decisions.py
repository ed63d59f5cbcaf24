"""Decisions: how a grade follows from the calibrated probabilities [n, K] of ordered grades.

most_probable   the class with the highest probability: the most correct grades, but errors may be large
expected        the expected grade sum_k k p_k, rounded half-way: the smallest squared error, but few correct grades
                where the probabilities are spread, as on photographs of another camera
sharpened       the same with probabilities p_k^3, scaled to sum to 1: between the two, and the default
median          the lowest grade that at least half of the probability does not exceed: the smallest absolute error; it
                is only compared with the others

benchmarks/decisions.py compares the rules. Cutoffs replace half-way rounding on the scale of the expected grade. They
are fitted for quadratic kappa, because a grader trained on few images of a grade rarely reaches it. With few images,
the best ones are partly luck. So they are shrunk towards the default, half-way between grades, and used only if they
beat it out of fold, in kappa and in the sum of kappa and accuracy, by more than the standard error of the difference: a
little kappa must not cost many correct grades (docs/log.md).
"""

from collections.abc import Sequence

import numpy as np

from foveal.errors import FovealError
from foveal.metrics import quadratic_kappa

DECISIONS = ("most_probable", "expected", "sharpened")
POWER = 3  # a saved readout has only the name of its rule, so another power needs another name
ALMOST = 1e-9  # a cumulative probability this close to one half counts as half
CANDIDATES = 200  # places tried for each cutoff; more would hardly change kappa
ROUNDS = 20
SHRINK = 25  # images that count for the default: with as many, cutoffs move half of the way
FOLDS = 5
SEED = 0  # of the folds

Cutoffs = tuple[float, ...]  # [K - 1]


def half_way(classes: int) -> tuple[float, ...]:
    """0.5, 1.5, … K - 1.5."""
    return tuple(k + 0.5 for k in range(classes - 1))


def expected_grades(probabilities: np.ndarray) -> np.ndarray:
    """sum_k k p_k of probabilities [n, K]: float [n]."""
    return np.asarray(probabilities @ np.arange(probabilities.shape[1]))


def place_of(probabilities: np.ndarray, decision: str) -> np.ndarray:
    """Where images with probabilities [n, K] lie between grade 0 and K - 1, on the scale of cutoffs: float [n]."""
    if decision != "sharpened":
        return expected_grades(probabilities)
    powers = probabilities**POWER
    return expected_grades(powers) / powers.sum(1)


def cut(places: np.ndarray, cutoffs: Sequence[float]) -> np.ndarray:
    """Grades int [n]: the number of cutoffs at or below each place."""
    return np.searchsorted(np.asarray(cutoffs), places, side="right")


def medians(probabilities: np.ndarray) -> np.ndarray:
    """Grades int [n]: the median of each distribution [n, K], the lower of two."""
    return np.asarray((probabilities.cumsum(1)[:, :-1] < 0.5 - ALMOST).sum(1))


def decide(probabilities: np.ndarray, decision: str, cutoffs: Sequence[float] | None = None) -> np.ndarray:
    """Grades int [n] from calibrated probabilities [n, K]; cutoffs: None for half-way. FovealError if unknown."""
    if decision not in DECISIONS:
        raise FovealError("option.value", f"decision '{decision}' is unknown", expected=" or ".join(DECISIONS))
    if decision == "most_probable":
        return probabilities.argmax(1)
    return cut(place_of(probabilities, decision), cutoffs or half_way(probabilities.shape[1]))


def choose_cutoffs(
    places: np.ndarray, labels: np.ndarray, truth: np.ndarray, groups: np.ndarray, default: Cutoffs | None = None
) -> Cutoffs | None:
    """Cutoffs for images at `places` [n], or the default (None for half-way) if fitted ones are not clearly better.

    labels: int [n]. truth: as for `fit_cutoffs`. groups: int [n], the patient of each image, numbered from 0.
    """
    usual = cut(places, default or half_way(truth.shape[1]))
    grades = out_of_fold(places, truth, groups, default)
    better = all(gain > error for gain, error in gained(labels, usual, grades, groups))
    return shrunk_cutoffs(places, truth, default) if better else default


def out_of_fold(places: np.ndarray, truth: np.ndarray, units: np.ndarray, default: Cutoffs | None = None) -> np.ndarray:
    """Grades int [n] by cutoffs that were fitted without the image's group; the default with a single group."""
    fold_of = np.random.default_rng(SEED).permutation(int(units.max()) + 1)[units] % FOLDS
    grades = cut(places, default or half_way(truth.shape[1]))
    for fold in np.unique(fold_of):
        own = fold_of == fold
        if not own.all():
            grades[own] = cut(places[own], shrunk_cutoffs(places[~own], truth[~own], default))
    return grades


def shrunk_cutoffs(places: np.ndarray, truth: np.ndarray, default: Cutoffs | None = None) -> Cutoffs:
    """Fitted cutoffs, moved towards the default (None for half-way): with few images far, with many hardly."""
    usual = np.array(default or half_way(truth.shape[1]))
    return tuple((usual + len(places) / (len(places) + SHRINK) * (fit_cutoffs(places, truth) - usual)).tolist())


def gained(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, groups: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The gain of the grades `after` over `before`, int [n], in quadratic kappa and in kappa plus accuracy.

    Each with its standard error over groups, which follows from the influence of each image on the difference (the
    infinitesimal jackknife, Efron 1982).
    """
    (first, one), (second, other) = (_influence(labels, grades) for grades in (before, after))
    kappa, right = second - first, (after == labels).astype(float) - (before == labels)
    influences = (other - one, other - one + right - right.mean())
    errors = [float(np.sqrt((np.bincount(groups, each) ** 2).sum()) / len(labels)) for each in influences]
    return (kappa, errors[0]), (kappa + float(right.mean()), errors[1])


def _influence(labels: np.ndarray, grades: np.ndarray) -> tuple[float, np.ndarray]:
    """Quadratic kappa 1 - O / E, and n times its change with the weight of each image [n]."""
    true, given = labels.astype(float), grades.astype(float)
    observed = (true - given) ** 2  # O is the mean over the pairs; E, over all labels with all grades
    by_label = (true - given.mean()) ** 2 + given.var()
    by_grade = (given - true.mean()) ** 2 + true.var()
    o, e = observed.mean(), by_label.mean()
    if not e:
        return 0.0, np.zeros(len(labels))
    return float(1 - o / e), -(observed - o) / e + o / e**2 * (by_label + by_grade - 2 * e)


def fit_cutoffs(places: np.ndarray, truth: np.ndarray) -> Cutoffs:
    """K - 1 ordered cutoffs of places [n] with the highest quadratic kappa against the truth [n, K].

    The truth is either one-hot labels or calibrated probabilities, which depend less on the few images near a cutoff
    (docs/log.md). Each cutoff in turn moves to its best place between its neighbours, until kappa no longer improves.
    Among equally good places, the median is used.
    """
    order, defaults = np.argsort(places), half_way(truth.shape[1])
    tried = np.unique(np.quantile(places, np.linspace(0, 1, CANDIDATES)))
    tried = np.union1d((tried[1:] + tried[:-1]) / 2, defaults)
    sums = np.concatenate([np.zeros((1, truth.shape[1])), truth[order].cumsum(0)])
    below = sums[np.searchsorted(places[order], tried)]
    chosen = np.searchsorted(tried, defaults)
    best = _kappas(below, sums[-1], chosen, 0, chosen[:1])[0]
    for _ in range(ROUNDS):
        before = best
        for k in range(len(chosen)):
            low, high = ([-1, *chosen, len(tried)][number] for number in (k, k + 2))
            free = np.arange(low + 1, high)
            kappas = _kappas(below, sums[-1], chosen, k, free)
            if kappas.max() > best + 1e-12:
                best = kappas.max()
                equal = free[kappas >= best - 1e-12]
                chosen[k] = equal[len(equal) // 2]
        if best <= before + 1e-9:
            break
    return tuple(tried[chosen].tolist())


def _kappas(below: np.ndarray, total: np.ndarray, chosen: np.ndarray, k: int, free: np.ndarray) -> np.ndarray:
    """Kappa [m] with cutoff k at each place in `free` [m]; the truth below each place [places, K] and in all [K]."""
    sums = np.repeat(below[chosen][None], len(free), axis=0)
    sums[:, k] = below[free]
    confusions = np.diff(sums, axis=1, prepend=0, append=np.broadcast_to(total, (len(free), 1, len(total))))
    return np.nan_to_num(quadratic_kappa(confusions.swapaxes(1, 2)))
