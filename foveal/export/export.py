"""export: a trained run as files for other programs, each checked against the run on real images.

foveal export RUN --out FOLDER
foveal export RUN --formats onnx onnx-int8 --images DATA

    FOLDER/model.onnx  model.fp16.onnx  model.int8.onnx    pixels to probabilities, for ONNX Runtime
    FOLDER/model.pt2                                        the same for torch.export.load
    FOLDER/encoder.safetensors  torchvision.safetensors     the encoder for timm and torchvision
    FOLDER/foveal.json  README.md  seen.csv  requirements.txt
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tomllib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from foveal.console import say, show_table, warn
from foveal.export.card import about, write_card, write_requirements, write_seen
from foveal.export.encoder import write_timm, write_torchvision
from foveal.export.graph import Graph, input_shape, whole_graph, write_onnx, write_torch
from foveal.export.lower import hushed_logs, is_convolutional, write_half, write_int8
from foveal.export.options import ExportConfig, Format
from foveal.files import write_json
from foveal.fundus.preparation import at_size
from foveal.predict.exported import ABOUT, Exported
from foveal.predict.model import Model
from foveal.predict.predictor import Predictor
from foveal.sets.records import open_prepared

FILES = {
    "onnx": ("model.onnx", "pixels to probabilities, float32"),
    "onnx-fp16": ("model.fp16.onnx", "the same with weights and arithmetic in float16"),
    "onnx-int8": ("model.int8.onnx", "the same with an encoder in 8-bit integers"),
    "torch": ("model.pt2", "the same for torch.export.load"),
}
OWN_FILES = {ABOUT, "README.md", "seen.csv", "requirements.txt", "encoder.safetensors", "torchvision.safetensors"} | {
    name for name, _ in FILES.values()
}
EXACT = 1e-4  # largest difference of a probability that float32 may have
MEASURED = 3  # every third calibration image measures ranges, the others decide what stays in float32
FEW = 48  # of them tell what a part of the depth costs: a mean change needs fewer than a share of equal grades
TURNS = 32  # how often what an image lost is tried on another
LEAST_AGREEMENT = 0.98  # of grades; below it a file of lower precision is written with a warning


def export(config: ExportConfig) -> Path:
    """Write the files and check each against the run; returns their folder. Nothing is left of an export that fails."""
    out = (config.out or config.run / "export").resolve()
    _require_packages(config.formats)
    _require_place(out)
    predictor = Predictor(config.run, None, None if config.tta == "auto" else config.tta)
    config = replace(config, formats=_formats(config, predictor))
    checked, calibrating = _images(config, predictor)
    graph, example = whole_graph(predictor)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
    partial.mkdir(parents=True)
    try:
        _write(config, Work(predictor, graph, example, checked, calibrating, partial))
        _put(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"exported: {config.out or out}")
    return config.out or out


def _require_place(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    if out.exists() and any(out.iterdir()) and not (out / ABOUT).is_file():
        raise ValueError(f"--out {out} exists and holds no export; choose another folder, or empty it first")


def _formats(config: ExportConfig, predictor: Predictor) -> tuple[Format, ...]:
    """The formats that this run can have; what is left out is said, and ValueError where nothing is left."""
    reasons: dict[Format, str] = {}
    if not predictor.has_features:
        reasons["encoder"] = "several graders have as many encoders: export one of them, such as RUN/fold1"
    if not is_convolutional(predictor.ensembles[0][0].grader.encoder):
        reasons["onnx-int8"] = "8-bit integers are for stacks of convolutions, which this encoder is not"
    kept = tuple(name for name in config.formats if name not in reasons)
    left_out = [f"{name} is not written: {reasons[name]}" for name in config.formats if name in reasons]
    if not kept:
        raise ValueError("; ".join(left_out))
    for line in left_out:
        warn(line)
    return kept


def _put(folder: Path, out: Path) -> None:
    """Move a whole export into its place. What others keep there, such as the reviews of `foveal serve`, stays.

    foveal.json comes last: until then, old and new files do not fit together and are refused.
    """
    out.mkdir(exist_ok=True)
    names = {file.name for file in folder.iterdir()}
    for name in sorted(OWN_FILES - names):
        (out / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: (name == ABOUT, name)):
        (folder / name).replace(out / name)


@dataclass(frozen=True)
class Work:
    """What is exported, the images uint8 [n, S, S, C] it is checked and calibrated on, and where it goes."""

    predictor: Predictor
    graph: Graph
    example: torch.Tensor
    checked: np.ndarray
    calibrating: np.ndarray
    folder: Path


def _write(config: ExportConfig, work: Work) -> None:
    folder, side = work.folder, int(work.example.shape[1])
    said = about(work.predictor, config.run, side, work.graph.outputs) | {"files": {}}
    onnx_file = folder / "model.onnx"
    wanted = [name for name in FILES if name in config.formats]
    kept = ""
    if any(name.startswith("onnx") for name in wanted):
        say("writing model.onnx")
        with warnings.catch_warnings(), hushed_logs():
            warnings.simplefilter("ignore")  # the exporter's advice to its authors
            write_onnx(work.graph, work.example, onnx_file)
        _describe(said, onnx_file, FILES["onnx"][1])
    if "onnx-fp16" in wanted:
        write_half(onnx_file, folder / FILES["onnx-fp16"][0])
    if "onnx-int8" in wanted:
        say(f"calibrating 8-bit integers on {len(work.calibrating)} images")
        kept = _write_int8(work, said, onnx_file)
    if "torch" in wanted:
        write_torch(work.graph, work.example, folder / FILES["torch"][0])
    loads = _write_encoder(work.predictor, work.checked, folder) if "encoder" in config.formats else {}
    rows = []
    expected = _both(work.predictor, work.checked)
    for name in wanted:
        file = folder / FILES[name][0]
        _describe(said, file, FILES[name][1] + (kept if name == "onnx-int8" else ""))
        found = _answers(file, said, work.checked, work.predictor)
        rows.append(_parity(name, file.name, expected, found, work, said))
    if "onnx" not in wanted and onnx_file.exists():
        onnx_file.unlink()
        del said["files"][onnx_file.name]
    for weights in loads:
        _describe(said, folder / weights, "the encoder's weights")
    write_json(folder / ABOUT, said)
    write_card(said, loads, folder)
    write_seen(config.run, folder)
    write_requirements(folder)
    if rows:
        columns = ["file", "MB", "largest difference", "equal grades", "n"]
        show_table(f"checked against {config.run} on real images", columns, rows)
    for weights, how in loads.items():
        say(f"{weights}: {how}")


def _describe(said: dict[str, Any], file: Path, what: str) -> None:
    if file.exists():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        said["files"][file.name] = {"what": what, "bytes": file.stat().st_size, "sha256": digest}


def _answers(file: Path, said: dict[str, Any], images: np.ndarray, predictor: Predictor) -> np.ndarray:
    """Probabilities float32 [n, K + C] of a written file, those of a second task behind, read as a user reads it."""
    if file.suffix == ".pt2":
        module = torch.export.load(file).module()
        with torch.inference_mode():
            parts = [
                module(torch.from_numpy(at_size(images[start : start + 16], said["input"]["side"])))
                for start in range(0, len(images), 16)
            ]
        count = 1 if predictor.second is None else 2
        return np.concatenate([np.hstack([output.numpy() for output in part[:count]]) for part in parts])
    write_json(file.with_name(ABOUT), said)
    return _both(Exported(file, "cpu"), images)


def _both(model: Model, images: np.ndarray) -> np.ndarray:
    """Probabilities float32 [n, K + C]: of the grades, and of a second task where there is one."""
    answers = model.answer(images)
    return np.hstack([found for found in (answers.probabilities, answers.second) if found is not None])


def _write_int8(work: Work, said: dict[str, Any], onnx_file: Path) -> str:
    """Write the quantised file; returns what was kept in float32, in words."""
    side = int(work.example.shape[1])
    write_json(work.folder / ABOUT, said)
    measured, others = work.calibrating[::MEASURED], np.delete(work.calibrating, slice(None, None, MEASURED), 0)
    others = others if len(others) else measured
    exact, grades = Exported(onnx_file, "cpu").probabilities(others), work.predictor.readout.grades
    some = slice(None, None, -(-len(others) // FEW))

    def change(file: Path) -> float:
        found = Exported(file, "cpu", about=said).probabilities(others[some])
        return float(np.sqrt(((found - exact[some]) ** 2).mean()))

    def agreement(file: Path) -> float:
        changes = Exported(file, "cpu", about=said).probabilities(others) - exact
        # What one image lost is tried on others, too: a few that lie on a threshold would decide by chance.
        turned = [np.roll(changes, turn, 0) for turn in np.linspace(0, len(others), TURNS, endpoint=False).astype(int)]
        return float(np.mean([grades(exact + change) == grades(exact) for change in turned]))

    file = work.folder / FILES["onnx-int8"][0]
    left = write_int8(onnx_file, file, at_size(measured, side), change, agreement)
    return (
        f"; {left.kept} of {left.parts} parts of its depth in float32 ({left.agreement:.1%} of {len(others)} "
        "calibration images would be graded alike)"
    )


def _parity(
    name: str, file: str, expected: np.ndarray, found: np.ndarray, work: Work, said: dict[str, Any]
) -> list[str]:  # fmt: skip
    """Compare a file's probabilities [n, K + C] with the run's; ValueError where float32 is not exact."""
    if not np.isfinite(found).all():
        raise ValueError(f"{file} computes what is no number: this network does not fit {name}, leave it out")
    difference = float(np.abs(expected - found).max())
    grades, classes = work.predictor.readout.grades, len(work.predictor.classes)
    agreement = float((grades(expected[:, :classes]) == grades(found[:, :classes])).mean())
    if name in ("onnx", "torch") and difference > EXACT:
        raise ValueError(
            f"{file} differs from the run by {difference:.2g} in a probability, more than {EXACT:g}: it is not the "
            "same grader, and nothing was exported"
        )
    if agreement < LEAST_AGREEMENT:
        warn(
            f"{file} gives another grade to {1 - agreement:.1%} of {len(expected)} images: evaluate it by itself "
            "before it is used, or use model.onnx"
        )
    facts = said["files"][file]
    facts |= {"largest_difference": difference, "equal_grades": agreement, "images": len(expected)}
    facts["parity"] = f"largest difference {difference:.1e}, equal grades {agreement:.1%} of {len(expected)} images"
    return [file, f"{facts['bytes'] / 1e6:.1f}", f"{difference:.1e}", f"{agreement:.1%}", str(len(expected))]


def _write_encoder(predictor: Predictor, images: np.ndarray, folder: Path) -> dict[str, str]:
    """{file: how it is loaded} of the encoder's weights."""
    encoder, name = predictor.grader.encoder, predictor.encoder_name
    shape = input_shape(predictor.input, predictor.preparation.channels)
    seen = torch.from_numpy(at_size(images[:8], shape[2])).permute(0, 3, 1, 2).float() / 127.5 - 1
    loads = {"encoder.safetensors": write_timm(encoder, name, seen, folder / "encoder.safetensors")}
    how = write_torchvision(encoder, name, seen, folder / "torchvision.safetensors")
    if (folder / "torchvision.safetensors").exists():
        loads["torchvision.safetensors"] = how
    else:
        say(f"no torchvision.safetensors: {how}")
    return loads


def _images(config: ExportConfig, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    """(images to check on, images to calibrate on), prepared, spread over their parts; they share none."""
    path = config.images or Path(tomllib.loads((config.run / "config.toml").read_text(encoding="utf-8"))["data"])
    if not (path / "records.csv").is_file():
        raise ValueError(
            f"{path} is no prepared set, and files are checked on real images: give one with --images"
            + ("" if config.images else f" ({config.run} was trained on {path}, which is not there)")
        )
    prepared = open_prepared(path)
    judged = prepared.records["split"].isin(("val", "test"))
    if not judged.any():  # folds: all images are in the training part
        judged = pd.Series(np.arange(len(judged)) % 2 == 0, index=judged.index)
    parts = []
    for records, most in ((prepared.records[judged], config.check), (prepared.records[~judged], config.calibrate)):
        if not len(records):
            raise ValueError(f"{path} has no images left to {'check' if most == config.check else 'calibrate'} on")
        places = np.unique(np.linspace(0, len(records) - 1, min(most, len(records))).astype(int))
        parts.append(np.concatenate([images for _, images in predictor.images_of(prepared, records.iloc[places])]))
    return parts[0], parts[1]


def _require_packages(formats: tuple[str, ...]) -> None:
    needed = ("onnx", "onnxruntime", "onnxscript") if any(name.startswith("onnx") for name in formats) else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX files need {', '.join(missing)}: pip install 'foveal[export]'")
