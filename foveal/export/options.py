"""Options of `foveal export`; torch is not imported for them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from foveal.errors import FovealError

Format = Literal["onnx", "onnx-fp16", "torch", "encoder"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of `foveal export`."""

    # Run folder of `foveal train`; a run of folds is exported as one ensemble.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Folder to write; by default RUN/export. Files of an earlier export are overwritten, other files are kept.
    out: Path | None = None
    # Formats to write: onnx (float32), onnx-fp16, torch (torch.export), encoder (for timm).
    formats: tuple[Format, ...] = ("onnx", "onnx-fp16", "torch", "encoder")
    # Prepared set whose validation and test images the files are checked on; by default that of RUN.
    images: Path | None = None
    # Test-time augmentation: average over 4 flips, or over 8 flips and quarter turns; auto is as in the run.
    tta: Literal["auto", "none", "flips", "turns"] = "auto"

    def __post_init__(self) -> None:
        if not self.formats:
            raise FovealError("option.value", "--formats is empty", expected=f"some of {', '.join(get_args(Format))}")
