"""explain: where a grader looks, and how far a map of that can be believed.

foveal explain RUN photograph.jpg folder/ --out FOLDER
foveal explain RUN DATA --split test
foveal explain RUN --phantom 200
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import tyro

from foveal.console import progress_bar, say, warn
from foveal.distributed import choose_device
from foveal.explain.attribution import MethodName, require_captum
from foveal.explain.explainer import Explainer, Explanation
from foveal.explain.geometry import ALARM
from foveal.explain.page import render
from foveal.explain.pictures import Picture, from_files, from_set
from foveal.explain.trial import try_maps
from foveal.files import write_json, write_text
from foveal.fundus.overlay import overlay, to_jpeg
from foveal.predict.inputs import list_photographs, sort_inputs
from foveal.runs import read_model

UNREADABLE = 0.25  # the same share, above which too much of the map is of something else
MISSED = 0.1  # of the change of the score: where the map's sum misses more, that is said

CANNOT_SHOW = (
    "A map shows what this grader's answer hangs on, not what is ill. It cannot show a lesion that the grader did not "
    "use, nor anything smaller than its cells; a plausible place is no proof of a right grade, and an empty map is no "
    "proof of health. Not for diagnosis."
)


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Options of `foveal explain`."""

    # Run folder that `foveal train` wrote.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Picture files, folders of pictures and prepared sets, in any mix; none are needed with --phantom.
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES…")] = ()
    # Folder for explain.html, explain.json and the maps; by default RUN/explain, where the report looks for them.
    out: Path | None = None
    # How the map is made: what is behind each name, and how it fared on known lesions, is in the guide.
    method: MethodName = "integrated-gradients"
    # What the map explains: grade, referable, or a class by name or number.
    target: str = "grade"
    # Occlusion on the prepared pixels, in smaller windows where larger ones mattered: finer, three times as slow.
    tiles: bool = False
    # What integrated gradients start from: blurred (the same eye without detail) or black.
    baseline: Literal["blurred", "black"] = "blurred"
    # Part of the prepared sets to take pictures from.
    split: Literal["all", "train", "val", "test", "unlabelled"] = "test"
    # Most pictures to explain, the worst mistakes first where the grade is known; 0 = all.
    limit: int = 24
    # Drawn photographs with known lesions to score all methods on, tiles as well; 0 = none.
    phantom: int = 0
    # Seed of the drawn photographs and of the random weights they are compared with.
    seed: int = 20_000
    # auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.images and not self.phantom:
            raise ValueError("explain needs pictures, folders or prepared sets, or --phantom COUNT to score the maps")
        if self.tiles and self.method != "occlusion":
            raise ValueError(f"--tiles is a way of occlusion; it does not go with --method {self.method}")
        if self.limit < 0 or self.phantom < 0:
            raise ValueError(f"--limit and --phantom are counts from 0 on, got {self.limit} and {self.phantom}")


def explain(config: ExplainConfig) -> Path:
    """Write OUT/explain.json, OUT/maps/*.jpg and the page OUT/explain.html, with --phantom the scores of all methods.

    Returns explain.json.

    A later call with the same weights replaces what it makes anew, pictures or scores, and keeps the rest.
    """
    require_captum()
    read_model(config.run)
    holding, sets = sort_inputs(config.images)
    photographs = list(list_photographs(holding))
    if any(photograph.member for photograph in photographs):
        raise ValueError("explain reads photographs from files: unpack the archive first")
    files = [photograph.file for photograph in photographs]
    out = config.out or config.run / "explain"
    earlier = _earlier(out, config.run)
    explainer = Explainer(config.run, config.target, config.baseline, choose_device(config.device))
    if config.images:
        explainer.check(config.method)
    pictures = _pictures(config, files, sets, explainer)
    (out / "maps").mkdir(parents=True, exist_ok=True)
    result = earlier | {"run": str(config.run), "weights": _weights(config.run), "cannot_show": CANNOT_SHOW}
    if config.images:
        for old in (out / "maps").glob("*.jpg"):
            old.unlink()
        entries = _write_maps(config, pictures, explainer, out / "maps")
        result |= {"method": _method(config), "target": config.target, "images": entries}
    if config.phantom:
        result["score"] = {"target": config.target} | try_maps(explainer, config.phantom, config.seed, out)
        if _learned_from(config.run) != "phantom":
            warn("this grader did not learn from drawn photographs: the scores say little of its maps of real ones")
    result = {"method": "", "target": config.target, "images": []} | result
    write_json(out / "explain.json", result)
    write_text(out / "explain.html", render(result, out, explainer.classes))
    say(CANNOT_SHOW)
    say(f"explained: {out / 'explain.json'}; the page is {out / 'explain.html'}")
    return out / "explain.json"


def _earlier(out: Path, run: Path) -> dict[str, Any]:
    """What an earlier call left in `out` for the same weights; ValueError where `out` is something else's folder."""
    file = out / "explain.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found if found.get("weights") == _weights(run) else {}
    ours = {"maps", "phantoms.jpg", "explain.html"}  # what an interrupted call leaves
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - ours):
        raise ValueError(f"--out {out} exists and holds no explain.json; choose another --out")
    return {}


def _weights(run: Path) -> str:
    """Which weights the maps belong to: the first half of best.pt's sha256."""
    return hashlib.sha256((run / "best.pt").read_bytes()).hexdigest()[:32]


def _learned_from(run: Path) -> str:
    """The name of the set that the run learned from, as its card says."""
    return str(json.loads((run / "card.json").read_text(encoding="utf-8"))["name"])


def _pictures(config: ExplainConfig, files: list[Path], sets: list[Path], explainer: Explainer) -> list[Picture]:
    limit = config.limit
    pictures = [one for path in sets for one in from_set(path, config.split, limit, explainer.predictor)]
    kept = files[:limit] if limit else files
    if len(kept) < len(files):
        say(f"the first {limit} of {len(files)} files are explained; --limit 0 takes all")
    read, failed = from_files(kept, explainer.predictor.preparation)
    for file, reason in failed:
        warn(f"{file} could not be read: {reason}")
    if config.images and not pictures and not read:
        raise ValueError("none of the pictures could be read")
    return pictures + read


def _method(config: ExplainConfig) -> str:
    if config.method == "integrated-gradients":
        return f"{config.method} from a {config.baseline} picture"
    return f"{config.method} with tiles" if config.tiles else config.method


def _write_maps(
    config: ExplainConfig, pictures: Sequence[Picture], explainer: Explainer, folder: Path
) -> list[dict[str, Any]]:
    entries, alarms = [], 0
    with progress_bar("explain", len(pictures)) as bar:
        for number, picture in enumerate(pictures):
            found = explainer.explain(picture.pixels, config.method, tiles=config.tiles)
            file = folder / f"{number:03d}_{safe_name(PurePath(picture.id).stem)}.jpg"
            frame, square = picture.frame(explainer.predictor.preparation)
            file.write_bytes(to_jpeg(overlay(frame, square, found.heat, found.retina)))
            entries.append(_entry(picture, found, f"maps/{file.name}"))
            alarms += bool(found.alarm)
            bar.advance()
    say(f"{len(entries)} maps: {folder}")
    if alarms:
        warn(f"{alarms} of {len(entries)} maps lie to {ALARM:.0%} or more on the border or the rim of the retina")
    return entries


def _entry(picture: Picture, found: Explanation, overlay_file: str) -> dict[str, Any]:
    return {
        "id": picture.id, "file": picture.file, "overlay": overlay_file, "grade": found.grade, "label": picture.label,
        "explained": found.target.name, "value": found.value, "border_energy": found.border_energy,
        "alarm": found.alarm, "cells": found.cells, "delta": found.delta, "note": note(found),
    }  # fmt: skip


def note(found: Explanation) -> str:
    """What stands below a map: what was asked of the grader, what it said, and what to beware of."""
    if found.heat.max() <= 0:
        text = f"nothing in this picture raises the {_said(found)}: there is no map"
    else:
        text = f"what raises the {_said(found)}; {found.border_energy:.0%} of it on the border"
    if found.delta is not None and found.delta > MISSED:
        text += f"; the map's sum misses the change of the score by {found.delta:.0%} of it"
    if found.delta is not None and found.delta > UNREADABLE:
        text = f"do not rely on this map, it does not add up: {text}"
    return text


def _said(found: Explanation) -> str:
    return f"{'probability of ' if found.target.classes else ''}{found.target.name} ({found.value:.2f})"


def safe_name(text: str) -> str:
    """A file name made of an image's id: letters, digits, dots and dashes, 80 of them at most."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[-80:] or "picture"
