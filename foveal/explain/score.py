"""Scores of maps where the lesions are known: on drawn photographs.

Legend: n pictures, s pixels a side. Every measure is taken inside the retina and stands beside what chance would give:
lesions cover little of a picture, so a share of 0.1 may be much, and of many lesions one is easily hit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from foveal.evaluate.intervals import draw_counts, percentile_interval

RESAMPLES = 2000
REACH = 0.03  # of the side: how far beside a lesion the pointing game still counts as a hit


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """How one map meets the lesions of one picture; shares and areas in 0-1."""

    auc: float  # of lesion pixels against the rest of the retina; 0.5 is chance
    hit: float  # 1: the strongest place lies in a lesion, widened by `REACH`
    hit_chance: float  # area of the widened lesions in the retina: what a random place would score
    energy: float  # share of the map that lies in lesions
    area: float  # share of the retina that lesions cover: what an even map would score
    border_energy: float


def score_map(heat: np.ndarray, lesions: np.ndarray, retina: np.ndarray, border: float) -> PictureScore:
    """Score a map float [s, s] >= 0 against lesions bool [s, s] in a retina bool [s, s].

    The pointing game is that of Zhang et al. 2018 (excitation backprop). ValueError where the retina holds no lesion.
    """
    lesions = lesions & retina
    if not lesions.any() or lesions[retina].all():
        raise ValueError("a map is scored on a retina of which lesions cover a part")
    reach = round(REACH * len(heat))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wide = (cv2.dilate(lesions.astype(np.uint8), kernel) > 0) & retina
    inside = np.where(retina, heat, 0.0)
    total = float(inside.sum())
    place = np.unravel_index(np.argmax(inside), inside.shape)
    return PictureScore(
        auc=auc(heat[retina], lesions[retina]),
        hit=float(wide[place]) if total > 0 else float(wide[retina].mean()),  # an empty map points nowhere: chance
        hit_chance=float(wide[retina].mean()),
        energy=float(heat[lesions].sum()) / total if total > 0 else float(lesions[retina].mean()),
        area=float(lesions[retina].mean()),
        border_energy=border,
    )


def auc(values: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of values [m] for positive bool [m], ties counted half."""
    from scipy.stats import rankdata

    count = int(positive.sum())
    ranks = rankdata(values)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(values) - count)))


def lesions_at(mask: np.ndarray, size: int, coverage: float = 0.35) -> np.ndarray:
    """A mask uint8 [S, S] of lesions, any kind, at the map's size: bool [size, size], owned from `coverage` on."""
    method = cv2.INTER_AREA if size < len(mask) else cv2.INTER_NEAREST
    return cv2.resize((mask > 0).astype(np.float32), (size, size), interpolation=method) >= coverage


def contrast_map(pixels: np.ndarray, empty: np.ndarray, size: int) -> np.ndarray:
    """A map made without any grader, float32 [size, size]: how far each pixel differs from its blurred surroundings.

    Lesions stand out by themselves; a map that finds them no better than this tells nothing of the grader.
    """
    difference = cv2.absdiff(pixels, empty).max(axis=2).astype(np.float32)
    blurred = cv2.GaussianBlur(difference, (0, 0), max(0.012 * len(pixels), 0.8))
    return cv2.resize(blurred, (size, size), interpolation=cv2.INTER_AREA if size < len(pixels) else cv2.INTER_LINEAR)


MEASURES = ("auc", "pointing", "enrichment", "border_energy")


def summarise(scores: Sequence[PictureScore], counts: np.ndarray, owners: np.ndarray) -> dict[str, Any]:
    """Each of `MEASURES` as {value, low, high, n, chance}, with 95 % bootstrap intervals over patients.

    `counts`: int [R, G] from `draw_counts`; `owners`: int [n], the patient of each picture.
    """
    values = {name: resampled(scores, name, counts, owners) for name in MEASURES}
    chance = {
        "auc": 0.5, "enrichment": 1.0, "border_energy": None,
        "pointing": float(np.mean([score.hit_chance for score in scores])),
    }  # fmt: skip
    summary = {}
    for name, (value, drawn) in values.items():
        low, high = percentile_interval(drawn)
        summary[name] = {"value": value, "low": low, "high": high, "n": len(scores), "chance": chance[name]}
    return summary


def resampled(
    scores: Sequence[PictureScore], name: str, counts: np.ndarray, owners: np.ndarray
) -> tuple[float, np.ndarray]:
    """The value of one measure, and its values [R] in the resamples.

    Enrichment is the ratio of two means, energy and area, and not the mean of ratios: a picture with a single small
    lesion would outweigh all others.
    """
    above, below = _fractions(scores, name)
    weights = counts[:, owners]
    drawn = (weights @ above) / np.maximum(weights @ below, 1e-12)
    return float(above.sum() / max(below.sum(), 1e-12)), drawn


def _fractions(scores: Sequence[PictureScore], name: str) -> tuple[np.ndarray, np.ndarray]:
    field = {"auc": "auc", "pointing": "hit", "enrichment": "energy", "border_energy": "border_energy"}[name]
    above = np.array([getattr(score, field) for score in scores])
    below = np.array([score.area for score in scores]) if name == "enrichment" else np.ones(len(scores))
    return above, below


def draw_owners(patients: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(counts int [R, G], owners int [n]): resamples of whole patients, the same for all methods."""
    names, owners = np.unique(np.array(patients), return_inverse=True)
    return draw_counts(len(names), RESAMPLES, np.random.default_rng(seed)), owners


JUDGED = ("auc", "enrichment")  # a map must rank lesions first and lie on them; one without the other is not enough


def ahead(
    first: Sequence[PictureScore], second: Sequence[PictureScore], counts: np.ndarray, owners: np.ndarray
) -> dict[str, dict[str, float]]:
    """Paired differences, first minus second, of the measures in `JUDGED`, each as {value, low, high}."""
    differences = {}
    for name in JUDGED:
        values = [resampled(scores, name, counts, owners) for scores in (first, second)]
        low, high = percentile_interval(values[0][1] - values[1][1])
        differences[name] = {"value": values[0][0] - values[1][0], "low": low, "high": high}
    return differences


Differences = Mapping[str, Mapping[str, float]]


def verdict(method: str, random: Differences, contrast: Differences) -> str:
    """One sentence: is the trained grader's map ahead of a random network's, and of plain contrast."""
    of_random, of_contrast = _word(random), _word(contrast)
    worth = "tells of what was learned" if of_random == of_contrast == "clearly ahead of" else "is not to be relied on"
    return (
        f"{method} {worth}: it is {of_random} the same network with random weights and {of_contrast} the picture's own "
        "contrast, which needs no grader"
    )


def _word(differences: Differences) -> str:
    if all(difference["low"] > 0 for difference in differences.values()):
        return "clearly ahead of"
    if all(difference["high"] < 0 for difference in differences.values()):
        return "clearly behind"
    return "not clearly ahead of"
