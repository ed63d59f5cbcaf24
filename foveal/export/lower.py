"""Lower: the exported graph in half precision, and in 8-bit integers calibrated on photographs.

Quantisation is static (ranges of activations are measured on calibration images), in the QDQ form of ONNX Runtime, with
a scale for each channel of the weights. What is quantised is the encoder: its convolutions, the clips behind them and
the sums of its branches. The first convolutions cost most accuracy and least time, so as many of them as needed stay
in float32: the fewest with which the grades of the calibration images agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

QUANTISED = ("Conv", "Add", "Clip", "Relu", "Mul")
KEPT_FIRST = (1, 3, 6, 12, 18, 24)  # convolutions at the start that stay in float32, tried in this order
WANTED_AGREEMENT = 0.99  # of grades on the calibration images; those that are reported are others
AT_ONCE = 16


def write_half(onnx_file: Path, file: Path) -> None:
    """Write the graph with weights and arithmetic in float16; what comes in and goes out keeps its type."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(onnx_file))
    encoder = {node.name for node in encoder_nodes(model)}
    tail = [node.name for node in model.graph.node if node.name not in encoder]  # small, and sums need float32
    with hushed_logs():
        onnx.save(convert_float_to_float16(model, keep_io_types=True, node_block_list=tail), str(file))


def write_int8(
    onnx_file: Path, file: Path, pixels: np.ndarray, agreement: Callable[[Path], float]
) -> tuple[int, float]:  # fmt: skip
    """Write the quantised graph; returns (convolutions kept in float32, agreement with them).

    pixels: uint8 [n, s, s, C] for calibration. agreement: share of equal grades (0-1) that a file reaches on them.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    best = (-1, -1.0)
    with TemporaryDirectory() as folder, hushed_logs():
        ready, tried = Path(folder) / "ready.onnx", Path(folder) / "tried.onnx"
        quant_pre_process(str(onnx_file), str(ready), skip_symbolic_shape=True)
        nodes = [node for node in encoder_nodes(onnx.load(str(ready))) if node.op_type in QUANTISED]
        convolutions = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
        for kept in KEPT_FIRST:
            if kept >= len(convolutions) and best[0] >= 0:
                break
            chosen = [node.name for node in nodes[convolutions[min(kept, len(convolutions) - 1)] :]]
            quantize_static(
                str(ready), str(tried), _reader(pixels), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_quantize=chosen,
                op_types_to_quantize=list(QUANTISED), calibrate_method=CalibrationMethod.MinMax,
            )  # fmt: skip
            reached = agreement(tried)
            if reached > best[1]:
                best = (kept, reached)
                file.write_bytes(tried.read_bytes())
            if reached >= WANTED_AGREEMENT:
                break
    return best


def encoder_nodes(model: Any) -> list[Any]:
    """The nodes of an exported graph that its convolutions need and that need a convolution, in order of the graph.

    So neither the normalisation of the pixels nor the head, whose small numbers matter most, is among them.
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
    behind: set[str] = set()  # names of tensors that come out of a convolution, or out of what does
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv" or behind & set(node.input):
            behind.update(node.output)
            if node.name in needed or (node.op_type in ("Clip", "Relu") and _of_conv(node, makers)):
                nodes.append(node)
    return nodes


def _of_conv(node: Any, makers: dict[str, Any]) -> bool:
    """Whether a node stands right behind a convolution, as the last activation does."""
    return any(name in makers and makers[name].op_type == "Conv" for name in node.input)


def _reader(pixels: np.ndarray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Batches of the calibration images, once."""

        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(
                [pixels[start : start + AT_ONCE] for start in range(0, len(pixels), AT_ONCE)]
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch, None behind the last."""
            batch = next(self.batches, None)
            return None if batch is None else {"pixels": batch}

    return Reader()


@contextmanager
def hushed_logs() -> Iterator[None]:
    """No advice of the quantiser, which is written to its users and not to ours."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
