"""Options of `foveal export`; torch is not imported for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from foveal.errors import FovealError

Format = Literal["onnx", "onnx-fp16", "onnx-int8", "torch", "encoder"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of `foveal export`."""

    # Run folder that `foveal train` wrote; a run of folds becomes one file.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Folder to write; by default RUN/export. Files of an older export are replaced, other files stay.
    out: Path | None = None
    # What to write: onnx (float32), onnx-fp16, onnx-int8, torch (torch.export), encoder (timm, torchvision).
    formats: tuple[Format, ...] = ("onnx", "onnx-fp16", "onnx-int8", "torch", "encoder")
    # Prepared set to check on (its validation and test part) and to calibrate on (its training part).
    images: Path | None = None
    # Test-time augmentation inside the files: auto is that of the run.
    tta: Literal["auto", "none", "flips", "turns"] = "auto"

    def __post_init__(self) -> None:
        if not self.formats:
            raise FovealError("option.value", "--formats is empty", expected=f"some of {', '.join(get_args(Format))}")
