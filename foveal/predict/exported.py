"""Exported: a file that `foveal export` wrote, graded by ONNX Runtime; torch need not be installed.

    FOLDER/model.onnx (model.fp16.onnx, model.int8.onnx)    pixels to probabilities
    FOLDER/foveal.json                                      all else: classes, preparation, readout, digests, parity

The two belong together: a file whose digest foveal.json does not hold is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foveal.files import read_json
from foveal.fundus.preparation import at_size
from foveal.predict.model import Model
from foveal.readout.readout import readout_from

ABOUT, DEFAULT = "foveal.json", "model.onnx"
FORMAT = 1  # of foveal.json
AT_ONCE = 16  # images a call: more does not go faster on a CPU, and takes memory


class Exported(Model):
    """One ONNX file with its foveal.json; `path` may be their folder, which means model.onnx in it.

    `threads`: 0 takes all cores. `about`: what foveal.json will say, while it is being written.
    """

    def __init__(
        self, path: Path, device: str = "auto", threads: int = 0, about: Mapping[str, Any] | None = None
    ) -> None:  # fmt: skip
        self.file = path / DEFAULT if path.is_dir() else path
        about = _read_about(self.file) if about is None else about
        super().__init__(f"{about['name']} ({self.file.name})", about, readout_from(about["readout"]), about["tta"])
        self.about, self.side = about, int(about["input"]["side"])
        self._session = _session(self.file, device, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def key(self) -> str:
        """The digest of the file and of what foveal.json says."""
        said = json.dumps(self.about, sort_keys=True)
        return hashlib.sha256(f"{self.file.name}{said}".encode()).hexdigest()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, K], calibrated."""
        return self._run(images, ["probabilities"])[0]

    def second_probabilities(self, images: np.ndarray) -> np.ndarray:
        """Prepared uint8 [n, S, S, C] -> probabilities float32 [n, C] of the second task."""
        return self._run(images, ["second"])[0]

    def looks(self, images: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(maps float32 [n, h, w] or None, features float32 [n, D] or None), as the file gives them."""
        wanted = [name for name in ("places", "features") if name in self._outputs]
        found = dict(zip(wanted, self._run(images, wanted) if wanted else [], strict=True))
        return found.get("places"), found.get("features")

    def _run(self, images: np.ndarray, names: list[str]) -> list[np.ndarray]:
        if not len(images):
            empty = {"probabilities": len(self.classes), "second": len(self.second[1]) if self.second else 0}
            return [np.empty((0, empty[name]), np.float32) for name in names]
        pixels = at_size(images, self.side)
        parts = [
            self._session.run(names, {"pixels": pixels[start : start + AT_ONCE]})
            for start in range(0, len(pixels), AT_ONCE)
        ]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _read_about(file: Path) -> dict[str, Any]:
    about_file = file.with_name(ABOUT)
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; foveal export RUN --out FOLDER writes FOLDER/{DEFAULT}")
    if not about_file.is_file():
        raise ValueError(
            f"{file} is alone: without {ABOUT}, which foveal export wrote beside it, nobody knows its classes or how "
            "photographs are prepared. Copy the whole folder"
        )
    about = read_json(about_file)
    if about.get("format") != FORMAT:
        raise ValueError(
            f"{about_file} has format {about.get('format')}, this Foveal reads {FORMAT}: use the Foveal that wrote it "
            f"({about.get('foveal')}), or export again"
        )
    missing = {"name", "files", "input", "readout", "tta", "classes", "scale", "preparation"} - set(about)
    if missing:
        raise ValueError(f"{about_file} says nothing of {', '.join(sorted(missing))}: copy the whole folder again")
    known = about["files"].get(file.name, {}).get("sha256")
    if known != hashlib.sha256(file.read_bytes()).hexdigest():
        raise ValueError(
            f"{file} is not the file that {about_file} describes: one of them was changed or comes from another "
            "export. Copy the whole folder again"
        )
    return about


def _session(file: Path, device: str, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("an exported model needs ONNX Runtime: pip install 'foveal[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: as many as there are cores
    options.log_severity_level = 3
    there = onnxruntime.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in there:
        raise ValueError("--device cuda: this ONNX Runtime has no CUDA; pip install onnxruntime-gpu, or --device cpu")
    wanted = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(file), options, [name for name in wanted if name in there])
