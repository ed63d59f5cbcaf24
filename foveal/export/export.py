"""export: write a trained run as files for other programs, and check each against the run on real images."""

import shutil
from pathlib import Path

import numpy as np
from torch import Tensor

from foveal.console import say, show_table, warn
from foveal.errors import FovealError, check_packages
from foveal.export.card import about, write_card
from foveal.export.encoder import CONFIG, WEIGHTS, write_encoder
from foveal.export.graph import Graph, Work, check, describe, refusing, whole_graph, write_graph, write_half
from foveal.export.options import ExportConfig, Format
from foveal.files import check_free, replacing
from foveal.predict.inputs import is_prepared
from foveal.predict.opened import ABOUT
from foveal.predict.predictor import Predictor
from foveal.runs import data_of, sole_writer
from foveal.sets.records import open_prepared

FILES = {
    "onnx": ("model.onnx", "pixels to probabilities, float32"),
    "onnx-fp16": ("model.fp16.onnx", "the same with weights and arithmetic in float16"),
    "torch": ("model.pt2", "the same for torch.export.load"),
}
OWN_FILES = {ABOUT, "README.md", "seen.csv", "requirements.txt", WEIGHTS, CONFIG, *(name for name, _ in FILES.values())}
CHECKED = 256  # at most this many images to check files on: enough to measure 98 % agreement to within 2 %


def export(config: ExportConfig, encoder: str = "") -> Path:
    """Write the files and check each against the run; returns their folder. A failed export leaves no files.

    encoder: the network of a program that the run was made with, if any.
    """
    shown = config.out or config.run / "export"
    out = shown.resolve()
    if any(name.startswith("onnx") for name in config.formats):
        check_packages("an ONNX file", "export", "onnx", "onnxruntime", "onnxscript")
    if out.exists() and not out.is_dir():
        raise FovealError("option.value", f"--out {out} is a file", expected="a folder")
    check_free(out, made=ABOUT)
    predictor = Predictor(config.run, None, config.tta, encoder)
    formats = _formats(config, predictor)
    checked = _images(config, predictor)
    graph, example = whole_graph(predictor)
    said = about(predictor, config.run, example.shape[1], graph.outputs)
    is_new, partial = not out.exists(), out / ".partial"
    work = Work(predictor, checked, partial, said, example.shape[1])
    with sole_writer(out, "export"):
        shutil.rmtree(partial, ignore_errors=True)  # left over from an export that was killed
        partial.mkdir()
        try:
            _write(config, formats, work, graph, example)
            _put(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            if is_new and not any(out.iterdir()):
                out.rmdir()
    say(f"exported: {shown}")
    return shown


def _formats(config: ExportConfig, predictor: Predictor) -> tuple[Format, ...]:
    """The formats possible for this run, with a warning if others are left out; FovealError if none is possible."""
    if predictor.has_features or "encoder" not in config.formats:
        return config.formats
    what = "skipping encoder: the run has several encoders; export one of them, such as RUN/fold1"
    if {*config.formats} == {"encoder"}:
        raise FovealError("export.no_format", what)
    warn(what)
    return tuple(name for name in config.formats if name != "encoder")


def _images(config: ExportConfig, predictor: Predictor) -> np.ndarray:
    """The images to check on, prepared: validation and test images, evenly spread, or any where folds have all."""
    path = config.images or data_of(config.run)
    if not is_prepared(path):
        what = f"{path} is not a prepared set" if config.images else f"the training set {path} of the run is missing"
        fix = "name a prepared set with --images, because files are checked on real images"
        raise FovealError("set.missing", what, fix=fix)
    prepared = open_prepared(path)
    judged = prepared.part("val", "test")
    judged = judged if len(judged) else prepared.records
    places = np.unique(np.linspace(0, len(judged) - 1, min(CHECKED, len(judged))).astype(int))
    return np.concatenate([images for _, images in predictor.images_of(prepared, judged.iloc[places])])


def _write(config: ExportConfig, formats: tuple[Format, ...], work: Work, graph: Graph, example: Tensor) -> None:
    folder, onnx_file, rows, how = work.folder, work.folder / FILES["onnx"][0], [], ""
    for name, (file_name, what) in FILES.items():
        if name not in formats and not (name == "onnx" and "onnx-fp16" in formats):
            continue
        file = folder / file_name
        with refusing(name), replacing(file) as partial:
            if name == "onnx-fp16":
                write_half(onnx_file, partial)
            else:
                say(f"writing {file.name}")
                write_graph(graph, example, partial, name)
        if name in formats:
            rows.append(check(work, file, what, exact=name in ("onnx", "torch")))
    if "onnx" not in formats:
        onnx_file.unlink(missing_ok=True)
    if "encoder" in formats:
        how = write_encoder(work.predictor, work.checked, folder)
        describe(work, folder / WEIGHTS, "the encoder's weights")
    write_card(work.said, {WEIGHTS: how} if how else {}, config.run, folder)
    if rows:
        columns = ["file", "MB", "largest difference", "equal grades", "n"]
        show_table(f"exported files compared with {config.run} on real images", columns, rows)
    if how:
        say(f"{WEIGHTS}: {how}")


def _put(folder: Path, out: Path) -> None:
    """Move a complete export to its folder; other files there, such as reviews from `foveal serve`, are kept."""
    names = {file.name for file in folder.iterdir()}
    for name in OWN_FILES - names:
        (out / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: (name == ABOUT, name)):  # it comes last: it must not match older files
        (folder / name).replace(out / name)
