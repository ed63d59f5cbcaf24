"""Scores of maps where the lesions are known: on drawn photographs.

Legend: n pictures, s pixels a side, R resamples. Every measure is taken inside the retina and comes with what chance
would give: lesions cover little of a picture, so a share of 0.1 may be much, and one of many lesions is easily hit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.evaluate.intervals import Resampling
from foveal.metrics import area_under_curve

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

    The pointing game is that of Zhang et al. 2018 (excitation backprop). FovealError where the retina holds no lesion.
    """
    lesions = lesions & retina
    if not lesions.any() or lesions[retina].all():
        raise FovealError("image.no_lesions", "lesions cover nothing or all of the retina", expected="a part of it")
    reach = round(REACH * len(heat))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wide = (cv2.dilate(lesions.astype(np.uint8), kernel) > 0) & retina
    inside = np.where(retina, heat, 0.0)
    total = float(inside.sum())
    place = np.unravel_index(np.argmax(inside), inside.shape)
    return PictureScore(
        auc=area_under_curve(heat[retina], lesions[retina]),
        hit=float(wide[place]) if total > 0 else float(wide[retina].mean()),  # an empty map points nowhere: chance
        hit_chance=float(wide[retina].mean()),
        energy=float(heat[lesions].sum()) / total if total > 0 else float(lesions[retina].mean()),
        area=float(lesions[retina].mean()),
        border_energy=border,
    )


def lesions_at(mask: np.ndarray, size: int, coverage: float = 0.35) -> np.ndarray:
    """A mask uint8 [S, S] of lesions, any kind, at the map's size: bool [size, size], true from `coverage` on."""
    method = cv2.INTER_AREA if size < len(mask) else cv2.INTER_NEAREST
    return cv2.resize((mask > 0).astype(np.float32), (size, size), interpolation=method) >= coverage


def contrast_map(pixels: np.ndarray, empty: np.ndarray, size: int) -> np.ndarray:
    """A map made without any grader, float32 [size, size]: how far each pixel differs from its blurred surroundings.

    Lesions stand out by themselves: a map that finds them no better than this says nothing about the grader.
    """
    difference = cv2.absdiff(pixels, empty).max(axis=2).astype(np.float32)
    blurred = cv2.GaussianBlur(difference, (0, 0), max(0.012 * len(pixels), 0.8))
    return cv2.resize(blurred, (size, size), interpolation=cv2.INTER_AREA if size < len(pixels) else cv2.INTER_LINEAR)


# Measure -> fields of PictureScore, above and below the line. Enrichment is the ratio of two means and not the mean of
# ratios, where a picture with a single small lesion would outweigh all others.
MEASURES = {"auc": ("auc", ""), "pointing": ("hit", ""), "enrichment": ("energy", "area"),
            "border_energy": ("border_energy", "")}  # fmt: skip


def summarise(scores: Sequence[PictureScore], resampling: Resampling) -> dict[str, Any]:
    """Each of `MEASURES` as value, low, high, n, noise and chance; `resampling` draws whole patients."""
    hits = float(np.mean([score.hit_chance for score in scores]))
    chance = {"auc": 0.5, "pointing": hits, "enrichment": 1.0, "border_energy": None}
    share_of = {"pointing": np.ones(len(scores), bool)}
    return {
        name: {**resampling.entry(*_drawn(scores, name, resampling), len(scores), share_of=share_of.get(name)),
               "chance": chance[name]}
        for name in MEASURES
    }  # fmt: skip


def _drawn(scores: Sequence[PictureScore], name: str, resampling: Resampling) -> tuple[float, np.ndarray]:
    """The value of one measure, and its values [R] in the resamples."""
    above, below = ([getattr(score, field) if field else 1.0 for score in scores] for field in MEASURES[name])
    return resampling.ratio(np.array(above), np.array(below))


JUDGED = ("auc", "enrichment")  # a map must rank lesions first and lie on them; one without the other is not enough


def ahead(
    first: Sequence[PictureScore], second: Sequence[PictureScore], resampling: Resampling
) -> dict[str, dict[str, float]]:
    """Paired differences, first minus second, of the measures in `JUDGED`, each as value, low and high."""
    differences = {}
    for name in JUDGED:
        (value, drawn), (other, others) = (_drawn(scores, name, resampling) for scores in (first, second))
        low, high = resampling.interval(value - other, drawn - others)
        differences[name] = {"value": value - other, "low": low, "high": high}
    return differences


Differences = Mapping[str, Mapping[str, float]]
AHEAD = "clearly ahead of"


def verdict(method: str, random: Differences, contrast: Differences) -> str:
    """One sentence: does the trained grader's map beat that of a random network, and plain contrast."""
    of_random, of_contrast = _word(random), _word(contrast)
    worth = "shows what was learned" if of_random == of_contrast == AHEAD else "is not reliable"
    return (
        f"{method} {worth}: it is {of_random} the same network with random weights and {of_contrast} the picture's own "
        "contrast, which needs no grader"
    )


def _word(differences: Differences) -> str:
    if all(difference["low"] > 0 for difference in differences.values()):
        return AHEAD
    if all(difference["high"] < 0 for difference in differences.values()):
        return "clearly behind"
    return "not clearly ahead of"
