"""Graph: a run as one torch module, from pixels to calibrated probabilities.

It includes normalisation, test-time augmentation, every member of an ensemble, and calibration. foveal.json contains
the rest: preparation of photographs (fundus/preparation.py), cutoffs and prediction sets.

Legend: N images, s pixels a side, C channels, K classes, D features.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.losses.grading import expected_grade
from foveal.nets.heads import Looking
from foveal.predict.predictor import Predictor, look
from foveal.readout.calibration import LEAST_PROBABILITY

OPSET = 20


class Graph(nn.Module):
    """uint8 [N, s, s, C] -> the tensors named in `outputs`, in order."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        members = predictor.ensembles[0]
        self.single, self.tta, readout = predictor.has_features, predictor.tta, predictor.readout
        self.temperature, self.stepped = readout.temperature, readout.steps is not None
        steps = torch.tensor(readout.steps or [[1.0, 0.0]] * (len(predictor.classes) - 1))
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
        second = ["second"] if self.second else []
        looks = ["features", *(["places"] if self.maps else [])] if self.single else []
        return ["probabilities", *second, *looks]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Calibrated probabilities [N, K]; then, if there are any, second [N, ·], features [N, D], places [N, h, w]."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        shares, seconds, looks = [], [], []
        for number, looking in enumerate(self.looking):
            # One pass for all views: with a pass for each view, writing and calibrating would take that much longer.
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
        return (mean, *([torch.stack(seconds).mean(0)] if seconds else []), *looks)


def whole_graph(predictor: Predictor) -> tuple[Graph, Tensor]:
    """The graph of one run, and pixels uint8 [2, s, s, C] to trace it; FovealError if image sizes of members differ."""
    sizes = sorted({member.input.image_size for member in predictor.ensembles[0]})
    if len(sizes) > 1:
        what = f"the folds of {predictor.name} have different image sizes: {', '.join(map(str, sizes))} px"
        raise FovealError("run.mismatch", what, expected="the same size for all folds")
    size = sizes[0]
    return Graph(predictor).eval(), torch.zeros(2, size, size, predictor.preparation.channels, dtype=torch.uint8)


def write_onnx(graph: Graph, example: Tensor, file: Path) -> None:
    """Write the graph as ONNX, for any number of images; needs onnxscript."""
    torch.onnx.export(
        graph, (example,), str(file), input_names=["pixels"], output_names=graph.outputs, opset_version=OPSET,
        dynamic_shapes=({0: torch.export.Dim("images")},), dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip


def write_torch(graph: Graph, example: Tensor, file: Path) -> None:
    """Write the graph with torch.export; torch.export.load(file).module()(pixels) runs it without Foveal."""
    program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("images")},))
    with warnings.catch_warnings():
        # This warning is about channels-last weights; it does not matter, because all weights are on the CPU.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, file)
