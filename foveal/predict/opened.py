"""Open what grades: run folders (torch) or an exported file (no torch), by what lies there."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from foveal.predict.model import Model

AUGMENTATIONS = ("auto", "none", "flips", "turns")


def is_model(path: Path) -> bool:
    """Whether a path is a run folder or an exported model, and not something to be graded."""
    return (path / "model.json").is_file() or is_exported(path)


def is_exported(path: Path) -> bool:
    """Whether a path is a file that `foveal export` wrote, or the folder of such files."""
    return (path / "foveal.json").is_file() if path.is_dir() else path.suffix.lower() == ".onnx"


def open_model(paths: Sequence[Path], device: str = "auto", tta: str = "auto", threads: int = 0) -> Model:
    """The model of one or more run folders, or of one exported file; ValueError says what is missing or does not fit.

    `tta`: auto is that of the run; an exported file has its own, which cannot be changed. `threads`: of an exported
    file, 0 takes all cores.
    """
    if tta not in AUGMENTATIONS:
        raise ValueError(f"--tta {tta}: choose {', '.join(AUGMENTATIONS)}")
    exported = [path for path in paths if is_exported(path)]
    if not exported:
        if importlib.util.find_spec("torch") is None:
            raise ValueError(
                f"{paths[0]} is a run folder, which needs torch: pip install torch timm, or export it there"
            )
        from foveal.distributed import choose_device
        from foveal.predict.predictor import Predictor

        return Predictor(paths, choose_device(device), None if tta == "auto" else tta)
    if len(paths) > 1:
        raise ValueError(f"{exported[0]} is an exported model, which grades alone; give one, or run folders only")
    from foveal.predict.exported import Exported

    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device {device}: an exported model runs on auto, cpu or cuda")
    model = Exported(exported[0], device, threads)
    if tta not in ("auto", model.tta):
        raise ValueError(
            f"--tta {tta}: {exported[0]} was exported with {model.tta}, which is part of the file; export it again "
            f"with --tta {tta}"
        )
    return model
