"""explain: heat maps of what the answers of a grader depend on."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro

from foveal.console import progress_bar, say, warn
from foveal.distributed import choose_device
from foveal.errors import FovealError, check_packages
from foveal.explain.explainer import GRADCAM, MOST, Explained, Explainer, Explanation, MethodName, check_maps
from foveal.files import is_free, json_ready, sha256_of, write_bytes, write_json, write_text
from foveal.fundus.crop import Disc, whole_frame
from foveal.fundus.decode import decode
from foveal.fundus.header import MAXIMUM_PIXELS
from foveal.fundus.overlay import ALARM, overlay, to_jpeg
from foveal.fundus.preparation import Preparation, Prepared, locate, prepare_file
from foveal.page.parts import Picture as Shown
from foveal.page.parts import Section
from foveal.page.pictures import embedded_file
from foveal.page.render import page, section, told
from foveal.page.words import counted
from foveal.predict.inputs import Photograph, list_photographs, sort_inputs
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import probability_columns
from foveal.runs import read_model
from foveal.sets.records import PreparedSet, open_prepared

WORST = 24  # pictures of a set, and of the page, which stays small enough to send
SIDE = 640  # pixels of a picture on the page; it links to the full one
MISSED = 0.1  # error of the sum of a map, as a share of the change of the score, above which the note reports it
UNREADABLE = 0.25  # the same, above which the note warns not to rely on the map

CANNOT_SHOW = (
    "A map shows what the answer of this grader depends on, not where disease is. It cannot show lesions that the "
    "grader did not use, or anything smaller than its cells. A plausible map does not prove that the grade is right, "
    "and an empty map does not prove that the eye is healthy. Not for diagnosis."
)


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Options of `foveal explain`."""

    # Run folder that `foveal train` wrote.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Photographs, folders, zip archives, lists, or prepared sets (of a set, the 24 worst errors are explained).
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES…")]
    # Folder for explain.html, explain.json and the maps; by default RUN/explain, which the report shows.
    out: Path | None = None
    # Method of the maps; docs/howto/explain.md describes each.
    method: MethodName = "integrated-gradients"
    # What the map explains: grade, referable, or a class (name or number).
    target: str = "grade"
    # Part of the prepared sets to use.
    split: Literal["all", "train", "val", "test", "unlabelled"] = "test"
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.images:
            fix = "give photographs, folders or prepared sets"
            raise FovealError("option.missing", "explain needs IMAGES", fix=fix)


def explain(config: ExplainConfig) -> Path:
    """Write explain.json, maps/*.jpg and the page explain.html; returns explain.json. A later call replaces them."""
    if config.method != GRADCAM:
        check_packages(f"--method {config.method}", "explain", "captum")
    read_model(config.run)
    out = config.out or config.run / "explain"
    made = {"maps", "explain.html", "explain.json"}
    if not is_free(out) and (not out.is_dir() or {path.name for path in out.iterdir()} - made):
        what = f"--out {out} exists and was not made by foveal explain"
        raise FovealError("output.exists", what, fix="choose another --out or delete it")
    holding, sets = sort_inputs(config.images)
    explainer = Explainer(config.run, config.target, choose_device(config.device))
    explainer.check(config.method)
    entries, explained = _write_maps(config, holding, sets, explainer, out / "maps")
    methods = dict.fromkeys([config.method, *[GRADCAM] * explainer.predictor.has_maps])
    baseline = " with a blurred picture as baseline" if config.method == "integrated-gradients" else ""
    result = {"run": str(config.run), "method": f"{config.method}{baseline}", "target": config.target,
              "checks": check_maps(explainer, explained, list(methods)), "images": entries,
              "weights": sha256_of(config.run / "best.pt"), "cannot_show": CANNOT_SHOW}  # fmt: skip
    write_json(out / "explain.json", json_ready(result))
    write_text(out / "explain.html", render(result, out, explainer.classes))
    say(CANNOT_SHOW)
    say(f"explained: {out / 'explain.json'}; the page is {out / 'explain.html'}")
    return out / "explain.json"


def _write_maps(
    config: ExplainConfig, holding: Sequence[Path], sets: Sequence[Path], explainer: Explainer, folder: Path
) -> tuple[list[dict[str, Any]], list[Explained]]:
    """Write a map of each picture as soon as it is read; earlier maps are deleted once a picture was readable. Returns
    the entries of explain.json, and the first pictures with their maps, for the check."""
    photographs, predictor = list_photographs(holding), explainer.predictor
    worst = [picture for path in sets for picture in from_set(path, config.split, predictor)]
    entries, explained = list[dict[str, Any]](), list[Explained]()
    with progress_bar("explain", len(worst) + len(photographs)) as bar:
        for picture in chain(worst, from_photographs(photographs, predictor)):
            bar.advance()
            if picture is None:
                continue
            if not entries:
                folder.mkdir(parents=True, exist_ok=True)
                for old in folder.glob("*.jpg"):
                    old.unlink()
            found = explainer.explain(picture.pixels, config.method)
            explained += [(picture.pixels, found)] if len(explained) < MOST else []
            name = re.sub(r"[^\w.-]+", "_", Path(picture.id).stem)[:80]
            file = folder / f"{len(entries):03d}_{name}.{hashlib.sha256(picture.id.encode()).hexdigest()[:8]}.jpg"
            frame, square = picture.frame(predictor.preparation)
            write_bytes(file, to_jpeg(overlay(frame, square, found.heat, found.retina)))
            note, alarm = words_of(found)
            entries.append({"id": picture.id, "file": picture.file, "overlay": f"maps/{file.name}",
                            "grade": found.grade, "label": picture.label, "explained": found.target.name,
                            "value": found.value, "border_energy": found.border_energy,
                            "alarm": alarm, "cells": found.cells, "delta": found.delta,
                            "note": note})  # fmt: skip
    if not entries:
        raise FovealError("image.damaged", f"there is no readable picture in {', '.join(map(str, config.images))}")
    maps = counted(len(entries), "map")
    say(f"{maps}: {folder}")
    if alarms := sum(bool(entry["alarm"]) for entry in entries):
        warn(f"{alarms} of {maps}: {ALARM:.0%} or more is on the border or the rim of the retina")
    return entries, explained


def render(result: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> str:
    """The page as HTML, from explain.json in `folder`."""
    images, pictures = result["images"], []
    for image in images[:WORST]:
        label, file = image["label"], image["overlay"]
        text = f"given {classes[image['grade']]}" + ("" if label is None else f", labelled {classes[label]}")
        shown = {"source": embedded_file(folder / file, SIDE), "lines": [image["note"]], "alarm": image["alarm"]}
        pictures.append(Shown(id=image["id"], link=file, text=text, **shown))
    alarms = sum(bool(image["alarm"]) for image in images)
    failed = result["checks"][result["method"].split()[0]]["passed"] is False
    sections = [section("maps", result=result, shown=pictures, alarms=alarms, failed=failed),
                Section(name="limits", title="What a map cannot show", parts=[result["cannot_show"]])]  # fmt: skip
    title = Path(result["run"]).resolve().name
    return page(sections, kind="Foveal explanation", title=title, subtitle="where the grader looked")


def words_of(found: Explanation) -> tuple[str, str]:
    """The line below a map: the target, its value, and warnings; and its alarm if much of it is on the border."""
    ((note, alarm),) = told("map.txt", found=found, alarming=ALARM, missed=MISSED, unreadable=UNREADABLE)
    return note, alarm


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture to explain: pixels uint8 [S, S, C], as prepared for the grader, and the photograph, if it exists."""

    id: str
    file: str
    pixels: np.ndarray
    original: Photograph | None
    label: int | None = None

    def frame(self, preparation: Preparation) -> tuple[np.ndarray, Disc]:
        """The photograph in full resolution uint8 [h, w, 3], and the square in it that `pixels` show."""
        if self.original is not None:
            whole = decode(self.original.source(), MAXIMUM_PIXELS, name=self.original.id).pixels
            return whole, locate(whole, preparation)[1]
        size = len(self.pixels)
        return np.ascontiguousarray(np.broadcast_to(self.pixels, (size, size, 3))), whole_frame(size, size)


def from_photographs(photographs: Iterable[Photograph], predictor: Predictor) -> Iterator[Picture | None]:
    """The pictures, one at a time; warns about an unreadable one, which is None."""
    for photograph, result in predictor.read(photographs):
        if isinstance(result, Prepared):
            yield Picture(id=photograph.id, file=photograph.id, pixels=result.pixels, original=photograph)
        else:
            warn(f"{photograph.id} could not be read: {result}")
            yield None


def from_set(path: Path, split: str, predictor: Predictor) -> Iterator[Picture]:
    """The first `WORST` records of a part of a prepared set, in the order of `worst_first`."""
    prepared = open_prepared(path)
    records = prepared.records if split == "all" else prepared.part(split)
    if not len(records):
        raise FovealError("set.too_small", f"{path} has no images in the part '{split}'", fix="choose another --split")
    chosen = records.iloc[worst_first(predictor.predict_prepared(prepared, records))[:WORST]]
    for row, pixels in zip(chosen.to_dict("records"), prepared.pixels(chosen), strict=True):
        original = _original(prepared, row["file"], row["sha256"], predictor.preparation)
        label = None if pd.isna(row["label"]) else int(row["label"])
        yield Picture(id=row["id"], file=row["file"], pixels=pixels, original=original, label=label)


def worst_first(table: pd.DataFrame) -> list[int]:
    """Row numbers of a table of predictions: errors by distance, then by probability; correct and unlabelled last."""
    distance = (table["grade"] - table["label"]).abs().fillna(0).astype(int).to_numpy()
    probability = table[probability_columns(table)].to_numpy(float)[np.arange(len(table)), table["grade"].to_numpy(int)]
    return np.lexsort((-probability * (distance > 0), -distance)).tolist()


def _original(prepared: PreparedSet, file: str, sha256: str, preparation: Preparation) -> Photograph | None:
    """The photograph of a record; None if it is gone or no longer gives the same pixels."""
    for path in (Path(root) / file for root in prepared.card.get("source", [])):
        with suppress(FovealError):
            pixels = prepare_file(path, preparation).pixels if path.is_file() else np.empty(0)
            if hashlib.sha256(pixels.tobytes()).hexdigest() == sha256:
                return Photograph.at(path)
    return None
