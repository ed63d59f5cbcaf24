"""Scores of maps on drawn photographs, where the lesions are known, and controls with random weights.

Legend: n pictures, s pixels per side, R resamples. Every measure is computed inside the retina and compared with
chance: lesions cover little of a picture, so a share of 0.1 may be high, and one of many lesions is easy to hit.
A map must change when the learned weights are replaced (Adebayo et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.evaluate.difference import difference
from foveal.evaluate.intervals import Resampling
from foveal.metrics import area_under_curve
from foveal.nets.heads import Grader
from foveal.nets.layers import re_estimate, statistics_layers

REACH = 0.03  # share of the side: a point this close to a lesion still counts as a hit in the pointing game
# Measure -> (numerator, denominator), fields of PictureScore. Enrichment is the ratio of two means, not the mean of
# ratios: there, a picture with a single small lesion would outweigh all others.
MEASURES = {"auc": ("auc", ""), "pointing": ("hit", ""), "enrichment": ("energy", "area"),
            "border_energy": ("border_energy", "")}  # fmt: skip
JUDGED = ("auc", "enrichment")  # a map must both rank lesions first and concentrate on them
WORDS = {"better": "clearly better than", "worse": "clearly worse than"}
# Cascading randomisation: which layers get random weights, counted from the end, as a share of the layers.
STEPS = {"head": 0.0, "head and last half": 0.5, "all": 1.0}

Differences = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """How well one map finds the lesions of one picture; shares and areas in 0-1."""

    auc: float  # of lesion pixels against the rest of the retina; 0.5 is chance
    hit: float  # 1 if the strongest pixel is in a lesion, widened by `REACH`
    hit_chance: float  # area of the widened lesions in the retina: the score of a random pixel
    energy: float  # share of the map inside lesions
    area: float  # share of the retina that lesions cover: the score of an even map
    border_energy: float


def score_map(heat: np.ndarray, lesions: np.ndarray, retina: np.ndarray, border: float) -> PictureScore:
    """Score a map float [s, s] >= 0 against lesions bool [s, s] in a retina bool [s, s].

    The pointing game is that of Zhang et al. 2018 (excitation backprop). FovealError if the retina has no lesions.
    """
    lesions = lesions & retina
    if not lesions.any() or lesions[retina].all():
        raise FovealError("image.no_lesions", "lesions cover none or all of the retina", expected="a part of it")
    reach = round(REACH * len(heat))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wide = (cv2.dilate(lesions.astype(np.uint8), kernel) > 0) & retina
    inside = np.where(retina, heat, 0.0)
    total = float(inside.sum())
    place = np.unravel_index(np.argmax(inside), inside.shape)
    return PictureScore(
        auc=area_under_curve(heat[retina], lesions[retina]),
        hit=float(wide[place]) if total > 0 else float(wide[retina].mean()),  # an empty map scores like chance
        hit_chance=float(wide[retina].mean()),
        energy=float(heat[lesions].sum()) / total if total > 0 else float(lesions[retina].mean()),
        area=float(lesions[retina].mean()),
        border_energy=border,
    )


def lesions_at(mask: np.ndarray, size: int, coverage: float = 0.35) -> np.ndarray:
    """A lesion mask uint8 [S, S] at the size of a map: bool [size, size], true if at least `coverage` is lesion."""
    method = cv2.INTER_AREA if size < len(mask) else cv2.INTER_NEAREST
    return cv2.resize((mask > 0).astype(np.float32), (size, size), interpolation=method) >= coverage


def contrast_map(pixels: np.ndarray, empty: np.ndarray, size: int) -> np.ndarray:
    """A map without a grader, float32 [size, size]: the difference of each pixel from its blurred surroundings.

    Lesions have contrast. A map that finds them no better than this one says nothing about the grader.
    """
    difference = cv2.absdiff(pixels, empty).max(axis=2).astype(np.float32)
    blurred = cv2.GaussianBlur(difference, (0, 0), max(0.012 * len(pixels), 0.8))
    return cv2.resize(blurred, (size, size), interpolation=cv2.INTER_AREA if size < len(pixels) else cv2.INTER_LINEAR)


def summarise(scores: Sequence[PictureScore], resampling: Resampling) -> dict[str, Any]:
    """Each of `MEASURES` as value, low, high, n, noise and chance; `resampling` is by patient."""
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


def ahead(first: Sequence[PictureScore], second: Sequence[PictureScore], resampling: Resampling) -> Differences:
    """Paired differences, first minus second, of the measures in `JUDGED`: value, low, high and answer."""
    drawn = {name: (_drawn(second, name, resampling), _drawn(first, name, resampling)) for name in JUDGED}
    return {name: difference(before, after, resampling) for name, (before, after) in drawn.items()}


def verdict(method: str, random: Differences, contrast: Differences) -> str:
    """One sentence: whether the map is better than that of a random network, and than plain contrast."""
    of_random, of_contrast = _word(random), _word(contrast)
    worth = "reflects what the grader learned" if of_random == of_contrast == WORDS["better"] else "is not reliable"
    return (
        f"{method} {worth}: it is {of_random} the same network with random weights and {of_contrast} the contrast of "
        "the picture, which needs no grader"
    )


def _word(differences: Differences) -> str:
    answers = {one["answer"] for one in differences.values()}
    return WORDS.get(answers.pop(), "not clearly better than") if len(answers) == 1 else "not clearly better than"


def randomised(grader: Grader, share: float, seed: int, pictures: Tensor) -> Grader:
    """A copy whose head, and the last `share` (0-1) of the encoder's layers, have random weights.

    Layers are the modules with weights of their own, in the order of the encoder. Batch-norm statistics are measured
    again on `pictures` [n, C, s, s]: with the old statistics the signal would vanish, and an empty map proves nothing.
    """
    copied = deepcopy(grader)
    layers = [module for module in copied.encoder.modules() if _has_weights(module)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in [*layers[len(layers) - round(share * len(layers)) :], copied.head]:
            _shuffle(layer)
    for layer in statistics_layers(copied):
        layer.train()
    re_estimate(copied, pictures.split(8))
    return copied.eval()


def _has_weights(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() > 1


def _shuffle(layer: nn.Module) -> None:
    """Replace weights by normal random ones with the same standard deviation, to keep only their scale.

    The mean is set to 0: inputs are positive, and a negative mean would silence every unit of the layer.
    """
    with torch.no_grad():
        for weight in layer.parameters(recurse=False):
            drawn = torch.randn(weight.shape).to(weight.device)  # on the CPU, for the same numbers on every device
            weight.copy_(drawn * weight.std(correction=0))


def rank_correlation(first: np.ndarray, second: np.ndarray, retina: np.ndarray) -> float:
    """Spearman's correlation of two maps [s, s] within a retina bool [s, s]; nan if one of them is constant."""
    ranks = [rankdata(heat[retina]) for heat in (first, second)]
    if min(float(np.ptp(rank)) for rank in ranks) == 0:
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
