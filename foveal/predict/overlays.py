"""Overlays: a picture of each photograph that highlights the places that support its grade.

The maps come from nets/looking.py; `foveal explain` measures how reliable such maps are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveal.errors import FovealError
from foveal.files import write_bytes
from foveal.fundus.decode import decode
from foveal.fundus.overlay import overlay, retina_of, to_jpeg
from foveal.fundus.preparation import Prepared, locate
from foveal.predict.inputs import Photograph
from foveal.predict.model import Model, Read

SIDE = 1024  # px: short side to decode photographs to, if they are large enough


def check_maps(model: Model) -> None:
    """FovealError if the model cannot compute maps."""
    if not model.has_maps:
        raise FovealError(
            "run.no_maps", f"--overlays: {model.name} cannot compute maps",
            expected="a single grader (such as RUN/fold1) whose head uses the mean of the last feature map",
            fix="use foveal explain with --method occlusion",
        )  # fmt: skip


def write_overlays(model: Model, batch: Sequence[Read], maps: np.ndarray | None, folder: Path) -> None:
    """Write FOLDER/NAME.jpg for each readable photograph of a batch; maps: [n, h, w] from `answer_batch`."""
    folder.mkdir(parents=True, exist_ok=True)
    readable = [(photograph, result) for photograph, result in batch if isinstance(result, Prepared)]
    for (photograph, result), heat in zip(readable, [] if maps is None else maps, strict=True):
        decoded = decode(photograph.source(), SIDE, name=photograph.id)
        frame, square = locate(decoded.pixels, model.preparation)
        picture = overlay(frame, square, heat, retina_of(result.square))
        write_bytes(folder / f"{file_name(photograph)}.jpg", to_jpeg(picture))


def file_name(photograph: Photograph) -> str:
    """A unique name without folders: the name of the file, and the start of a digest of its id."""
    stem = re.sub(r"[^\w.-]+", "_", Path(photograph.member or photograph.file.name).stem)[:80]
    return f"{stem}.{hashlib.sha256(photograph.id.encode()).hexdigest()[:8]}"
