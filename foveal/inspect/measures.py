"""One table with the records of a set and the measures of each picture."""

from __future__ import annotations

import numpy as np
import pandas as pd

from foveal.sets.records import PreparedSet

COLOURS = ("red", "green", "blue")
QUALITY = ("sharpness", "brightness", "contrast", "dark", "clipped", "field")
BLACK = 16  # of 255: a pixel with no channel above this is border
BYTES_AT_ONCE = 64 << 20


def described(prepared: PreparedSet) -> pd.DataFrame:
    """The records with all measures as numbers; nan if a measure is missing.

    Mean colours and border are those of the original frame. If the source has arrays instead of photographs, they come
    from the prepared pixels; grey images have one colour, `grey`.
    """
    measures = prepared.measures.drop(columns=["id", "fingerprint"], errors="ignore")
    numbers = measures.apply(pd.to_numeric, errors="coerce").set_index(prepared.records.index)
    table = prepared.records.join(numbers.loc[:, [name for name in numbers if name not in prepared.records]])
    table["aspect ratio"] = table["width"] / table["height"].clip(lower=1)
    if not {*COLOURS, "border"} <= set(table) or table[[*COLOURS, "border"]].isna().any(axis=None):
        table = _fill_from_pixels(prepared, table)
    return table


def _fill_from_pixels(prepared: PreparedSet, table: pd.DataFrame) -> pd.DataFrame:
    numbers = sorted(set(prepared.records["shard"]))
    seen = {number: _look(prepared.shards[number]) for number in numbers}
    places = zip(table["shard"], table["row"], strict=True)
    looks = np.array([seen[shard][row] for shard, row in places]).reshape(len(table), prepared.channels + 1)
    names = [*COLOURS, "border"] if prepared.channels == 3 else ["grey", "border"]
    for name, values in zip(names, looks.T, strict=True):
        table[name] = table[name].fillna(pd.Series(values, table.index)) if name in table else values
    return table


def _look(images: np.ndarray) -> np.ndarray:
    """float [n, C + 1] of uint8 [n, S, S, C]: mean of each channel, and the share of black pixels.

    Reads the shard in order, a piece at a time.
    """
    step = max(1, BYTES_AT_ONCE // images[0].nbytes)
    pieces = []
    for start in range(0, len(images), step):
        piece = np.asarray(images[start : start + step])
        black = (piece.max(axis=3) < BLACK).mean((1, 2))
        pieces.append(np.column_stack([piece.mean((1, 2), dtype=np.float32), black]))
    return np.concatenate(pieces)
