"""Pictures embedded in a page, so that the page is a single file."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

THUMBNAIL = 128  # pixels of the longer side
QUALITY = 85


def data_address(data: bytes, kind: str = "jpeg") -> str:
    """The data: URL of an encoded picture; kind: "jpeg" or "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def embedded(pixels: np.ndarray, side: int = THUMBNAIL) -> str:
    """The data: URL of uint8 [H, W, 1 or 3] as a JPEG, at most `side` pixels on its longer side."""
    return data_address(_jpeg(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), side))


def embedded_file(file: Path, side: int) -> str:
    """The data: URL of a picture file, a small JPEG unchanged; OSError if Pillow cannot read it."""
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        return data_address(data if max(picture.size) <= side and picture.format == "JPEG" else _jpeg(picture, side))


def _jpeg(picture: Image.Image, side: int) -> bytes:
    smaller = picture if picture.mode == "L" else picture.convert("RGB")
    smaller.thumbnail((side, side), Image.Resampling.BOX if max(picture.size) > 2 * side else Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    smaller.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
