"""Pictures to explain, from files, folders and prepared sets; the worst errors first if the grade is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.fundus.crop import Disc, whole_frame
from foveal.fundus.decode import decode
from foveal.fundus.header import MAXIMUM_PIXELS
from foveal.fundus.preparation import Preparation, Prepared, locate, prepare_file
from foveal.predict.inputs import Photograph
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import probability_columns
from foveal.sets.records import PreparedSet, open_prepared

WORST = 24  # pictures of a set: as many as the page shows


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture to explain.

    `pixels`: uint8 [S, S, C], as prepared for the grader. `original`: the photograph; None if only the prepared pixels
    exist. `file`: the name in the record or given by the user. `label`: class number, if known.
    """

    id: str
    file: str
    pixels: np.ndarray
    original: Photograph | None
    label: int | None = None

    def frame(self, preparation: Preparation) -> tuple[np.ndarray, Disc]:
        """The photograph in full resolution uint8 [h, w, 3], and the square in it that `pixels` show."""
        if self.original is not None:
            whole = decode(self.original.source(), MAXIMUM_PIXELS, name=self.original.id).pixels
            return whole, locate(whole, preparation)[1]
        size = len(self.pixels)
        return np.ascontiguousarray(np.broadcast_to(self.pixels, (size, size, 3))), whole_frame(size, size)


def from_photographs(photographs: Iterable[Photograph], predictor: Predictor) -> Iterator[Picture | None]:
    """The pictures, one at a time; warns about an unreadable one, which is None."""
    for photograph, result in predictor.read(photographs):
        if isinstance(result, Prepared):
            yield Picture(id=photograph.id, file=photograph.id, pixels=result.pixels, original=photograph)
        else:
            warn(f"{photograph.id} could not be read: {result}")
            yield None


def from_set(path: Path, split: str, predictor: Predictor) -> Iterator[Picture]:
    """The first `WORST` records of a part of a prepared set: worst errors first, then correct ones.

    Errors are sorted by the distance of the grades, then by the probability of the wrong grade.
    """
    prepared = open_prepared(path)
    records = prepared.records if split == "all" else prepared.part(split)
    if not len(records):
        raise FovealError("set.too_small", f"{path} has no images in the part '{split}'", fix="choose another --split")
    table = predictor.predict_prepared(prepared, records)
    order = worst_first(table)[:WORST]
    chosen, labels = records.iloc[order], table["label"].iloc[order]
    for row, label, pixels in zip(chosen.to_dict("records"), labels, prepared.pixels(chosen), strict=True):
        name, file, known = str(row["id"]), str(row["file"]), None if pd.isna(label) else int(label)
        original = _original(prepared, file, str(row["sha256"]), predictor.preparation)
        yield Picture(id=name, file=file, pixels=pixels, original=original, label=known)


def worst_first(table: pd.DataFrame) -> list[int]:
    """Row numbers of a table of predictions: worst errors first, correct and unlabelled images last."""
    distance = (table["grade"] - table["label"]).abs().fillna(0).astype(int).to_numpy()
    probability = table[probability_columns(table)].to_numpy(float)[np.arange(len(table)), table["grade"].to_numpy(int)]
    return [int(row) for row in np.lexsort((np.arange(len(table)), -probability * (distance > 0), -distance))]


def _original(prepared: PreparedSet, file: str, sha256: str, preparation: Preparation) -> Photograph | None:
    """The photograph of a record; None if it is gone or no longer gives the same pixels."""
    path = next((Path(root) / file for root in prepared.card.get("source", []) if (Path(root) / file).is_file()), None)
    if path is None:
        return None
    try:
        same = hashlib.sha256(prepare_file(path, preparation).pixels.tobytes()).hexdigest() == sha256
    except FovealError:
        same = False
    return Photograph.at(path) if same else None
