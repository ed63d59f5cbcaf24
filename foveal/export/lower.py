"""Lower: the exported graph in half precision, and in 8-bit integers calibrated on photographs.

Quantisation is static (ranges of activations are measured on calibration images), in the QDQ form of ONNX Runtime, with
a scale for each channel of the weights. It covers the encoder's convolutions and the clips after them. Some of them,
mostly the first, cost much accuracy: each part of the depth is quantised alone to see its cost on other images, and
then as many parts as possible are quantised, the cheapest first, while the grades stay alike. A network that is not a
stack of convolutions is not quantised: too little of it could be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

QUANTISED = ("Conv", "Clip", "Relu")
PARTS = 16  # of the depth, each of which is quantised as a whole or stays in float32
WANTED_AGREEMENT = 0.99  # of grades on calibration images other than those that measured the ranges


def is_convolutional(encoder: nn.Module) -> bool:
    """Whether the encoder has something to quantise: more convolutions than one at its entry."""
    from torch import nn

    return sum(isinstance(layer, nn.Conv2d) for layer in encoder.modules()) > 1


def write_half(onnx_file: Path, file: Path) -> None:
    """Write the graph with weights and arithmetic in float16; inputs and outputs keep their type."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(onnx_file))
    encoder = {node.name for node, _ in encoder_nodes(model)}
    tail = [node.name for node in model.graph.node if node.name not in encoder]  # small, and sums need float32
    before = {node.name for node in model.graph.node}
    with hushed_logs():
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=tail)
    _remove_round_trips(half, before)
    onnx.save(half, str(file))


def _remove_round_trips(model: Any, before: set[str]) -> None:
    """Undo casts from float32 to float16 and back, which the converter puts between nodes that both stay in float32.

    before: names of the nodes of the graph before; the converter did not add these.
    """
    nodes = model.graph.node
    makers = {name: node for node in nodes for name in node.output}
    for node in nodes:
        maker = makers.get(node.input[0]) if node.op_type == "Cast" and node.name not in before else None
        if maker is not None and maker.op_type == "Cast" and maker.name not in before:
            node.op_type = "Identity"
            node.input[0] = maker.input[0]
            del node.attribute[:]
    used = {name for node in nodes for name in node.input} | {output.name for output in model.graph.output}
    for node in [node for node in nodes if node.op_type == "Cast" and not used & set(node.output)]:
        nodes.remove(node)


@dataclass(frozen=True)
class Kept:
    """What a quantised graph keeps in float32: `kept` of `parts` of its depth; `agreement` (0-1) with the rest."""

    kept: int
    parts: int
    agreement: float


def write_int8(
    onnx_file: Path, file: Path, pixels: np.ndarray, change: Callable[[Path], float], agreement: Callable[[Path], float]
) -> Kept:  # fmt: skip
    """Write the quantised graph.

    pixels: uint8 [n, s, s, C] whose ranges are measured. change: how far the probabilities of a file lie from the exact
    ones, 0 or more. agreement: share of equal grades (0-1). Both on images other than `pixels`.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder, hushed_logs():
        ready, tried = Path(folder) / "ready.onnx", Path(folder) / "tried.onnx"
        quant_pre_process(str(onnx_file), str(ready), skip_symbolic_shape=True)
        ranges, parts = _ranges(ready, pixels), parts_of_depth(encoder_nodes(onnx.load(str(ready))))

        def cost(part: list[str]) -> float:
            _quantise(ready, tried, ranges, part)
            return change(tried)

        def reached(count: int) -> float:
            _quantise(ready, tried, ranges, [name for part in cheapest[:count] for name in part])
            found = agreement(tried)
            if found >= WANTED_AGREEMENT or not file.exists():
                file.write_bytes(tried.read_bytes())
            return found

        cheapest = sorted(parts, key=cost)
        count, found = most_that_agree(len(parts), reached)
    return Kept(len(parts) - count, len(parts), found)


def parts_of_depth(nodes: list[tuple[Any, int]]) -> list[list[str]]:
    """Names of what can be quantised in each of `PARTS` equal spans of the depth, without empty spans."""
    deepest = max(depth for _, depth in nodes)
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for node, depth in nodes:
        if node.op_type in QUANTISED:
            parts[(depth - 1) * PARTS // deepest].append(node.name)
    return [part for part in parts if part]


def most_that_agree(parts: int, reached: Callable[[int], float]) -> tuple[int, float]:
    """(the most parts, 1 or more, with which `WANTED_AGREEMENT` is reached, what is reached), by halving.

    More parts agree less, except by chance, so where one count agrees, fewer need not be tried.
    """
    best = (1, reached(1))
    low, high = 1, parts
    while low < high:
        middle = (low + high + 1) // 2
        found = reached(middle)
        if found >= WANTED_AGREEMENT:
            low, best = middle, (middle, found)
        else:
            high = middle - 1
    return best


def _ranges(ready: Path, pixels: np.ndarray) -> Any:
    """Mean over calibration images of the least and largest value of every tensor, measured once for all trials.

    The mean cuts off rare values and is finer for the others; activations without a bound need that.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        ready, QUANTISED, str(ready.with_name("measured.onnx")), CalibrationMethod.MinMax,
        extra_options={"moving_average": True},
    )  # fmt: skip
    calibrator.collect_data(_reader(pixels))
    return calibrator.compute_data()


def _quantise(ready: Path, file: Path, ranges: Any, chosen: list[str]) -> None:
    """Write the QDQ form as ONNX Runtime's quantize_static does, but with ranges that are known already."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(onnx.load(str(ready))), per_channel=True, reduce_range=False,
        weight_qType=QuantType.QInt8, activation_qType=QuantType.QUInt8, tensors_range=ranges,
        nodes_to_quantize=chosen, nodes_to_exclude=[], op_types_to_quantize=list(QUANTISED), extra_options={},
    )  # fmt: skip
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(file), False)


def encoder_nodes(model: Any) -> list[tuple[Any, int]]:
    """(node, depth) of the nodes between convolutions, in the order of the graph.

    These are what a convolution needs and what needs one: neither the normalisation of the pixels nor the head, whose
    small numbers matter most. Depth: the number of convolutions on the longest path to a node, itself included; a graph
    holds the encoder of every fold, and each begins at 1.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    needed: set[str] = set()  # by a convolution
    waiting = [node for node in model.graph.node if node.op_type == "Conv"]
    needed.update(node.name for node in waiting)
    while waiting:
        for name in waiting.pop().input:
            maker = makers.get(name)
            if maker is not None and maker.name not in needed:
                needed.add(maker.name)
                waiting.append(maker)
    depths: dict[str, int] = {}  # of tensors that depend on a convolution
    nodes = []
    for node in model.graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0) + (node.op_type == "Conv")
        if depth:
            depths.update(dict.fromkeys(node.output, depth))
            if node.name in needed or (node.op_type in ("Clip", "Relu") and _of_conv(node, makers)):
                nodes.append((node, depth))
    return nodes


def _of_conv(node: Any, makers: dict[str, Any]) -> bool:
    """Whether a node directly follows a convolution, as the last activation does."""
    return any(name in makers and makers[name].op_type == "Conv" for name in node.input)


def _reader(pixels: np.ndarray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """The calibration images, each once."""

        def __init__(self) -> None:
            # One at a time: while ranges are measured, all tensors of an image are in memory.
            self.batches: Iterator[np.ndarray] = iter(np.split(pixels, len(pixels)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next image, None behind the last."""
            batch = next(self.batches, None)
            return None if batch is None else {"pixels": batch}

    return Reader()


@contextmanager
def hushed_logs() -> Iterator[None]:
    """Without the advice that the quantiser logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
