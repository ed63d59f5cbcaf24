"""Pictures to explain: from files, folders and prepared sets, the worst mistakes first where the grade is known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.errors import FovealError
from foveal.explain.geometry import square_of
from foveal.fundus.crop import Disc, whole_frame
from foveal.fundus.decode import decode
from foveal.fundus.header import MAXIMUM_PIXELS
from foveal.fundus.preparation import Preparation, prepare_file
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import probability_columns
from foveal.sets.records import PreparedSet, open_prepared


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture to explain.

    `pixels`: uint8 [S, S, C], as the grader gets them. `original`: the photograph's file; None where only the prepared
    pixels are left. `file`: as the record or the user names it. `label`: class number, where known.
    """

    id: str
    file: str
    pixels: np.ndarray
    original: Path | None
    label: int | None = None

    def frame(self, preparation: Preparation) -> tuple[np.ndarray, Disc]:
        """The photograph in full resolution uint8 [h, w, 3], and the square of it that `pixels` show."""
        if self.original is not None:
            whole = decode(self.original, MAXIMUM_PIXELS).pixels
            return whole, square_of(whole, preparation)
        size = len(self.pixels)
        return np.ascontiguousarray(np.broadcast_to(self.pixels, (size, size, 3))), whole_frame(size, size)


def from_files(files: list[Path], preparation: Preparation) -> tuple[list[Picture], list[tuple[Path, str]]]:
    """(pictures, [(file, why it could not be read)])."""
    pictures, failed = [], []
    for file in files:
        try:
            pixels = prepare_file(file, preparation).pixels
        except FovealError as error:
            failed.append((file, str(error)))
            continue
        pictures.append(Picture(id=file.as_posix(), file=file.as_posix(), pixels=pixels, original=file))
    return pictures, failed


def from_set(path: Path, split: str, limit: int, predictor: Predictor) -> list[Picture]:
    """The first `limit` records of a part of a prepared set, worst mistakes first; all for 0.

    Worst is the largest distance of grades, then the largest probability of the wrong one. The right ones follow.
    """
    prepared = open_prepared(path)
    records = prepared.records if split == "all" else prepared.part(split)
    if not len(records):
        raise ValueError(f"{path} has no images in its part '{split}'; choose another --split")
    table = predictor.predict_prepared(prepared, records)
    order = worst_first(table)[: limit or len(table)]
    chosen, labels = records.iloc[order], table["label"].iloc[order]
    pictures = []
    for row, label, pixels in zip(chosen.to_dict("records"), labels, prepared.pixels(chosen), strict=True):
        original = _original(prepared, str(row["file"]), str(row["sha256"]), predictor.preparation)
        known = None if pd.isna(label) else int(label)
        pictures.append(
            Picture(id=str(row["id"]), file=str(row["file"]), pixels=pixels, original=original, label=known)
        )
    return pictures


def worst_first(table: pd.DataFrame) -> list[int]:
    """Row numbers of a table of predictions: the greatest mistakes first, right and unlabelled ones last."""
    distance = (table["grade"] - table["label"]).abs().fillna(0).astype(int).to_numpy()
    probability = table[probability_columns(table)].to_numpy(float)[np.arange(len(table)), table["grade"].to_numpy(int)]
    return [int(row) for row in np.lexsort((np.arange(len(table)), -probability * (distance > 0), -distance))]


def _original(prepared: PreparedSet, file: str, sha256: str, preparation: Preparation) -> Path | None:
    """The photograph that a record came from, where it is still there and still gives the record's pixels."""
    for root in prepared.card.get("source", []):
        path = Path(root) / file
        if path.is_file():
            try:
                same = hashlib.sha256(prepare_file(path, preparation).pixels.tobytes()).hexdigest() == sha256
            except FovealError:
                same = False
            return path if same else None
    return None
