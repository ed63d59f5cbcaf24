"""The model card of an exported grader, for people (README.md) and for programs (foveal.json)."""

from __future__ import annotations

import importlib.metadata
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foveal.files import read_json, write_table, write_text
from foveal.page.words import counted, interval, number
from foveal.predict.opened import FORMAT, record_of
from foveal.predict.predictor import Predictor
from foveal.runs import read_model
from foveal.sets.leaks import read_seen
from foveal.version import VERSION

# Packages for `foveal predict FILE.onnx`, and further ones for `foveal serve FILE.onnx`; torch is not needed.
NEEDED = (
    "numpy", "onnxruntime", "opencv-python-headless", "pandas", "pillow", "pydicom", "rich", "scipy", "tomli-w", "tyro",
)  # fmt: skip
SERVING = ("fastapi", "jinja2", "prometheus-client", "python-multipart", "sqlalchemy", "uvicorn")
TOLD_OF_RUN = ("kind", "encoder", "classes", "scale", "task", "preparation", "fundus", "referable_from", "decision",
               "second", "second_classes", "loss", "init", "best_epoch", "members")  # fmt: skip


def about(predictor: Predictor, run: Path, side: int, outputs: list[str]) -> dict[str, Any]:
    """The content of foveal.json, still without files."""
    model = read_model(run)
    provenance = read_json(run / "provenance.json")
    options = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    return {
        "format": FORMAT, "foveal": VERSION, "name": run.resolve().name,
        **{key: model[key] for key in TOLD_OF_RUN if key in model},
        "channels": predictor.preparation.channels,
        "input": {"name": "pixels", "type": "uint8", "shape": ["images", side, side, predictor.preparation.channels],
                  "side": side, "made": f"the prepared square of {predictor.preparation.size} px, resized by area"},
        "outputs": outputs, "tta": predictor.tta, "readout": predictor.readout.as_json(), "record": record_of(run),
        "notice": "Research use; not a medical device.", "files": {},
        "provenance": {
            "exported": datetime.now(UTC).isoformat(timespec="seconds"), "model": predictor.key,
            "trained": provenance["started"], "seed": provenance["seed"], "commit": provenance["commit"],
            "versions": provenance["versions"], "loss": options.get("loss"),
            # Names without folders, so that an export does not reveal local paths.
            "data": {Path(name).name: digest for name, digest in provenance["data"].items()},
            "image_size": options.get("image_size"),
        },
    }  # fmt: skip


def write_seen(run: Path, folder: Path) -> None:
    """Write FOLDER/seen.csv: digests and fingerprints of the training images, without names of images or patients.

    `predict` needs them to recognise test images that the grader was trained on.
    """
    write_table(folder / "seen.csv", read_seen(str(run)).assign(id="", set="", path="", patient=""))


def write_requirements(folder: Path) -> None:
    """Write FOLDER/requirements.txt: packages for grading without torch, in the installed versions."""
    lines = [
        "# To grade with these files, without torch: pip install --no-deps FOVEAL && pip install -r requirements.txt",
        f"# FOVEAL is the source folder or the wheel of Foveal {VERSION}.",
        *map(_pinned, NEEDED), "# foveal serve also needs:", *map(_pinned, SERVING),
    ]  # fmt: skip
    write_text(folder / "requirements.txt", "\n".join(lines) + "\n")


def _pinned(name: str) -> str:
    """NAME==VERSION, or only NAME if it is not installed here (export needs neither the server nor DICOM packages)."""
    try:
        return f"{name}=={importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def write_card(said: dict[str, Any], loads: dict[str, str], folder: Path) -> None:
    """Write FOLDER/README.md, the model card."""
    lines = [*_head(said), *_record(said), *_files(said, loads), *_use(said), *_origin(said)]
    write_text(folder / "README.md", "\n".join(lines) + "\n")


def _head(said: dict[str, Any]) -> list[str]:
    networks = counted(len(said.get("members") or [1]), "network")
    referred = said.get("referable_from")
    refers = [] if referred is None else ["", f"Grade {referred} ({said['classes'][referred]}) and above is referable."]
    return [
        f"# {said['name']}", "",
        f"A grader of {'fundus photographs' if said['fundus'] else 'pictures'} ({said['encoder']}, {networks}, scale "
        f"{said['scale']}), written by Foveal {said['foveal']}.", "",
        "**Research use only. Not a medical device. A person must make every decision.**", "", "## Grades", "",
        *(f"{place}. {name}" for place, name in enumerate(said["classes"])), *refers, "",
    ]  # fmt: skip


def _record(said: dict[str, Any]) -> list[str]:
    rows = [
        f"| {entry['name'].replace('_', ' ')} | {number(entry['value'], 3)} | {interval(entry, 3)} | {entry['n']} |"
        for entry in said["record"]
        if entry["value"] is not None
    ]
    found = [
        "| | value | 95 % interval | n |", "|---|---|---|---|", *rows, "",
        "Measured by `foveal evaluate` on held-out images of the data below. Quality may be worse with another camera "
        "or in another clinic, so evaluate the grader there.",
    ]  # fmt: skip
    return [
        "## Quality",
        "",
        *(found if rows else ["The grader was not evaluated before this export, so its quality is unknown."]),
        "",
    ]


def _files(said: dict[str, Any], loads: dict[str, str]) -> list[str]:
    lines = ["## Files", "", "| file | what it is | checked against the run |", "|---|---|---|"]
    for name, facts in said["files"].items():
        lines.append(f"| `{name}` | {facts['what']} | {facts.get('parity', '')} |")
    return [*lines, "", *(f"`{name}`: {how}" for name, how in loads.items()), ""]


def _use(said: dict[str, Any]) -> list[str]:
    shape = ", ".join(map(str, said["input"]["shape"]))
    return [
        "## Use", "", "```sh", "foveal predict . photographs/ --out predictions.csv", "foveal serve .", "```", "",
        f"Input `pixels`: uint8 [{shape}], RGB or grey, {said['input']['made']}; `preparation` in foveal.json says how "
        f"the square is cropped. Output: {', '.join(said['outputs'])}. `readout` in foveal.json contains the cutoffs "
        "and the limits of prediction sets.", "",
    ]  # fmt: skip


def _origin(said: dict[str, Any]) -> list[str]:
    origin = said["provenance"]
    data = ", ".join(f"{name} ({digest[:12]}…)" for name, digest in origin["data"].items())
    return [
        "## Origin", "",
        f"Trained {origin['trained']} on {data}, from {said['init']} weights, loss {said.get('loss')}, seed "
        f"{origin['seed']}, commit {origin['commit']}. Exported {origin['exported']}.",
    ]  # fmt: skip
