"""Options of `foveal export`; torch is not imported for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Format = Literal["onnx", "onnx-fp16", "onnx-int8", "torch", "encoder"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of `foveal export`."""

    # Run folder that `foveal train` wrote; a run of folds becomes one file.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Folder to write; by default RUN/export. Files of an older export are replaced, others stay.
    out: Path | None = None
    # What to write: onnx (float32), onnx-fp16, onnx-int8, torch (torch.export), encoder (timm, torchvision).
    formats: tuple[Format, ...] = ("onnx", "onnx-fp16", "onnx-int8", "torch", "encoder")
    # Prepared set to check on (its validation and test part) and to calibrate on (its training part).
    images: Path | None = None
    # Images that each file is checked on, at most.
    check: int = 256
    # Images that 8-bit integers are calibrated on, at most: a third for ranges, the others for what stays in float32.
    calibrate: int = 480
    # Test-time augmentation inside the files: auto is that of the run.
    tta: Literal["auto", "none", "flips", "turns"] = "auto"

    def __post_init__(self) -> None:
        if not self.formats:
            raise ValueError("--formats needs at least one of onnx, onnx-fp16, onnx-int8, torch, encoder")
        if self.check < 1 or self.calibrate < 1:
            raise ValueError("--check and --calibrate need at least one image each")
