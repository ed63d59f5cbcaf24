"""Test every method on drawn photographs with known lesions, and compare it with a network with random weights.

A method that passes may still fail on real photographs; a method that fails here is not reliable at all.
phantoms.jpg shows some of these photographs with outlined lesions, and the map of every method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from foveal.console import progress_bar, say
from foveal.errors import FovealError
from foveal.evaluate.intervals import Resampling
from foveal.explain.attribution import METHODS
from foveal.explain.explainer import Explainer, Explanation, border_energy, resized, without_lesions
from foveal.explain.page import alike_table, score_table
from foveal.explain.score import (
    STEPS,
    PictureScore,
    ahead,
    contrast_map,
    lesions_at,
    randomised,
    rank_correlation,
    score_map,
    summarise,
    verdict,
)
from foveal.files import json_ready, write_bytes
from foveal.fundus.crop import crop_square, whole_frame
from foveal.fundus.overlay import overlay, retina_of, to_jpeg
from foveal.fundus.preparation import Preparation, locate, prepare_pixels
from foveal.page.terminal import print_table
from foveal.sources.phantom import draw_patients

SEED = 20_000  # of the photographs: far from the small seeds of training sets


LARGEST = 256  # px: phantoms are drawn for 64 to 256


STATISTICS = 32  # pictures for the batch-norm statistics of random weights


CORRELATED = 12  # pictures whose maps are compared at each randomisation step


SHOWN = (1, 2, 3, 4)  # grades on the sheet, one picture each


CONTRAST = "contrast"  # the map that needs no grader


LEAST_PATIENTS = 10  # with fewer patients, a bootstrap means little


Scores = dict[str, list[PictureScore]]  # by method, a score per picture


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A prepared drawn photograph: `pixels` uint8 [S, S, C], `lesions` uint8 [S, S], 1 in lesions of any kind."""

    patient: str
    grade: int
    pixels: np.ndarray
    lesions: np.ndarray


def draw_with_lesions(count: int, preparation: Preparation, seed: int) -> Iterator[Drawn]:
    """Draw `count` photographs, two eyes per patient, and yield those with lesions, prepared like those of the run."""
    size = min(preparation.size, LARGEST)
    for _, patient, phantom in islice(draw_patients((count + 1) // 2, size, seed), count):
        mask = np.where(phantom.lesions > 0, np.uint8(255), np.uint8(0))[..., None]
        cut = crop_square(mask, locate(phantom.image, preparation)[1], preparation.size)[..., 0]
        lesions = lesions_at(cut, preparation.size).astype(np.uint8)
        if lesions.any():
            pixels = prepare_pixels(phantom.image, preparation).pixels
            yield Drawn(patient=patient, grade=phantom.grade, pixels=pixels, lesions=lesions)


def try_maps(explainer: Explainer, count: int, out: Path) -> dict[str, Any]:
    """Score every method, write OUT/phantoms.jpg and print tables; returns `score` of explain.json."""
    drawn = list(draw_with_lesions(count, explainer.predictor.preparation, SEED))
    if len({picture.patient for picture in drawn}) < 2:
        raise FovealError("option.value", f"--phantom {count} gives fewer than two patients with lesions",
                          fix="draw more photographs")  # fmt: skip
    methods = methods_for(explainer)
    inputs = torch.cat([explainer.input(picture.pixels) for picture in drawn[:STATISTICS]])
    copies = {
        step: explainer.with_grader(randomised(explainer.grader, share, SEED, inputs)) for step, share in STEPS.items()
    }
    scores, random = _score_all(drawn, methods, explainer, copies["all"])
    result = _summary(drawn, scores, random)
    result["correlation"] = _correlations(drawn[:CORRELATED], methods, explainer, copies)
    result = json_ready(result)
    _write_sheet(drawn, methods, explainer, out / "phantoms.jpg")
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
                blind = random.explain(picture.pixels, method, found.target)
                of_random[method].append(_score(picture, blind.heat))
            scores[CONTRAST].append(_score(picture, _contrast(picture, trained.predictor.input.image_size)))
            bar.advance()
    return scores, of_random


def _score(picture: Drawn, heat: np.ndarray) -> PictureScore:
    retina = resized(retina_of(picture.pixels), len(heat))
    return score_map(heat, lesions_at(picture.lesions, len(heat)), retina, border_energy(heat, retina))


def _contrast(picture: Drawn, size: int) -> np.ndarray:
    return contrast_map(picture.pixels, without_lesions(picture.pixels, retina_of(picture.pixels)), size)


def _summary(drawn: Sequence[Drawn], scores: Scores, random: Scores) -> dict[str, Any]:
    """`score` of explain.json without correlations; intervals resample patients, the same for all methods."""
    resampling = Resampling(np.unique([picture.patient for picture in drawn], return_inverse=True)[1], seed=SEED)
    methods: dict[str, Any] = {name: {"trained": summarise(values, resampling)} for name, values in scores.items()}
    for name, values in random.items():
        against = [ahead(scores[name], other, resampling) for other in (values, scores[CONTRAST])]
        few = f"{name}: {resampling.groups} patients are too few to compare with random weights; draw more photographs"
        methods[name] |= {
            "random": summarise(values, resampling), "ahead_of_random": against[0], "ahead_of_contrast": against[1],
            "verdict": verdict(name, *against) if resampling.groups >= LEAST_PATIENTS else few,
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
                found[method][step].append(rank_correlation(before.heat, after.heat, retina))
    return {method: {step: float(np.mean(values)) for step, values in steps.items()} for method, steps in found.items()}


def _write_sheet(drawn: Sequence[Drawn], methods: Sequence[str], explainer: Explainer, file: Path) -> None:
    first = {picture.grade: picture for picture in reversed(drawn)}
    shown = [first[grade] for grade in SHOWN if grade in first]
    explained = [{method: explainer.explain(picture.pixels, method) for method in methods} for picture in shown]
    write_bytes(file, to_jpeg(sheet([(picture.pixels, picture.lesions) for picture in shown], explained)))


CELL = 320  # px


_HEAD = 28  # px: height of the header


def sheet(
    pictures: Sequence[tuple[np.ndarray, np.ndarray]], explained: Sequence[Mapping[str, Explanation]]
) -> np.ndarray:
    """uint8 [h, w, 3]: a row per picture, (prepared uint8 [S, S, C], lesions uint8 [S, S]), a column per method."""
    rows = [_heads(["lesions", *explained[0]])]
    for (pixels, lesions), maps in zip(pictures, explained, strict=True):
        frame = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        square = whole_frame(len(frame), len(frame))
        cells = [_with_outlines(frame, lesions)]
        cells += [_cell(overlay(frame, square, found.heat, found.retina)) for found in maps.values()]
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows)


def _with_outlines(frame: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    mask = cv2.resize(lesions, (CELL, CELL), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn: np.ndarray = cv2.drawContours(_cell(frame).copy(), contours, -1, (90, 230, 255), 1, cv2.LINE_AA)
    return drawn


def _cell(picture: np.ndarray) -> np.ndarray:
    method = cv2.INTER_AREA if len(picture) > CELL else cv2.INTER_CUBIC
    return cv2.resize(picture, (CELL, CELL), interpolation=method)


def _heads(names: Sequence[str]) -> np.ndarray:
    strip = Image.new("RGB", (CELL * len(names), _HEAD), (18, 18, 18))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(16)
    for number, name in enumerate(names):
        draw.text((number * CELL + 8, 5), name, fill=(240, 240, 240), font=font)
    return np.asarray(strip)
