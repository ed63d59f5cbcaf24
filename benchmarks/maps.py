"""Measure how well the maps of `foveal explain` find lesions, for every method, on drawn photographs.

    python benchmarks/maps.py RUN --count 50

RUN is a grader that has learned from drawn photographs, whose lesions are known. Its maps are compared with those of
the same network with random weights, and with the contrast of the picture, which needs no grader. A method that passes
may still fail on real photographs; a method that fails here is not reliable at all. A map must change when the learned
weights are replaced (Adebayo et al. 2018). In shapes, s is pixels per side and R the number of resamples.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from foveal.console import progress_bar, say, show_table
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.evaluate.difference import difference
from foveal.evaluate.intervals import Resampling
from foveal.explain.explainer import (
    METHODS,
    Explainer,
    randomised,
    rank_correlation,
    resized,
    with_grader,
    without_lesions,
)
from foveal.fundus.crop import crop_square
from foveal.fundus.overlay import border_energy, retina_of
from foveal.fundus.preparation import Preparation, locate, prepare_pixels
from foveal.metrics import area_under_curve
from foveal.page.words import counted, number, value_with_interval
from foveal.sources.phantom import draw_patients

SEED = 20_000  # of the photographs: far from the small seeds of training sets
LARGEST = 256  # px: phantoms are drawn for 64 to 256
STATISTICS = 32  # pictures for the batch-norm statistics of random weights
CORRELATED = 12  # pictures whose maps are compared at each randomisation step
CONTRAST = "contrast"  # the map that needs no grader
REACH = 0.03  # share of the side: a point this close to a lesion still counts as a hit in the pointing game
# Measure -> (numerator, denominator), fields of PictureScore. Enrichment is the ratio of two means, not the mean of
# ratios: there, a picture with a single small lesion would outweigh all others.
MEASURES = {"auc": ("auc", ""), "pointing": ("hit", ""), "enrichment": ("energy", "area"),
            "border_energy": ("border_energy", "")}  # fmt: skip
JUDGED = ("auc", "enrichment")  # a map must both rank lesions first and concentrate on them
WORDS = {"better": "clearly better than", "worse": "clearly worse than"}
# Cascading randomisation: which layers get random weights, counted from the end, as a share of the layers.
STEPS = {"head": 0.0, "head and last half": 0.5, "all": 1.0}

Scores = dict[str, list["PictureScore"]]  # by method, a score per picture


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A prepared drawn photograph: `pixels` uint8 [S, S, C], `lesions` uint8 [S, S], 1 in lesions of any kind."""

    patient: str
    pixels: np.ndarray
    lesions: np.ndarray

    def places(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """bool [size, size]: the lesions and the retina at the size of a map."""
        return lesions_at(self.lesions, size), resized(retina_of(self.pixels), size)


def draw_with_lesions(count: int, preparation: Preparation, seed: int) -> Iterator[Drawn]:
    """Draw `count` photographs, two eyes per patient, and yield those with lesions, as prepared for the run."""
    size = min(preparation.size, LARGEST)
    for _, patient, phantom in islice(draw_patients((count + 1) // 2, size, seed), count):
        mask = np.where(phantom.lesions > 0, np.uint8(255), np.uint8(0))[..., None]
        cut = crop_square(mask, locate(phantom.image, preparation)[1], preparation.size)[..., 0]
        lesions = lesions_at(cut, preparation.size).astype(np.uint8)
        if lesions.any():
            pixels = prepare_pixels(phantom.image, preparation).pixels
            yield Drawn(patient=patient, pixels=pixels, lesions=lesions)


def try_maps(explainer: Explainer, count: int) -> None:
    """Score every method and print the results."""
    drawn = list(draw_with_lesions(count, explainer.predictor.preparation, SEED))
    inputs = torch.cat([explainer.input(picture.pixels) for picture in drawn[:STATISTICS]])
    copies = {step: with_grader(explainer, randomised(explainer.grader, share, SEED, inputs))
              for step, share in STEPS.items()}  # fmt: skip
    scores: Scores = {}
    random: Scores = {}
    alike: dict[str, dict[str, float]] = {}
    for method in METHODS:
        try:
            explainer.check(method)
        except FovealError as error:  # gradcam does not work with every encoder
            say(str(error))
        else:
            scores[method], random[method], alike[method] = _scored(explainer, copies, drawn, method)
    scores[CONTRAST] = []
    for picture in drawn:
        empty = without_lesions(picture.pixels, retina_of(picture.pixels))
        heat = contrast_map(picture.pixels, empty, explainer.predictor.input.image_size)
        scores[CONTRAST].append(score_map(heat, *picture.places(len(heat))))
    show(drawn, scores, random, alike)


def show(drawn: Sequence[Drawn], scores: Scores, random: Scores, alike: Mapping[str, Mapping[str, float]]) -> None:
    """Print scores, correlations with the maps of random weights, and a verdict for each method."""
    resampling = Resampling(np.unique([picture.patient for picture in drawn], return_inverse=True)[1], seed=SEED)
    rows = []
    for method, own in scores.items():
        for name, found in ((method, own), (f"{method}, random weights", random.get(method))):
            if found is not None:
                rows.append([name, *(value_with_interval(entry, 3) for entry in summarise(found, resampling).values())])
    title = f"{len(drawn)} drawn photographs with lesions, {counted(resampling.groups, 'patient')}; 95 % intervals"
    show_table(title, ["map", *MEASURES], rows)
    rows = [[method, *(number(own[step]) for step in STEPS)] for method, own in alike.items()]
    show_table("rank correlation with the original map, by what has random weights", ["map", *STEPS], rows)
    for method, values in random.items():
        say(verdict(method, *(ahead(scores[method], other, resampling) for other in (values, scores[CONTRAST]))))


def _scored(
    explainer: Explainer, copies: Mapping[str, Explainer], drawn: Sequence[Drawn], method: str
) -> tuple[list[PictureScore], list[PictureScore], dict[str, float]]:
    """Scores of the grader's maps and of those of random weights, and the mean correlation at each step."""
    scores, random = [], []
    alike: dict[str, list[float]] = {step: [] for step in copies}
    with progress_bar(method, len(drawn)) as bar:
        for number, picture in enumerate(drawn):
            before = explainer.explain(picture.pixels, method)
            places = picture.places(len(before.heat))
            scores.append(score_map(before.heat, *places))
            for step in copies if number < CORRELATED else ["all"]:
                after = copies[step].explain(picture.pixels, method, before.target).heat
                if step == "all":
                    random.append(score_map(after, *places))
                if number < CORRELATED:
                    alike[step].append(rank_correlation(before.heat, after, places[1]))
            bar.advance()
    return scores, random, {step: float(np.mean(found)) for step, found in alike.items()}


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """How well one map finds the lesions of one picture; shares and areas in 0-1."""

    auc: float  # of lesion pixels against the rest of the retina; 0.5 is chance
    hit: float  # 1 if the strongest pixel is in a lesion, widened by `REACH`
    hit_chance: float  # area of the widened lesions in the retina: the score of a random pixel
    energy: float  # share of the map inside lesions
    area: float  # share of the retina that lesions cover: the score of an even map
    border_energy: float


def score_map(heat: np.ndarray, lesions: np.ndarray, retina: np.ndarray) -> PictureScore:
    """Score a map float [s, s] >= 0 against lesions bool [s, s] in a retina bool [s, s]; an empty map scores as chance.

    The pointing game is that of Zhang et al. 2018 (excitation backprop).
    """
    lesions, border = lesions & retina, border_energy(heat, retina)
    reach = round(REACH * len(heat))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wide = ((cv2.dilate(lesions.astype(np.uint8), kernel) > 0) & retina)[retina]
    heat, lesions = heat[retina], lesions[retina]
    by_chance, area, total = float(wide.mean()), float(lesions.mean()), float(heat.sum())
    return PictureScore(
        auc=area_under_curve(heat, lesions), hit=float(wide[heat.argmax()]) if total > 0 else by_chance,
        hit_chance=by_chance, energy=float(heat[lesions].sum()) / total if total > 0 else area, area=area,
        border_energy=border,
    )  # fmt: skip


def lesions_at(mask: np.ndarray, size: int, coverage: float = 0.35) -> np.ndarray:
    """A lesion mask uint8 [S, S] at the size of a map: bool [size, size], true if at least `coverage` is lesion."""
    method = cv2.INTER_AREA if size < len(mask) else cv2.INTER_NEAREST
    return cv2.resize((mask > 0).astype(np.float32), (size, size), interpolation=method) >= coverage


def contrast_map(pixels: np.ndarray, empty: np.ndarray, size: int) -> np.ndarray:
    """A map without a grader, float32 [size, size]: the difference of each pixel from its blurred surroundings."""
    difference = cv2.absdiff(pixels, empty).max(axis=2).astype(np.float32)
    blurred = cv2.GaussianBlur(difference, (0, 0), max(0.012 * len(pixels), 0.8))
    return cv2.resize(blurred, (size, size), interpolation=cv2.INTER_AREA if size < len(pixels) else cv2.INTER_LINEAR)


def summarise(scores: Sequence[PictureScore], resampling: Resampling) -> dict[str, Any]:
    """Each of `MEASURES` as value, low, high, n and noise; `resampling` is by patient."""
    everyone = np.ones(len(scores), bool)
    return {
        name: resampling.entry(
            *_drawn(scores, name, resampling), len(scores), share_of=everyone if name == "pointing" else None
        )
        for name in MEASURES
    }


def _drawn(scores: Sequence[PictureScore], name: str, resampling: Resampling) -> tuple[float, np.ndarray]:
    above, below = ([getattr(score, field) if field else 1.0 for score in scores] for field in MEASURES[name])
    return resampling.ratio(np.array(above), np.array(below))


def ahead(first: Sequence[PictureScore], second: Sequence[PictureScore], resampling: Resampling) -> dict[str, Any]:
    """Paired differences, first minus second, of the measures in `JUDGED`: value, low, high and answer."""
    return {
        name: difference(_drawn(second, name, resampling), _drawn(first, name, resampling), resampling)
        for name in JUDGED
    }


def verdict(method: str, random: dict[str, Any], contrast: dict[str, Any]) -> str:
    """One sentence: whether the map is better than that of a random network, and than plain contrast."""
    answers = [{one["answer"] for one in differences.values()} for differences in (random, contrast)]
    of_random, of_contrast = (WORDS.get("|".join(found), "not clearly better than") for found in answers)
    worth = "reflects what the grader learned" if of_random == of_contrast == WORDS["better"] else "is not reliable"
    return (
        f"{method} {worth}: it is {of_random} the same network with random weights and {of_contrast} the contrast of "
        "the picture, which needs no grader"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a grader that learned from drawn photographs")
    parser.add_argument("--count", type=int, default=50, help="number of photographs to draw")
    given = parser.parse_args()
    try_maps(Explainer(given.run, "grade", choose_device("auto")), given.count)
