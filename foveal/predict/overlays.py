"""Overlays: a picture per photograph of the places that speak for its answer, beside predictions.csv.

The maps are those of nets/looking.py; what such maps are worth, `foveal explain` measures.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveal.fundus.decode import decode
from foveal.fundus.overlay import overlay, retina_of, to_jpeg
from foveal.fundus.preparation import Prepared, locate
from foveal.predict.inputs import Photograph
from foveal.predict.model import Model, Read

SIDE = 1024  # px: least short side of a photograph under its map, where it has so many


def check_looks(model: Model) -> None:
    """ValueError where the model cannot tell which places spoke for its answer."""
    maps, _ = model.looks(model.blank(1))
    if maps is None:
        raise ValueError(
            f"--overlays: {model.name} gives no maps: they need one grader (RUN/fold1 of folds) whose head stands on "
            "the mean of its last map; use foveal explain with --method occlusion"
        )


def write_overlays(model: Model, batch: Sequence[Read], folder: Path) -> None:
    """FOLDER/NAME.jpg for each photograph of a batch that could be read."""
    folder.mkdir(parents=True, exist_ok=True)
    readable = [(photograph, result) for photograph, result in batch if isinstance(result, Prepared)]
    if not readable:
        return
    maps, _ = model.looks(np.stack([result.pixels for _, result in readable]))
    assert maps is not None
    for (photograph, result), heat in zip(readable, maps, strict=True):
        decoded = decode(photograph.source(), SIDE, name=photograph.id)
        frame, square = locate(decoded.pixels, model.preparation)
        picture = overlay(frame, square, heat, retina_of(result.square))
        (folder / f"{file_name(photograph)}.jpg").write_bytes(to_jpeg(picture))


def file_name(photograph: Photograph) -> str:
    """A name without folders that no other photograph has: that of the file, and the start of its id's digest."""
    stem = re.sub(r"[^\w.-]+", "_", Path(photograph.member or photograph.file.name).stem)[:80]
    return f"{stem}.{hashlib.sha256(photograph.id.encode()).hexdigest()[:8]}"
