"""Small pictures of single images: from the prepared set where it still lies, else from what the run holds itself.

A report needs run folders only, so an image that neither holds is shown without a picture.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from foveal.fundus.overlay import to_jpeg
from foveal.page.pictures import embedded_file
from foveal.report.evidence import Evidence, started_in
from foveal.report.pictures import picture_of
from foveal.sets.records import PreparedSet, open_prepared

SIDE = 96  # px: some 3 KB each


def thumbnails(run: Evidence, names: Sequence[str]) -> dict[str, str]:
    """Image id -> data: address of a JPEG at most 96 px wide, of those that are found."""
    prepared = _prepared_of(run)
    found: dict[str, str] = {} if prepared is None else _from_set(prepared, names)
    for name in names:
        file = None if name in found else picture_of(run, name)
        if file is not None:
            found[name] = embedded_file(file, SIDE)
    return found


def _prepared_of(run: Evidence) -> PreparedSet | None:
    """The set that the run learned from; None where it is gone, or another stands in its place."""
    folder = started_in(run) / str(run.options.get("data", ""))
    if not (folder / "card.json").is_file():
        return None
    try:
        prepared = open_prepared(folder)
    except ValueError:  # it is being made again, or is damaged: the report is not about that
        return None
    return prepared if prepared.card["identity"] == run.card.get("identity") else None


def _from_set(prepared: PreparedSet, names: Sequence[str]) -> dict[str, str]:
    records = prepared.records[prepared.records["id"].isin(names)]
    pictures = prepared.pixels(records)
    return {str(name): _small(pixels) for name, pixels in zip(records["id"], pictures, strict=True)}


def _small(pixels: np.ndarray) -> str:
    side = min(SIDE, len(pixels))
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA).reshape(side, side, -1)
    colour = np.ascontiguousarray(np.broadcast_to(small, (side, side, 3)))
    return "data:image/jpeg;base64," + base64.b64encode(to_jpeg(colour)).decode("ascii")
