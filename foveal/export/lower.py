"""Lower: convert the exported graph to half precision, and to 8-bit integers calibrated on photographs.

Quantisation is static, in the QDQ format of ONNX Runtime, and covers the encoder's convolutions and their activations.
Some layers, mostly the first ones, lose much accuracy, so the encoder is split into parts by depth, and each part is
quantised alone to measure its cost. Then as many as possible are, the least costly first, as long as grades agree.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
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
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(str(onnx_file))
    nodes = model.graph.node
    whole = {node.name for node in nodes for each in node.metadata_props
             if each.key == "namespace" and ".encoder" in each.value}  # fmt: skip
    encoder = {node.name for node, _ in encoder_nodes(model)}
    if len(encoder) < len(whole) / 2:  # a transformer, whose convolutions are few and come first
        encoder = whole
    tail = [node.name for node in nodes if node.name not in encoder]  # small, and sums need float32
    with hushed():
        half = OnnxModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=tail))
        half.remove_cascaded_cast_nodes()  # to float16 and back, between nodes that both stay in float32
    onnx.save(half.model, str(file))


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

    kept, parts, share = write_int8(onnx_file, file, at_size(measured, work.side), change, agreement)
    said = f"{share:.1%} of {counted(len(others), 'calibration image')} keep their grade"
    return f"; {kept} of {parts} parts of it stay in float32 ({said})"


def write_int8(
    onnx_file: Path, file: Path, pixels: np.ndarray, change: Callable[[Path], float], agreement: Callable[[Path], float]
) -> tuple[int, int, float]:
    """Write the quantised graph; returns how many parts stay in float32, of how many, and the agreement of grades.

    pixels: uint8 [n, s, s, C], images to measure ranges on. Of a file, on other images: change: the difference of its
    probabilities from the exact ones, 0 or more; agreement: the share of equal grades (0-1).
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as name, hushed():
        folder = Path(name)
        ready, alone = folder / "ready.onnx", folder / "alone.onnx"
        quant_pre_process(str(onnx_file), str(ready), skip_symbolic_shape=True)
        ranges, parts = _ranges(ready, pixels), parts_of_depth(encoder_nodes(onnx.load(str(ready))))

        cheapest = sorted(parts, key=lambda part: change(_quantise(ready, alone, ranges, part)))

        def reached(count: int) -> float:
            names = [name for part in cheapest[:count] for name in part]
            return agreement(_quantise(ready, folder / f"{count}.onnx", ranges, names))

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
    """The largest number of parts (at least 1) that reaches `WANTED_AGREEMENT`, and its agreement, by bisection."""
    best, high = (1, reached(1)), parts
    while best[0] < high:
        middle = (best[0] + high + 1) // 2
        found = reached(middle)
        best, high = ((middle, found), high) if found >= WANTED_AGREEMENT else (best, middle - 1)
    return best


def _ranges(ready: Path, pixels: np.ndarray) -> Any:
    """The minimum and maximum of every tensor, averaged over calibration images, which cuts off rare extremes."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    measured, averaged = str(ready.with_name("measured.onnx")), {"moving_average": True}
    calibrator = create_calibrator(ready, QUANTISED, measured, CalibrationMethod.MinMax, extra_options=averaged)
    images = ({"pixels": image[None]} for image in pixels)  # by one, as all tensors of a batch are kept in memory
    calibrator.collect_data(SimpleNamespace(get_next=lambda: next(images, None)))
    return calibrator.compute_data()


def _quantise(ready: Path, file: Path, ranges: Any, chosen: list[str]) -> Path:
    """Write the QDQ format like ONNX Runtime's quantize_static, but with known ranges; returns `file`."""
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
    return file


def encoder_nodes(model: Any) -> list[tuple[Any, int]]:
    """(node, depth) of the nodes from the first to the last convolution, in the order of the graph.

    Depth: the number of convolutions on the longest path to a node, including itself.
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
