"""Graph: a run as one torch module, from pixels to calibrated probabilities; its files, compared with the run.

foveal.json contains the rest: preparation of photographs (fundus/preparation.py), cutoffs and prediction sets.
Legend: N images, s pixels a side, C channels, K classes, D features.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.console import warn
from foveal.errors import FovealError
from foveal.files import sha256_of
from foveal.fundus.preparation import at_size
from foveal.losses.grading import expected_grade
from foveal.nets.heads import Looking
from foveal.page.words import counted
from foveal.predict.model import Answers
from foveal.predict.opened import AT_ONCE, Exported
from foveal.predict.predictor import Predictor, look
from foveal.readout.calibration import LEAST_PROBABILITY

OPSET = 20
EXACT = 1e-4  # largest allowed difference of a probability for float32 files
EXPORTABLE = ("tf_efficientnet_lite0", "resnet10t", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224")  # tried
LEAST_AGREEMENT = 0.98  # of grades; below this, a file of lower precision is written with a warning


class Graph(nn.Module):
    """uint8 [N, s, s, C] -> the tensors named in `outputs`, in order."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        members = predictor.members
        self.single, self.tta, readout = predictor.has_features, predictor.tta, predictor.readout
        self.temperature, self.stepped = readout.temperature, readout.steps is not None
        steps = torch.tensor(readout.steps or [[1.0, 0.0]] * (len(predictor.classes) - 1))
        self.adjustment = readout.adjustment
        if self.adjustment is not None:
            self.register_buffer("log_weights", torch.tensor(self.adjustment.weights).log())
        self.register_buffer("slopes", steps[:, 0])
        self.register_buffer("cuts", steps[:, 1])
        for name, values in (("means", [m.input.mean for m in members]), ("stds", [m.input.std for m in members])):
            self.register_buffer(name, torch.tensor(values)[:, None, :, None, None])
        self.maps = predictor.has_maps
        self.looking = nn.ModuleList([Looking(one.grader, predictor.decision, self.maps) for one in members])
        self.second = predictor.second is not None

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        there = {"second": self.second, "features": self.single, "places": self.single and self.maps}
        return ["probabilities", *(name for name in there if there[name])]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Calibrated probabilities [N, K]; then, if there are any, second [N, ·], features [N, D], places [N, h, w]."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        shares, seconds, looks = [], [], []
        for number, looking in enumerate(self.looking):
            # One pass for all views: with a pass for each view, writing would take that much longer.
            share, *seen = look(looking, (images - self.means[number]) / self.stds[number], self.tta)  # type: ignore
            shares.append(share)
            if self.second:
                second_head: Any = looking.grader.second_head  # type: ignore[union-attr]
                seconds.append(second_head(seen[0]).float().softmax(1))
            if self.single:
                looks = seen
        mean = torch.stack(shares).mean(0)
        if self.stepped:
            rises = self.slopes * (expected_grade(mean)[:, None] - self.cuts)  # type: ignore[operator]
            mean = F.pad(rises.cumsum(1), (1, 0)).softmax(1)
        elif self.temperature != 1:
            mean = (mean.clamp_min(LEAST_PROBABILITY).log() / self.temperature).softmax(1)
        if self.adjustment is not None:
            scores = mean.clamp_min(LEAST_PROBABILITY).log() / self.adjustment.temperature
            mean = (scores + self.log_weights).softmax(1)  # type: ignore[operator]
        return (mean, *([torch.stack(seconds).mean(0)] if seconds else []), *looks)


def whole_graph(predictor: Predictor) -> tuple[Graph, Tensor]:
    """The graph of one run, whose folds have one image size, and pixels uint8 [2, s, s, C] to trace it."""
    size = predictor.members[0].input.image_size
    return Graph(predictor).eval(), torch.zeros(2, size, size, predictor.preparation.channels, dtype=torch.uint8)


def write_graph(graph: Graph, example: Tensor, file: Path, form: str) -> None:
    """Write the graph for any number of images as "onnx", which needs onnxscript, or for torch.export.load, "torch"."""
    with silenced():
        if form == "torch":
            torch.export.save(traced(graph, example), file)
        else:
            torch.onnx.export(traced(graph, example), (example,), str(file), input_names=["pixels"],
                              output_names=graph.outputs, opset_version=OPSET, dynamo=True, external_data=False,
                              verbose=False)  # fmt: skip


def write_half(onnx_file: Path, file: Path) -> None:
    """Write an ONNX file with weights and arithmetic of the encoders in float16; inputs and outputs keep their type."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(str(onnx_file))
    inside = {node.name for node in model.graph.node for each in node.metadata_props
              if each.key == "namespace" and ".encoder" in each.value}  # fmt: skip
    tail = [node.name for node in model.graph.node if node.name not in inside]  # small, and sums need float32
    with silenced():
        half = OnnxModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=tail))
        half.remove_cascaded_cast_nodes()  # to float16 and back, between nodes that both stay in float32
    onnx.save(half.model, str(file))


@contextmanager
def refusing(form: str) -> Iterator[None]:
    """FovealError, naming encoders that work, if an encoder cannot be written as `form`, however it fails."""
    try:
        yield
    except (FovealError, MemoryError, OSError):
        raise
    except Exception as error:
        why = next((line for line in str(error).splitlines() if line.strip()), "")[:200]
        what = f"the encoder of this run cannot be written as {form} ({type(error).__name__}: {why})"
        fix = f"leave out the formats that need {form}, or train with an --encoder such as {', '.join(EXPORTABLE)}"
        raise FovealError("export.encoder", what, fix=fix) from error


def traced(graph: Graph, example: Tensor) -> torch.export.ExportedProgram:
    """The graph for any number of images, without the paths of this machine's source files."""
    for module in graph.modules():  # timm's fused attention is not always in four dimensions, which ONNX needs
        if getattr(module, "fused_attn", False) is True:
            module.fused_attn = False  # type: ignore[assignment]
    program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("images")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress warnings and log messages that are meant for developers of an exporter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class Work:
    """The data of an export. checked: images uint8 [n, S, S, C]. said: the content of foveal.json."""

    predictor: Predictor
    checked: np.ndarray
    folder: Path
    said: dict[str, Any]
    side: int  # of the graph's input, in pixels

    @cached_property
    def expected(self) -> np.ndarray:
        """The probabilities of the run for the `checked` images."""
        return both(self.predictor.answer(self.checked))


def both(answers: Answers) -> np.ndarray:
    """Probabilities float32 [n, K + C]: of the grades and, if there is one, of the second task."""
    return np.hstack([found for found in (answers.probabilities, answers.second) if found is not None])


def describe(work: Work, file: Path, what: str) -> dict[str, Any]:
    """Add a finished file to the content of foveal.json; returns its entry."""
    entry = {"what": what, "bytes": file.stat().st_size, "sha256": sha256_of(file)}
    work.said["files"][file.name] = entry
    return entry


def check(work: Work, file: Path, what: str, *, exact: bool) -> list[str]:
    """Add the file to the content of foveal.json, with its difference from the run; returns a row for the table.

    FovealError if probabilities are not finite, or if an `exact` file differs by more than `EXACT`.
    """
    expected, found = work.expected, _answers(file, work)
    if not np.isfinite(found).all():
        what = f"{file.name} computes values that are not finite: its precision is too low"
        raise FovealError("export.not_finite", what, fix="leave its format out of --formats")
    difference = float(np.abs(expected - found).max())
    if exact and difference > EXACT:
        problem = f"{file.name} differs from the run by {difference:.2g} in a probability, so nothing was exported"
        raise FovealError("export.inexact", problem, expected=f"at most {EXACT:g}")
    ours, theirs = (work.predictor.readout.grades(one[:, : len(work.predictor.classes)]) for one in (expected, found))
    agreement, images = float((ours == theirs).mean()), counted(len(expected), "image")
    if agreement < LEAST_AGREEMENT:
        advice = "evaluate this file before you use it, or use model.onnx"
        warn(f"{file.name} gives a different grade for {1 - agreement:.1%} of {images}: {advice}")
    entry = describe(work, file, what)
    entry |= {"largest_difference": difference, "equal_grades": agreement, "images": len(expected),
              "parity": f"largest difference {difference:.1e}, equal grades {agreement:.1%} of {images}"}  # fmt: skip
    return [file.name, f"{entry['bytes'] / 1e6:.1f}", f"{difference:.1e}", f"{agreement:.1%}", str(len(expected))]


def _answers(file: Path, work: Work) -> np.ndarray:
    """Probabilities float32 [n, K + C] of a written file."""
    if file.suffix == ".onnx":
        return both(Exported(file, "cpu", about=work.said).answer(work.checked))
    module, count = torch.export.load(file).module(), 1 if work.predictor.second is None else 2
    pixels = torch.from_numpy(at_size(work.checked, work.side))
    with torch.inference_mode():
        return np.concatenate([torch.hstack(module(part)[:count]).numpy() for part in pixels.split(AT_ONCE)])
