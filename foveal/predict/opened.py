"""Open a grader: run folders (with torch) or an exported file (without torch)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from foveal.errors import FovealError
from foveal.predict.model import Model

AUGMENTATIONS = ("auto", "none", "flips", "turns")


def is_model(path: Path) -> bool:
    """Whether a path is a run folder or an exported model, rather than images to grade."""
    return (path / "model.json").is_file() or is_exported(path)


def is_exported(path: Path) -> bool:
    """Whether a path is a file written by `foveal export`, or a folder of such files."""
    return (path / "foveal.json").is_file() if path.is_dir() else path.suffix.lower() == ".onnx"


def open_model(paths: Sequence[Path], device: str = "auto", tta: str = "auto", threads: int = 0) -> Model:
    """The model of one or more run folders, or of one exported file; FovealError if something is missing or wrong.

    tta: auto is as in the run; it cannot be changed for an exported file. threads: for an exported file; 0 uses all
    cores.
    """
    if tta not in AUGMENTATIONS:
        raise FovealError("option.value", f"--tta {tta} is unknown", expected=", ".join(AUGMENTATIONS))
    exported = [path for path in paths if is_exported(path)]
    if exported:
        return _open_exported(exported[0], paths, device, tta, threads)
    if importlib.util.find_spec("torch") is None:
        raise FovealError(
            "package.missing", f"{paths[0]} is a run folder, which needs torch",
            fix="pip install torch timm, or export the run on a machine with torch",
        )  # fmt: skip
    from foveal.distributed import choose_device
    from foveal.predict.predictor import Predictor

    return Predictor(paths, choose_device(device), None if tta == "auto" else tta)


def _open_exported(file: Path, paths: Sequence[Path], device: str, tta: str, threads: int) -> Model:
    from foveal.predict.exported import Exported

    if len(paths) > 1:
        what = f"{file} is an exported model, which cannot be part of an ensemble"
        raise FovealError("option.conflict", what, fix="give only this file, or only run folders")
    if device not in ("auto", "cpu", "cuda"):
        what = f"--device {device}: {file} is an exported model"
        raise FovealError("option.value", what, expected="auto, cpu or cuda")
    model = Exported(file, device, threads)
    if tta not in ("auto", model.tta):
        raise FovealError(
            "option.conflict", f"--tta {tta}: {file} was exported with --tta {model.tta}, which is fixed in the file",
            fix=f"export the run again with --tta {tta}",
        )  # fmt: skip
    return model
