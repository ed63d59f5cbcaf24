"""The part of `foveal evaluate RUN --stress` that needs the grader: alter photographs, and grade them again.

Photographs are altered as they were prepared, after the crop, one change at a time, and graded as in `predict`.
Resolution is reduced by areas and enlarged again; blur is Gaussian, sigma in pixels of the prepared image; both, and
JPEG, are those of training views (augment/opencv.py). Darker and brighter: the light on the sensor times a factor (sRGB
made linear, scaled, clipped). Warmer and cooler: lit by a black body, while the camera is balanced for 6,500 K.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.console import progress_bar, say
from foveal.errors import FovealError
from foveal.evaluate.evaluate import SEED, EvaluateConfig
from foveal.evaluate.judged import table_of
from foveal.evaluate.stress import FILE, SAME, levels_of
from foveal.files import check_file, write_table
from foveal.fundus.preparation import Preparation
from foveal.predict.model import Model, check_preparation
from foveal.predict.opened import open_model
from foveal.readout.predictions import probability_columns
from foveal.runs import data_of, read_model
from foveal.sets.records import PreparedSet, open_prepared
from foveal.sets.splits import group_codes

MOST, LEAST = 200, 20  # photographs
SECONDS = 270  # of grading; a grader that needs more gets fewer photographs, but not below `FEWEST`
FEWEST = 60
BALANCED = 6500.0  # K

# CIE XYZ to linear sRGB (IEC 61966-2-1).
TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])


def write_stress(config: EvaluateConfig, run: Path, table: pd.DataFrame) -> None:
    """Draw photographs from `table`, labelled rows of predictions.csv of the grader in `run`, alter them, grade them
    again, and write stress.csv beside the predictions. FovealError, before long work, if it cannot succeed."""
    file = table_of(config.source).with_name(FILE)
    check_file(file)
    chosen = choose(table, MOST, SEED)
    folds = pd.to_numeric(chosen["fold"], errors="coerce").fillna(0).astype(int) if "fold" in chosen else 0
    chosen = chosen.assign(fold=folds)  # that held the photograph out; 0 for none
    prepared = _checked(run, config.records, chosen)
    pixels = prepared.pixels(prepared.records.set_index("id").loc[chosen["id"]])
    whole = open_model(run)
    models = {fold: whole.of_fold(fold) if fold else whole  # type: ignore[attr-defined]  # of a run folder
              for fold in map(int, chosen["fold"].unique())}  # fmt: skip
    began = time.monotonic()
    first = _grade(models, chosen, pixels)
    seconds = (time.monotonic() - began) / len(chosen)
    same = float((first["grade"].to_numpy() == chosen["grade"].to_numpy()).mean())
    if same < SAME:
        raise _other_set(prepared, f"gives only {100 * same:.0f} % of the unaltered photographs their earlier grade")
    levels = list(levels_of(prepared.size, prepared.channels))
    count = min(len(chosen), max(int(SECONDS / (seconds * len(levels))), FEWEST))
    fewer = f", not {len(chosen)}, which would take more than 5 minutes" if count < len(chosen) else ""
    say(f"stress: {count} photographs (seed {SEED}), {len(levels)} levels{fewer}")
    chosen, pixels, parts = chosen[:count], pixels[:count], [first[:count].assign(change="", level=np.nan)]
    with progress_bar("stress", count * len(levels)) as bar:
        for change, level in levels:
            parts.append(_grade(models, chosen, altered(pixels, change, level)).assign(change=change, level=level))
            bar.advance(count)
    write_table(file, pd.concat(parts).set_index(["change", "level"]).reset_index())


def _checked(run: Path, data: Path | None, chosen: pd.DataFrame) -> PreparedSet:
    """The set `data`, or that of the run; FovealError if the photographs cannot be stressed, or are not in the set."""
    if not (run / "model.json").is_file():
        raise FovealError("option.conflict", f"--stress: {run} is not a run", fix="give the --out of foveal train")
    if len(chosen) < LEAST:
        raise FovealError("stress.too_few", f"--stress: only {len(chosen)} photographs", expected=f"at least {LEAST}")
    preparation = Preparation(**read_model(run)["preparation"])
    if preparation.enhance != "none":
        raise FovealError("stress.enhanced", f"--stress: {run} has --enhance {preparation.enhance}", expected="none")
    path = data or data_of(run)
    if not (path / "card.json").is_file():
        raise FovealError("set.missing", f"--stress: there is no prepared set {path}", fix="name it with --records")
    prepared = open_prepared(path)
    check_preparation(prepared, preparation)
    if gone := int((~chosen["id"].isin(prepared.records["id"])).sum()):
        raise _other_set(prepared, f"does not have {gone} of the evaluated photographs")
    return prepared


def _other_set(prepared: PreparedSet, what: str) -> FovealError:
    fix = "name the set that the run was trained on with --records"
    return FovealError("stress.other_set", f"{prepared.path} {what}", fix=fix)


def choose(table: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` rows. Classes take turns, and their groups, so every first part is as mixed as the whole."""
    mixed = table.iloc[np.random.default_rng(seed).permutation(len(table))]
    turn = mixed.groupby([group_codes(mixed["group"]), mixed["label"].to_numpy()]).cumcount()
    mixed = mixed.iloc[np.argsort(turn.to_numpy(), kind="stable")]
    place = mixed.groupby("label").cumcount()
    return mixed.iloc[np.argsort(place.to_numpy(), kind="stable")[:most]].reset_index(drop=True)


def _grade(models: Mapping[int, Model], chosen: pd.DataFrame, pixels: np.ndarray) -> pd.DataFrame:
    """id, probabilities, grade, referable and a second task for images [n, S, S, C], each by the model of its fold."""
    parts = []
    for fold, model in models.items():
        own = chosen[chosen["fold"] == fold]
        answers = model.answer(pixels[own.index])
        assert answers.probabilities is not None
        rows = model.table(own[["id"]], answers.probabilities, extra=model.second_table(answers))
        tasks = [name for name in map(str, rows) if "=" in name]
        parts.append(rows[["id", *probability_columns(rows), "grade", "referable", *tasks]].set_index(own.index))
    return pd.concat(parts).sort_index()


def altered(pixels: np.ndarray, change: str, level: float) -> np.ndarray:
    """uint8 [n, S, S, C] with one change of evaluate/stress.py at one of its levels, in the units named there."""
    if change in ("darker", "brighter"):
        return _relit(pixels, np.full(pixels.shape[3], level))
    if change in ("warmer", "cooler"):
        return _relit(pixels, _white(level) / _white(BALANCED))
    import torch

    from foveal.augment.draw import column, draw
    from foveal.augment.opencv import apply
    from foveal.augment.recipes import Recipe

    size = pixels.shape[1]
    untouched = draw(Recipe(), len(pixels), size, size, torch.Generator())
    column(untouched.values, {"resolution": "detail", "blur": "sigma", "jpeg": "quality"}[change])[:] = level
    return apply(pixels, untouched, size)


def _relit(pixels: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Images whose linear light is multiplied by a gain per channel [C]."""
    value = np.arange(256) / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)[:, None]
    light = (light * gains).clip(0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table = (255 * curve).round().astype(np.uint8)
    return np.stack([table[pixels[..., k], k] for k in range(len(gains))], axis=-1)


def _white(kelvin: float) -> np.ndarray:
    """Linear sRGB [3] of a black body from 4,000 to 25,000 K, with a luminance of 1 (Kim et al. 2002)."""
    t = 1000 / kelvin
    x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return np.asarray(TO_RGB @ np.array([x / y, 1, (1 - x - y) / y]))
