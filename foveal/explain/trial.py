"""Test every method on drawn photographs with known lesions, and compare it with a network with random weights.

A method that passes may still fail on real photographs; a method that fails here is not reliable at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from foveal.console import progress_bar, say
from foveal.errors import FovealError
from foveal.evaluate.intervals import Resampling
from foveal.explain import score
from foveal.explain.attribution import METHODS
from foveal.explain.explainer import Explainer, border_energy, resized, without_lesions
from foveal.explain.page import alike_table, score_table
from foveal.files import json_ready
from foveal.fundus.crop import crop_square
from foveal.fundus.overlay import retina_of
from foveal.fundus.preparation import Preparation, locate, prepare_pixels
from foveal.page.terminal import print_table
from foveal.page.words import counted
from foveal.sources.phantom import draw_patients

SEED = 20_000  # of the photographs: far from the small seeds of training sets
LARGEST = 256  # px: phantoms are drawn for 64 to 256
STATISTICS = 32  # pictures for the batch-norm statistics of random weights
CORRELATED = 12  # pictures whose maps are compared at each randomisation step
CONTRAST = "contrast"  # the map that needs no grader
LEAST_PATIENTS = 10  # with fewer patients, a bootstrap means little

Scores = dict[str, list[score.PictureScore]]  # by method, a score per picture


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A prepared drawn photograph: `pixels` uint8 [S, S, C], `lesions` uint8 [S, S], 1 in lesions of any kind."""

    patient: str
    pixels: np.ndarray
    lesions: np.ndarray


def draw_with_lesions(count: int, preparation: Preparation, seed: int) -> Iterator[Drawn]:
    """Draw `count` photographs, two eyes per patient, and yield those with lesions, prepared like those of the run."""
    size = min(preparation.size, LARGEST)
    for _, patient, phantom in islice(draw_patients((count + 1) // 2, size, seed), count):
        mask = np.where(phantom.lesions > 0, np.uint8(255), np.uint8(0))[..., None]
        cut = crop_square(mask, locate(phantom.image, preparation)[1], preparation.size)[..., 0]
        lesions = score.lesions_at(cut, preparation.size).astype(np.uint8)
        if lesions.any():
            pixels = prepare_pixels(phantom.image, preparation).pixels
            yield Drawn(patient=patient, pixels=pixels, lesions=lesions)


def try_maps(explainer: Explainer, count: int) -> dict[str, Any]:
    """Score every method and print tables; returns `score` of explain.json."""
    drawn = list(draw_with_lesions(count, explainer.predictor.preparation, SEED))
    if len({picture.patient for picture in drawn}) < 2:
        what = f"--phantom {count} gives fewer than two patients with lesions"
        raise FovealError("option.value", what, fix="draw more photographs")
    methods = methods_for(explainer)
    inputs = torch.cat([explainer.input(picture.pixels) for picture in drawn[:STATISTICS]])
    copies = {step: explainer.with_grader(score.randomised(explainer.grader, share, SEED, inputs))
              for step, share in score.STEPS.items()}  # fmt: skip
    scores, random = _score_all(drawn, methods, explainer, copies["all"])
    alike = _correlations(drawn[:CORRELATED], methods, explainer, copies)
    result: dict[str, Any] = json_ready(_summary(drawn, scores, random) | {"correlation": alike})
    for table in (score_table(result), alike_table(result)):
        if table:
            print_table(table)
    for entry in result["methods"].values():
        if "verdict" in entry:
            say(entry["verdict"])
    return result


def methods_for(explainer: Explainer) -> list[str]:
    """The methods that work with the encoder; gradcam and similar methods need a feature map."""
    kept: list[str] = []
    for method in METHODS:
        try:
            explainer.check(method)
        except FovealError as error:
            say(str(error))
        else:
            kept.append(method)
    return kept


def _score_all(
    drawn: Sequence[Drawn], methods: Sequence[str], trained: Explainer, random: Explainer
) -> tuple[Scores, Scores]:
    """Scores of the trained grader and of plain contrast, and scores of random weights."""
    scores: Scores = {name: [] for name in (*methods, CONTRAST)}
    of_random: Scores = {name: [] for name in methods}
    with progress_bar("score maps", len(drawn)) as bar:
        for picture in drawn:
            for method in methods:
                found = trained.explain(picture.pixels, method)
                scores[method].append(_score(picture, found.heat))
                of_random[method].append(_score(picture, random.explain(picture.pixels, method, found.target).heat))
            empty = without_lesions(picture.pixels, retina_of(picture.pixels))
            contrast = score.contrast_map(picture.pixels, empty, trained.predictor.input.image_size)
            scores[CONTRAST].append(_score(picture, contrast))
            bar.advance()
    return scores, of_random


def _score(picture: Drawn, heat: np.ndarray) -> score.PictureScore:
    retina = resized(retina_of(picture.pixels), len(heat))
    return score.score_map(heat, score.lesions_at(picture.lesions, len(heat)), retina, border_energy(heat, retina))


def _summary(drawn: Sequence[Drawn], scores: Scores, random: Scores) -> dict[str, Any]:
    """`score` of explain.json without correlations; intervals resample patients, the same for all methods."""
    resampling = Resampling(np.unique([picture.patient for picture in drawn], return_inverse=True)[1], seed=SEED)
    methods: dict[str, Any] = {
        name: {"trained": score.summarise(values, resampling)} for name, values in scores.items()
    }
    for name, values in random.items():
        against = [score.ahead(scores[name], other, resampling) for other in (values, scores[CONTRAST])]
        patients = counted(resampling.groups, "patient")
        few = f"{name}: {patients}, too few to compare with random weights; draw more photographs"
        methods[name] |= {
            "random": score.summarise(values, resampling), "ahead_of_random": against[0],
            "ahead_of_contrast": against[1],
            "verdict": score.verdict(name, *against) if resampling.groups >= LEAST_PATIENTS else few,
        }  # fmt: skip
    sentences = [entry["verdict"] for entry in methods.values() if "verdict" in entry]
    about = {"images": len(drawn), "patients": resampling.groups}
    return {"verdict": ". ".join(sentences) + ".", **about, "methods": methods}


def _correlations(
    drawn: Sequence[Drawn], methods: Sequence[str], trained: Explainer, copies: Mapping[str, Explainer]
) -> dict[str, dict[str, float]]:
    """Method -> randomisation step -> mean rank correlation of the maps before and after, inside the retina.

    nan if a map of random weights is constant: such a map is no control.
    """
    found: dict[str, dict[str, list[float]]] = {method: {step: [] for step in copies} for method in methods}
    for method in methods:
        for picture in drawn:
            before = trained.explain(picture.pixels, method)
            retina = resized(before.retina, len(before.heat))
            for step, copied in copies.items():
                after = copied.explain(picture.pixels, method, before.target)
                found[method][step].append(score.rank_correlation(before.heat, after.heat, retina))
    return {method: {step: float(np.mean(values)) for step, values in steps.items()} for method, steps in found.items()}
