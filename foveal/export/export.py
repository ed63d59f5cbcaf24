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
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor, nn

from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.export.card import about, write_card
from foveal.export.encoder import write_encoder
from foveal.export.graph import Graph, Work, check, describe, whole_graph, write_onnx, write_torch
from foveal.export.lower import share_in_float32, write_half, write_integers
from foveal.export.options import ExportConfig, Format
from foveal.files import is_free, replacing
from foveal.page.words import counted
from foveal.predict.inputs import is_prepared
from foveal.predict.opened import ABOUT
from foveal.predict.predictor import Predictor
from foveal.runs import data_of, sole_writer
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
SAID = 0.1  # share of the weights of a lower format that stay in float32, from which on it is said
CHECKED = 256  # at most this many images to check files on: enough to measure 98 % agreement to within 2 %
CALIBRATING = 480  # at most this many images for int8: a third measures ranges, the rest selects float32 layers


def export(config: ExportConfig) -> Path:
    """Write the files and check each against the run; returns their folder. A failed export leaves no files."""
    shown = config.out or config.run / "export"
    out = shown.resolve()
    _check_packages(config.formats)
    if out.exists() and not out.is_dir():
        raise FovealError("option.value", f"--out {out} is a file", expected="a folder")
    if not is_free(out) and not (out / ABOUT).is_file():
        what = f"--out {out} exists and is not an earlier export"
        raise FovealError("output.exists", what, fix="choose another --out, or empty it")
    predictor = Predictor(config.run, None, None if config.tta == "auto" else config.tta)
    formats = _formats(config, predictor)
    checked, calibrating = _images(config, predictor)
    graph, example = whole_graph(predictor)
    said = about(predictor, config.run, int(example.shape[1]), graph.outputs)
    is_new, partial = not out.exists(), out / ".partial"
    with sole_writer(out, "export"):
        shutil.rmtree(partial, ignore_errors=True)  # left over from an export that was killed
        partial.mkdir()
        try:
            _write(config, formats, Work(predictor, checked, calibrating, partial, said), graph, example)
            _put(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            if is_new and not any(out.iterdir()):
                out.rmdir()
    say(f"exported: {shown}")
    return shown


def _check_packages(formats: tuple[str, ...]) -> None:
    needed = ("onnx", "onnxruntime", "onnxscript") if any(name.startswith("onnx") for name in formats) else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        what = f"ONNX files need {', '.join(missing)}"
        raise FovealError("package.missing", what, fix="pip install 'foveal[export]'")


def _formats(config: ExportConfig, predictor: Predictor) -> tuple[Format, ...]:
    """The formats possible for this run, with a warning for each of the others; FovealError if none is possible."""
    reasons: dict[Format, str] = {}
    if not predictor.has_features:
        reasons["encoder"] = "the run has several encoders; export one of them, such as RUN/fold1"
    encoder = predictor.ensembles[0][0].grader.encoder
    if sum(isinstance(layer, nn.Conv2d) for layer in encoder.modules()) < 2:
        reasons["onnx-int8"] = "8-bit integers need a convolutional network, and this encoder has at most 1 convolution"
    left_out = [f"skipping {name}: {reasons[name]}" for name in config.formats if name in reasons]
    if len(left_out) == len(config.formats):
        raise FovealError("export.no_format", "; ".join(left_out))
    for line in left_out:
        warn(line)
    return tuple(name for name in config.formats if name not in reasons)


def _images(config: ExportConfig, predictor: Predictor) -> tuple[np.ndarray, np.ndarray]:
    """(images to check on, images to calibrate on): prepared, evenly spread over their parts, without overlap."""
    path = config.images or data_of(config.run)
    if not is_prepared(path):
        what = f"{path} is not a prepared set" if config.images else f"the training set {path} of the run is missing"
        fix = "name a prepared set with --images, because files are checked on real images"
        raise FovealError("set.missing", what, fix=fix)
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


def _write(
    config: ExportConfig, formats: tuple[Format, ...], work: Work, graph: Graph, example: Tensor
) -> None:  # fmt: skip
    folder, onnx_file = work.folder, work.folder / FILES["onnx"][0]
    if any(name.startswith("onnx") for name in formats):
        say(f"writing {onnx_file.name}")
        with replacing(onnx_file) as partial:
            write_onnx(graph, example, partial)
    rows = []
    for name in (name for name in FILES if name in formats):
        file, what = folder / FILES[name][0], FILES[name][1]
        if name != "onnx":
            with replacing(file) as partial:
                if name == "onnx-fp16":
                    write_half(onnx_file, partial)
                elif name == "onnx-int8":
                    say(f"calibrating 8-bit integers on {counted(len(work.calibrating), 'image')}")
                    what += write_integers(work, onnx_file, partial)
                else:
                    write_torch(graph, example, partial)
        if name in ("onnx-fp16", "onnx-int8") and (share := share_in_float32(file)) > SAID:
            what += f"; {share:.0%} of its weights stay in float32"
            say(f"{file.name}: {share:.0%} of the weights stay in float32")
        rows.append(check(work, file, what, exact=name in ("onnx", "torch")))
    if "onnx" not in formats:
        onnx_file.unlink(missing_ok=True)
    loads = write_encoder(work.predictor, work.checked, folder) if "encoder" in formats else {}
    for weights in loads:
        describe(work, folder / weights, "the encoder's weights")
    write_card(work.said, loads, config.run, folder)
    if rows:
        columns = ["file", "MB", "largest difference", "equal grades", "n"]
        show_table(f"exported files compared with {config.run} on real images", columns, rows)
    for weights, how in loads.items():
        say(f"{weights}: {how}")


def _put(folder: Path, out: Path) -> None:
    """Move a complete export to its folder; other files there, such as reviews from `foveal serve`, are kept.

    foveal.json is moved last: until then, the new files do not match the old foveal.json and are refused.
    """
    names = {file.name for file in folder.iterdir()}
    for name in OWN_FILES - names:
        (out / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: (name == ABOUT, name)):
        (folder / name).replace(out / name)
