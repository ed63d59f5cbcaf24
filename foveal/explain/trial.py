"""The trial of maps: every method on drawn photographs whose lesions are known, beside a network with random weights.

What passes here is not thereby true of real photographs; what fails here should not be believed of any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveal.console import progress_bar, say, show_table
from foveal.explain.attribution import METHODS
from foveal.explain.explainer import Explainer, Explanation
from foveal.explain.geometry import border_energy, resized, square_of, without_lesions
from foveal.explain.sanity import STEPS, randomised, rank_correlation
from foveal.explain.score import (
    PictureScore,
    ahead,
    contrast_map,
    draw_owners,
    lesions_at,
    score_map,
    summarise,
    verdict,
)
from foveal.explain.sheet import sheet
from foveal.explain.target import Target
from foveal.fundus.crop import crop_square
from foveal.fundus.overlay import retina_of, to_jpeg
from foveal.fundus.preparation import Preparation, prepare_pixels
from foveal.sources.phantom import draw_patients

LARGEST = 256  # px: phantoms are drawn for 64 to 256
STATISTICS = 32  # drawn pictures on which batch statistics of random weights are measured
CORRELATED = 12  # pictures whose maps are compared step by step: as many again for each step
SHOWN = (1, 2, 3, 4)  # grades on the sheet, a picture each
CONTRAST = "contrast"  # the map that needs no grader
TILED = "occlusion with tiles"

Scores = dict[str, list[PictureScore]]  # by method, a score per picture

LEAST_PATIENTS = 10  # below, a bootstrap over patients is hardly more than the range of a few numbers


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A drawn photograph, prepared: `pixels` uint8 [S, S, C], `lesions` uint8 [S, S], 1 in a lesion of any kind."""

    patient: str
    grade: int
    pixels: np.ndarray
    lesions: np.ndarray


def draw_with_lesions(count: int, preparation: Preparation, seed: int) -> Iterator[Drawn]:
    """Draw `count` photographs, two eyes a patient, and yield those with lesions, prepared as the run's were."""
    size = min(preparation.size, LARGEST)
    for _, patient, phantom in islice(draw_patients((count + 1) // 2, size, seed), count):
        mask = np.where(phantom.lesions > 0, np.uint8(255), np.uint8(0))[..., None]
        cut = crop_square(mask, square_of(phantom.image, preparation), preparation.size)[..., 0]
        lesions = lesions_at(cut, preparation.size).astype(np.uint8)
        if lesions.any():
            pixels = prepare_pixels(phantom.image, preparation).pixels
            yield Drawn(patient=patient, grade=phantom.grade, pixels=pixels, lesions=lesions)


def try_maps(explainer: Explainer, count: int, seed: int, out: Path) -> dict[str, Any]:
    """Score every method, write OUT/phantoms.jpg, print tables; returns what explain.json holds as `score`."""
    drawn = list(draw_with_lesions(count, explainer.predictor.preparation, seed))
    if len({picture.patient for picture in drawn}) < 2:
        raise ValueError(f"--phantom {count}: lesions of two patients at least are needed; draw more photographs")
    methods = methods_for(explainer)
    inputs = torch.cat([explainer.input(picture.pixels) for picture in drawn[:STATISTICS]])
    copies = {
        step: explainer.with_grader(randomised(explainer.grader, share, seed, inputs)) for step, share in STEPS.items()
    }
    scores, random = _score_all(drawn, methods, explainer, copies["all"])
    result = _summary(drawn, scores, random, seed)
    result["correlation"] = _correlations(drawn[:CORRELATED], methods, explainer, copies)
    _write_sheet(drawn, methods, explainer, out / "phantoms.jpg")
    _show(result)
    return result


def methods_for(explainer: Explainer) -> list[str]:
    """The methods that go with the encoder, and tiles; gradcam and its kin need a map of features."""
    kept: list[str] = []
    for method in METHODS:
        try:
            explainer.check(method)
        except ValueError as error:
            say(str(error))
        else:
            kept.append(method)
    return [*kept, TILED]


def _explain(explainer: Explainer, picture: Drawn, method: str, target: Target | None = None) -> Explanation:
    if method == TILED:
        return explainer.explain(picture.pixels, "occlusion", tiles=True, target=target)
    return explainer.explain(picture.pixels, method, target=target)


def _score_all(
    drawn: Sequence[Drawn], methods: Sequence[str], trained: Explainer, random: Explainer
) -> tuple[Scores, Scores]:
    """Scores of the trained grader, with those of plain contrast, and of random weights."""
    scores: Scores = {name: [] for name in (*methods, CONTRAST)}
    of_random: Scores = {name: [] for name in methods}
    with progress_bar("score maps", len(drawn)) as bar:
        for picture in drawn:
            for method in methods:
                found = _explain(trained, picture, method)
                scores[method].append(_score(picture, found.heat))
                blind = _explain(random, picture, method, found.target)
                of_random[method].append(_score(picture, blind.heat))
            scores[CONTRAST].append(_score(picture, _contrast(picture, trained.predictor.input.image_size)))
            bar.advance()
    return scores, of_random


def _score(picture: Drawn, heat: np.ndarray) -> PictureScore:
    retina = resized(retina_of(picture.pixels), len(heat))
    return score_map(heat, lesions_at(picture.lesions, len(heat)), retina, border_energy(heat, retina))


def _contrast(picture: Drawn, size: int) -> np.ndarray:
    return contrast_map(picture.pixels, without_lesions(picture.pixels, retina_of(picture.pixels)), size)


def _summary(drawn: Sequence[Drawn], scores: Scores, random: Scores, seed: int) -> dict[str, Any]:
    counts, owners = draw_owners([picture.patient for picture in drawn], seed)
    methods: dict[str, Any] = {}
    for name, values in scores.items():
        entry: dict[str, Any] = {"trained": summarise(values, counts, owners)}
        if name in random:
            against = [ahead(values, other, counts, owners) for other in (random[name], scores[CONTRAST])]
            entry["random"] = summarise(random[name], counts, owners)
            entry["ahead_of_random"], entry["ahead_of_contrast"] = against
            patients = int(counts.shape[1])
            few = f"{name}: random weights were tried, but {patients} drawn patients are too few to tell; draw more"
            entry["verdict"] = verdict(name, *against) if patients >= LEAST_PATIENTS else few
        methods[name] = entry
    sentences = [entry["verdict"] for entry in methods.values() if "verdict" in entry]
    about = {"images": len(drawn), "patients": int(counts.shape[1]), "seed": seed}
    return {"verdict": ". ".join(sentences) + ".", **about, "methods": methods}


def _correlations(
    drawn: Sequence[Drawn], methods: Sequence[str], trained: Explainer, copies: Mapping[str, Explainer]
) -> dict[str, dict[str, float | None]]:
    """Method -> step of randomisation -> mean rank correlation of the maps before and after, inside the retina.

    None where a map of random weights is flat: such a map is no control.
    """
    found: dict[str, dict[str, float | None]] = {}
    for method in methods:
        before = [_explain(trained, picture, method) for picture in drawn]
        found[method] = {
            step: _mean([
                _correlation(one, _explain(copied, picture, method, one.target))
                for one, picture in zip(before, drawn, strict=True)
            ])
            for step, copied in copies.items()
        }  # fmt: skip
    return found


def _mean(values: Sequence[float]) -> float | None:
    return None if any(math.isnan(value) for value in values) else float(np.mean(values))


def _correlation(before: Explanation, after: Explanation) -> float:
    return rank_correlation(before.heat, after.heat, resized(before.retina, len(before.heat)))


def _write_sheet(drawn: Sequence[Drawn], methods: Sequence[str], explainer: Explainer, file: Path) -> None:
    first = {picture.grade: picture for picture in reversed(drawn)}
    shown = [first[grade] for grade in SHOWN if grade in first]
    explained = [{method: _explain(explainer, picture, method) for method in methods} for picture in shown]
    file.write_bytes(to_jpeg(sheet([(picture.pixels, picture.lesions) for picture in shown], explained)))


def _show(result: Mapping[str, Any]) -> None:
    columns = ["", "AUC", "hits", "by chance", "enrichment", "border"]
    rows = []
    for name, entry in result["methods"].items():
        for weights in ("trained", "random"):
            if weights in entry:
                rows.append(_row(name if name == CONTRAST else f"{name}, {weights}", entry[weights]))
    title = f"Maps on {result['images']} drawn photographs of {result['patients']} patients, 95 % intervals"
    show_table(title, columns, rows)
    steps = [
        [name, *("– (flat)" if value is None else f"{value:.2f}" for value in row.values())]
        for name, row in result["correlation"].items()
    ]
    show_table("Rank correlation with the map before random weights were put into", ["", *STEPS], steps)
    for entry in result["methods"].values():
        if "verdict" in entry:
            say(entry["verdict"])


def _row(name: str, summary: Mapping[str, Any]) -> list[str]:
    cells = {
        measure: f"{entry['value']:.3f} ({entry['low']:.3f} – {entry['high']:.3f})"
        for measure, entry in summary.items()
    }
    chance = f"{summary['pointing']['chance']:.3f}"
    return [name, cells["auc"], cells["pointing"], chance, cells["enrichment"], cells["border_energy"]]
