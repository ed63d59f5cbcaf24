"""Lower: convert the exported graph to half precision, and to 8-bit integers calibrated on photographs.

Quantisation is static (ranges of activations are measured on calibration images), in the QDQ format of ONNX Runtime,
with one scale per channel of the weights. It covers the encoder's convolutions and the activations after them. Some
layers, mostly the first ones, lose much accuracy. The encoder is therefore split into parts by depth, and each part is
quantised alone to measure its cost. Then as many parts as possible are quantised, the least costly first, as long as
grades agree. Networks that are not convolutional are not quantised, because too little of them could be.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from foveal.export.graph import Work, hushed
from foveal.fundus.preparation import at_size
from foveal.page.words import counted
from foveal.predict.opened import Exported

QUANTISED = ("Conv", "Clip", "Relu")
PARTS = 16  # of the encoder's depth; each is either quantised as a whole or stays in float32
WANTED_AGREEMENT = 0.99  # of grades, on calibration images that were not used to measure ranges
MEASURED = 3  # every third calibration image measures ranges; the others select the parts that stay in float32
FEW = 48  # of the others measure the cost of one part: a mean change needs fewer images than an agreement of grades
TURNS = 32  # number of other images that the change of each image is applied to


def write_half(onnx_file: Path, file: Path) -> None:
    """Write the graph with weights and arithmetic in float16; inputs and outputs keep their type."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(onnx_file))
    whole = {node.name for node in model.graph.node if ".encoder" in _scope_of(node)}
    encoder = {node.name for node, _ in encoder_nodes(model)}
    if len(encoder) < len(whole) / 2:  # a transformer, whose convolutions are few and come first
        encoder = whole
    tail = [node.name for node in model.graph.node if node.name not in encoder]  # small, and sums need float32
    before = {node.name for node in model.graph.node}
    with hushed():
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=tail)
    _remove_round_trips(half, before)
    onnx.save(half, str(file))


def _scope_of(node: Any) -> str:
    """The modules that a node comes from, as the exporter notes them; "" where it does not."""
    return next((str(each.value) for each in node.metadata_props if each.key == "namespace"), "")


def share_in_float32(file: Path) -> float:
    """The share (0-1) of the weights of an ONNX file that are in float32."""
    import onnx

    counts: dict[int, int] = {}
    for weights in onnx.load(str(file)).graph.initializer:
        counts[weights.data_type] = counts.get(weights.data_type, 0) + int(np.prod(weights.dims))
    return counts.get(onnx.TensorProto.FLOAT, 0) / max(1, sum(counts.values()))


def _remove_round_trips(model: Any, before: set[str]) -> None:
    """Remove casts to float16 and back, which the converter adds between nodes that both stay in float32.

    before: names of the nodes before conversion.
    """
    nodes = model.graph.node
    added = {name: node for node in nodes if node.op_type == "Cast" and node.name not in before for name in node.output}
    for node in list(added.values()):
        maker = added.get(node.input[0])
        if maker is not None and maker.op_type == "Cast":
            node.op_type = "Identity"
            node.input[0] = maker.input[0]
            del node.attribute[:]
    used = {name for node in nodes for name in node.input} | {output.name for output in model.graph.output}
    for node in [node for node in nodes if node.op_type == "Cast" and not used & set(node.output)]:
        nodes.remove(node)


def write_integers(work: Work, onnx_file: Path, file: Path) -> str:
    """Write the quantised file; returns a text about how much of it stayed in float32."""
    measured, others = work.calibrating[::MEASURED], np.delete(work.calibrating, slice(None, None, MEASURED), 0)
    others = others if len(others) else measured

    def answers(of: Path, images: np.ndarray) -> np.ndarray:
        return Exported(of, "cpu", about=work.said).probabilities(images)

    exact, grades = answers(onnx_file, others), work.predictor.readout.grades
    some = slice(None, None, -(-len(others) // FEW))

    def change(tried: Path) -> float:
        return float(np.sqrt(((answers(tried, others[some]) - exact[some]) ** 2).mean()))

    def agreement(tried: Path) -> float:
        changes = answers(tried, others) - exact
        # Each image's change is also applied to other images, so that a few images near a cutoff do not dominate.
        turned = [np.roll(changes, turn, 0) for turn in np.linspace(0, len(others), TURNS, endpoint=False).astype(int)]
        return float(np.mean([grades(exact + change) == grades(exact) for change in turned]))

    pixels = at_size(measured, work.side)
    kept, parts, share = write_int8(onnx_file, file, pixels, change, agreement)
    return (
        f"; {kept} of {parts} parts of it stay in float32 ({share:.1%} of {counted(len(others), 'calibration image')} "
        "keep their grade)"
    )


def write_int8(
    onnx_file: Path, file: Path, pixels: np.ndarray, change: Callable[[Path], float], agreement: Callable[[Path], float]
) -> tuple[int, int, float]:
    """Write the quantised graph; returns how many parts stay in float32, of how many, and the agreement of grades.

    pixels: uint8 [n, s, s, C], images to measure ranges on. change: difference between the probabilities of a file and
    the exact ones, 0 or more. agreement: share of equal grades (0-1). Both use images other than `pixels`.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as name, hushed():
        folder = Path(name)
        ready, alone = folder / "ready.onnx", folder / "alone.onnx"
        quant_pre_process(str(onnx_file), str(ready), skip_symbolic_shape=True)
        ranges, parts = _ranges(ready, pixels), parts_of_depth(encoder_nodes(onnx.load(str(ready))))

        def cost(part: list[str]) -> float:
            _quantise(ready, alone, ranges, part)
            return change(alone)

        def reached(count: int) -> float:
            tried = folder / f"{count}.onnx"
            _quantise(ready, tried, ranges, [name for part in cheapest[:count] for name in part])
            return agreement(tried)

        cheapest = sorted(parts, key=cost)
        count, share = most_that_agree(len(parts), reached)
        shutil.copyfile(folder / f"{count}.onnx", file)
    return len(parts) - count, len(parts), share


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
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):
        """One image at a time, because measuring ranges keeps all tensors of a batch in memory."""

        images = iter(pixels)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next image, or None after the last."""
            image = next(self.images, None)
            return None if image is None else {"pixels": image[None]}

    measured, averaged = str(ready.with_name("measured.onnx")), {"moving_average": True}
    calibrator = create_calibrator(ready, QUANTISED, measured, CalibrationMethod.MinMax, extra_options=averaged)
    calibrator.collect_data(Reader())
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
    needed: set[str] = set()  # names of nodes that a convolution depends on, and of convolutions
    waiting = [node for node in model.graph.node if node.op_type == "Conv"]
    while waiting:
        node = waiting.pop()
        if node.name not in needed:
            needed.add(node.name)
            waiting += [makers[name] for name in node.input if name in makers]
    depths: dict[str, int] = {}  # of tensors that depend on a convolution
    nodes = []
    for node in model.graph.node:
        depth = max((depths.get(name, 0) for name in node.input), default=0) + (node.op_type == "Conv")
        if depth:
            depths.update(dict.fromkeys(node.output, depth))
            # The last activation follows a convolution, but no convolution depends on it.
            follows = any(name in makers and makers[name].op_type == "Conv" for name in node.input)
            if node.name in needed or (node.op_type in ("Clip", "Relu") and follows):
                nodes.append((node, depth))
    return nodes
