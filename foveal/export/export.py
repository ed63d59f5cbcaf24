"""export: write a trained run as files for other programs, and check each against the run on real images.

foveal export RUN --out FOLDER
foveal export RUN --formats onnx onnx-int8 --images DATA

    FOLDER/model.onnx  model.fp16.onnx  model.int8.onnx    pixels to probabilities, for ONNX Runtime
    FOLDER/model.pt2                                        the same for torch.export.load
    FOLDER/encoder.safetensors  torchvision.safetensors     the encoder for timm and torchvision
    FOLDER/foveal.json  README.md  seen.csv  requirements.txt
"""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.export.card import about, write_card, write_requirements, write_seen
from foveal.export.check import EXACT_FORMATS, Work, check, describe
from foveal.export.encoder import write_encoder
from foveal.export.graph import whole_graph, write_onnx, write_torch
from foveal.export.integers import write_integers
from foveal.export.lower import hushed_logs, is_convolutional, write_half
from foveal.export.options import ExportConfig, Format
from foveal.files import write_json
from foveal.predict.inputs import is_prepared
from foveal.predict.opened import ABOUT
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
CHECKED = 256  # at most this many images to check files on: enough to measure 98 % agreement to within 2 %
CALIBRATING = 480  # at most this many images for int8: a third measures ranges, the rest selects float32 layers


def export(config: ExportConfig) -> Path:
    """Write the files and check each against the run; returns their folder. A failed export leaves no files."""
    out = (config.out or config.run / "export").resolve()
    _check_packages(config.formats)
    _check_place(out)
    predictor = Predictor(config.run, None, None if config.tta == "auto" else config.tta)
    formats = _formats(config, predictor)
    checked, calibrating = _images(config, predictor)
    graph, example = whole_graph(predictor)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left over from an export that was killed
    partial.mkdir(parents=True)
    try:
        said = about(predictor, config.run, int(example.shape[1]), graph.outputs)
        _write(config, formats, Work(predictor, graph, example, checked, calibrating, partial, said))
        _put(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"exported: {config.out or out}")
    return config.out or out


def _check_packages(formats: tuple[str, ...]) -> None:
    needed = ("onnx", "onnxruntime", "onnxscript") if any(name.startswith("onnx") for name in formats) else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        what = f"ONNX files need {', '.join(missing)}"
        raise FovealError("package.missing", what, fix="pip install 'foveal[export]'")


def _check_place(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise FovealError("option.value", f"--out {out} is a file", expected="a folder")
    if out.exists() and any(out.iterdir()) and not (out / ABOUT).is_file():
        what = f"--out {out} exists and is not an earlier export"
        raise FovealError("output.exists", what, fix="choose another --out, or empty it")


def _formats(config: ExportConfig, predictor: Predictor) -> tuple[Format, ...]:
    """The formats possible for this run, with a warning for each of the others; FovealError if none is possible."""
    reasons: dict[Format, str] = {}
    if not predictor.has_features:
        reasons["encoder"] = "the run has several encoders; export one of them, such as RUN/fold1"
    if not is_convolutional(predictor.ensembles[0][0].grader.encoder):
        reasons["onnx-int8"] = "8-bit integers need a convolutional network, and this encoder has at most 1 convolution"
    kept = tuple(name for name in config.formats if name not in reasons)
    left_out = [f"skipping {name}: {reasons[name]}" for name in config.formats if name in reasons]
    if not kept:
        raise FovealError("export.no_format", "; ".join(left_out))
    for line in left_out:
        warn(line)
    return kept


def _images(config: ExportConfig, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    """(images to check on, images to calibrate on): prepared, evenly spread over their parts, without overlap."""
    path = config.images or Path(tomllib.loads((config.run / "config.toml").read_text(encoding="utf-8"))["data"])
    if not is_prepared(path):
        what = f"{path} is not a prepared set" if config.images else f"the training set {path} of the run is missing"
        raise FovealError(
            "set.missing", what, fix="name a prepared set with --images, because files are checked on real images"
        )
    prepared = open_prepared(path)
    judged = prepared.records["split"].isin(("val", "test"))
    if not judged.any():  # folds: all images are in the training part
        judged = pd.Series(np.arange(len(judged)) % 2 == 0, index=judged.index)
    parts = []
    for records, most in ((prepared.records[judged], CHECKED), (prepared.records[~judged], CALIBRATING)):
        if not len(records):
            what = f"{path} has no {'validation or test' if most == CHECKED else 'training'} images"
            raise FovealError("set.empty", what, fix="name another set with --images")
        places = np.unique(np.linspace(0, len(records) - 1, min(most, len(records))).astype(int))
        parts.append(np.concatenate([images for _, images in predictor.images_of(prepared, records.iloc[places])]))
    return parts[0], parts[1]


def _write(config: ExportConfig, formats: tuple[Format, ...], work: Work) -> None:
    folder, onnx_file = work.folder, work.folder / FILES["onnx"][0]
    if any(name.startswith("onnx") for name in formats):
        say("writing model.onnx")
        with warnings.catch_warnings(), hushed_logs():
            warnings.simplefilter("ignore")  # warnings meant for developers of the exporter
            write_onnx(work.graph, work.example, onnx_file)
    rows = []
    for name in (name for name in FILES if name in formats):
        file, what = folder / FILES[name][0], FILES[name][1]
        if name == "onnx-fp16":
            write_half(onnx_file, file)
        if name == "onnx-int8":
            say(f"calibrating 8-bit integers on {len(work.calibrating)} images")
            what += write_integers(work, onnx_file, file)
        if name == "torch":
            write_torch(work.graph, work.example, file)
        rows.append(check(work, file, what, exact=name in EXACT_FORMATS))
    if "onnx" not in formats:
        onnx_file.unlink(missing_ok=True)
    loads = write_encoder(work.predictor, work.checked, folder) if "encoder" in formats else {}
    for weights in loads:
        describe(work, folder / weights, "the encoder's weights")
    write_json(folder / ABOUT, work.said)
    write_card(work.said, loads, folder)
    write_seen(config.run, folder)
    write_requirements(folder)
    if rows:
        columns = ["file", "MB", "largest difference", "equal grades", "n"]
        show_table(f"exported files compared with {config.run} on real images", columns, rows)
    for weights, how in loads.items():
        say(f"{weights}: {how}")


def _put(folder: Path, out: Path) -> None:
    """Move a complete export to its folder; other files there, such as reviews from `foveal serve`, are kept.

    foveal.json is moved last: until then, the new files do not match the old foveal.json and are refused.
    """
    out.mkdir(exist_ok=True)
    names = {file.name for file in folder.iterdir()}
    for name in sorted(OWN_FILES - names):
        (out / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: (name == ABOUT, name)):
        (folder / name).replace(out / name)
