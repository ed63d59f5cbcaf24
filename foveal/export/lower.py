"""Lower: convert the exported graph to half precision, and to 8-bit integers calibrated on photographs.

Quantisation is static (ranges of activations are measured on calibration images), in the QDQ format of ONNX Runtime,
with one scale per channel of the weights. It covers the encoder's convolutions and the activations after them. Some
layers, mostly the first ones, lose much accuracy. The encoder is therefore split into parts by depth, and each part is
quantised alone to measure its cost. Then as many parts as possible are quantised, the least costly first, as long as
grades agree. Networks that are not convolutional are not quantised, because too little of them could be.
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
PARTS = 16  # of the encoder's depth; each is either quantised as a whole or stays in float32
WANTED_AGREEMENT = 0.99  # of grades, on calibration images that were not used to measure ranges


def is_convolutional(encoder: nn.Module) -> bool:
    """Whether the encoder can be quantised: it has more than one convolution."""
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
    """Remove casts to float16 and back, which the converter adds between nodes that both stay in float32.

    before: names of the nodes before conversion.
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
    """Result of quantisation: `kept` of `parts` stay in float32; `agreement` of grades with float32 (0-1)."""

    kept: int
    parts: int
    agreement: float


def write_int8(
    onnx_file: Path, file: Path, pixels: np.ndarray, change: Callable[[Path], float], agreement: Callable[[Path], float]
) -> Kept:  # fmt: skip
    """Write the quantised graph.

    pixels: uint8 [n, s, s, C], images to measure ranges on. change: difference between the probabilities of a file and
    the exact ones, 0 or more. agreement: share of equal grades (0-1). Both use images other than `pixels`.
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
    """Names of the nodes that can be quantised, in `PARTS` equal spans of the depth; empty spans are left out."""
    deepest = max(depth for _, depth in nodes)
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for node, depth in nodes:
        if node.op_type in QUANTISED:
            parts[(depth - 1) * PARTS // deepest].append(node.name)
    return [part for part in parts if part]


def most_that_agree(parts: int, reached: Callable[[int], float]) -> tuple[int, float]:
    """The largest number of parts (at least 1) that reaches `WANTED_AGREEMENT`, and its agreement; by bisection.

    Agreement falls with more parts, except by chance, so bisection can be used.
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
    """The minimum and maximum of every tensor, averaged over calibration images; measured once for all trials.

    Averaging cuts off rare extremes and gives finer steps to other values, which unbounded activations need.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        ready, QUANTISED, str(ready.with_name("measured.onnx")), CalibrationMethod.MinMax,
        extra_options={"moving_average": True},
    )  # fmt: skip
    calibrator.collect_data(_reader(pixels))
    return calibrator.compute_data()


def _quantise(ready: Path, file: Path, ranges: Any, chosen: list[str]) -> None:
    """Write the QDQ format like ONNX Runtime's quantize_static, but with known ranges."""
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
    """(node, depth) of the nodes from the first to the last convolution, in the order of the graph.

    This excludes the normalisation of pixels and the head, which needs high precision. Depth: the number of
    convolutions on the longest path to a node, including itself. With folds, the graph contains several encoders, and
    the depth of each starts at 1.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    needed: set[str] = set()  # names of nodes that a convolution depends on
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
            # One at a time, because measuring ranges keeps all tensors of an image in memory.
            self.batches: Iterator[np.ndarray] = iter(np.split(pixels, len(pixels)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next image, or None after the last."""
            batch = next(self.batches, None)
            return None if batch is None else {"pixels": batch}

    return Reader()


@contextmanager
def hushed_logs() -> Iterator[None]:
    """Suppress log messages of the quantiser."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
