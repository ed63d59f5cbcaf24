"""Pictures as part of a page, so that the page is one file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIDE = 128  # pixels of a thumbnail; smaller pictures stay as they are
QUALITY = 82
FILE_QUALITY = 85


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """One small picture: its data: address, its id and a line below it."""

    source: str
    id: str
    line: str = ""


def embedded_file(file: Path, side: int) -> str:
    """The data: address of a JPEG, scaled down where its longer side has more than `side` pixels."""
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        if max(picture.size) > side or picture.format != "JPEG":
            smaller = picture.convert("RGB")
            smaller.thumbnail((side, side))
            stream = io.BytesIO()
            smaller.save(stream, "JPEG", quality=FILE_QUALITY)
            data = stream.getvalue()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def embedded(picture: np.ndarray) -> str:
    """The data: address of uint8 [S, S, C], as a JPEG of at most SIDE px."""
    if len(picture) > SIDE:
        picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(SIDE, SIDE, -1)
    colour = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.shape[2] == 3 else picture
    encoded = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
