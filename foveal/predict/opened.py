"""Open a grader: a run folder (with torch), or a file of `foveal export`, run by ONNX Runtime (without torch).

FOLDER/model.onnx, model.fp16.onnx                      pixels to probabilities
FOLDER/foveal.json                                      the rest: classes, preparation, readout, digests, parity
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foveal.errors import FovealError, check_packages
from foveal.evaluate.operating import BY_GRADE, IN_USE
from foveal.files import read_json, sha256_of
from foveal.fundus.preparation import at_size
from foveal.predict.model import GRADE, Answers, Model, Want
from foveal.readout.readout import readout_from

AUGMENTATIONS = ("auto", "none", "flips", "turns")
ABOUT, DEFAULT = "foveal.json", "model.onnx"
FORMAT = 1  # of foveal.json
AT_ONCE = 16  # images per call: more take more memory and are not faster on a CPU
# Possible outputs of a file, and the entry of `want` that requests each of them.
WISHES = {"probabilities": "probabilities", "second": "probabilities", "features": "features", "places": "map"}
FIGURES = ("quadratic_kappa", "referable_auc", "accuracy", "macro_f1", "expected_calibration_error")


def is_exported(path: Path) -> bool:
    """Whether a path is a file written by `foveal export`, or a folder of such files."""
    return (path / "foveal.json").is_file() if path.is_dir() else path.suffix.lower() == ".onnx"


def open_model(path: Path, device: str = "auto", tta: str = "auto", threads: int = 0, encoder: str = "") -> Model:
    """The model of a run folder or of an exported file; FovealError if something is missing or wrong. tta: auto is as
    in the run. threads: for an exported file; 0 uses all cores. encoder: see `Predictor`."""
    if tta not in AUGMENTATIONS:
        raise FovealError("option.value", f"--tta {tta} is unknown", expected=", ".join(AUGMENTATIONS))
    if is_exported(path):
        if device not in ("auto", "cpu", "cuda"):
            raise FovealError("option.value", f"--device {device}: {path} is exported", expected="auto, cpu or cuda")
        model = Exported(path, device, threads)
        if tta not in ("auto", model.tta):
            what, fix = f"--tta {tta}: {path} has --tta {model.tta}", "export the run again"
            raise FovealError("option.conflict", what, fix=fix)
        return model
    if importlib.util.find_spec("torch") is None:
        fix = "pip install torch timm safetensors, or on a machine with torch: foveal export RUN --out exported"
        raise FovealError("package.missing", f"{path} is a run folder, which needs torch", fix=fix)
    from foveal.distributed import choose_device
    from foveal.predict.predictor import Predictor

    return Predictor(path, choose_device(device), tta, encoder)


class Exported(Model):
    """An ONNX file, or its folder, with its foveal.json; about: the content, if it has not been written yet."""

    def __init__(self, path: Path, device: str, threads: int = 0, about: Mapping[str, Any] | None = None) -> None:
        self.file = path / DEFAULT if path.is_dir() else path
        about = _read_about(self.file) if about is None else about
        super().__init__(f"{about['name']} ({self.file.name})", about, readout_from(about["readout"]), about["tta"])
        self.about, self.side = about, int(about["input"]["side"])
        self._session = _session(self.file, device, threads)
        self._outputs = {output.name for output in self._session.get_outputs()}
        self.has_maps, self.has_features = "places" in self._outputs, "features" in self._outputs

    @property
    def key(self) -> str:
        """Digest of the file's name and foveal.json, which contains the digest of the file."""
        return hashlib.sha256(f"{self.file.name}{json.dumps(self.about, sort_keys=True)}".encode()).hexdigest()

    def answer(self, pixels: np.ndarray, want: Want = GRADE) -> Answers:
        """See `Model.answer`."""
        if not len(pixels):
            return self.nothing()
        names = [name for name, wish in WISHES.items() if wish in want and name in self._outputs]
        if not names:
            return Answers()
        parts = [pixels[start : start + AT_ONCE] for start in range(0, len(pixels), AT_ONCE)]
        runs = [self._session.run(names, {"pixels": at_size(part, self.side)}) for part in parts]
        arrays = map(np.concatenate, zip(*runs, strict=True))
        return Answers(**dict(zip(["maps" if name == "places" else name for name in names], arrays, strict=True)))


def _read_about(file: Path) -> dict[str, Any]:
    about_file, again = file.with_name(ABOUT), "copy the whole folder again"
    if not file.is_file():
        raise FovealError("export.missing", f"{file} does not exist", fix="foveal export RUN --out FOLDER writes it")
    if not about_file.is_file():
        raise FovealError("export.incomplete", f"{ABOUT}, which belongs next to {file}, is missing", fix=again)
    about = read_json(about_file)
    if about.get("format") != FORMAT:
        what = f"{about_file} has format {about.get('format')}, of Foveal {about.get('foveal')}"
        raise FovealError("export.format", what, expected=f"format {FORMAT}", fix="export the run again")
    if missing := {"name", "files", "input", "readout", "tta", "classes", "scale", "preparation"} - set(about):
        raise FovealError("export.incomplete", f"{about_file} has no {', '.join(sorted(missing))}", fix=again)
    if about["files"].get(file.name, {}).get("sha256") != sha256_of(file):
        raise FovealError("export.changed", f"{file} and {about_file} do not belong to the same export", fix=again)
    return about


def _session(file: Path, device: str, threads: int) -> Any:
    check_packages("an exported model", "export", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: as many as there are cores
    options.log_severity_level = 3
    there = onnxruntime.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in there:
        raise FovealError("device.missing", "ONNX Runtime has no CUDA", fix="pip install onnxruntime-gpu")
    wanted = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(file), options, [name for name in wanted if name in there])


def record_of(run: Path) -> list[dict[str, Any]]:
    """The main metrics of a grader, [{name, value, low, high, n}] from RUN/metrics.json; [] if it was not evaluated."""
    file = run / "metrics.json"
    if not file.is_file():
        return []
    result = read_json(file)
    found = [(name, result["metrics"][name]) for name in FIGURES if name in result["metrics"]]
    for point in result.get("operating_points", []):
        if point["target"] == "referable" and point["name"] in (IN_USE, BY_GRADE):
            found += [(f"referable_{name}", point[name]) for name in ("sensitivity", "specificity")]
            break  # the point in use stands first
    return [{"name": name, **{key: entry.get(key) for key in ("value", "low", "high", "n")}} for name, entry in found]
