"""One table with the records of a set and the measures of each picture, and their distribution by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from foveal.page.charts import Scale, outline
from foveal.page.render import render
from foveal.sets.records import PreparedSet

COLOURS = ("red", "green", "blue")
BLACK = 16  # of 255: a pixel with no channel above this is border
BYTES_AT_ONCE = 64 << 20
BINS = 48
MOST_ROWS = 12  # classes in one chart
FEWEST = 10  # images of a class; with fewer, no histogram
MOST_IN_ONE = 0.95  # share of the images in one bin, above which there is nothing to draw
OUTLIERS = 0.002  # share of the images at each end to clip, so that a single one does not squeeze the others
WIDTH, HEIGHT = 240, 26  # units of the drawing
MEANINGS = {
    "width": "px of the original", "height": "px of the original", "aspect ratio": "width over height",
    "border": "share of the frame outside the disc",
    **dict.fromkeys((*COLOURS, "grey"), "mean of the frame, 0 to 255"),
    "sharpness": "fine detail in the retina", "brightness": "of the retina, 0 to 1", "contrast": "in the retina",
    "dark": "share of the retina underexposed", "clipped": "share of the retina overexposed",
    "field": "share of the round field in the picture",
}  # fmt: skip


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
    seen = {number: _look(prepared.shards[number]) for number in sorted(set(prepared.records["shard"]))}
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


def charts(table: pd.DataFrame, classes: Sequence[str]) -> list[tuple[str, Markup]]:
    """(measure, drawing) for each measure that varies between images: a histogram per class, above each other."""
    names = [name for name in MEANINGS if name in table and _is_spread(table[name])]
    return [(name, _chart(table, name, classes)) for name in names]


def _is_spread(values: pd.Series) -> bool:
    """Whether a histogram would show more than one bar."""
    if values.nunique() < 2 or values.count() < FEWEST:
        return False
    counts = np.histogram(values.dropna(), BINS)[0]
    return bool(counts.max() < MOST_IN_ONE * counts.sum())


def _chart(table: pd.DataFrame, name: str, classes: Sequence[str]) -> Markup:
    values = table[name].dropna()
    low, high = np.quantile(values, [OUTLIERS, 1 - OUTLIERS])
    if low == high:
        low, high = values.min(), values.max()
    parts = [(label, values[table["label"].loc[values.index] == k]) for k, label in enumerate(classes)]
    parts = [(label, part) for label, part in parts if len(part) >= FEWEST][:MOST_ROWS]
    rows = []
    for label, part in parts if len(parts) > 1 else [("all images", values)]:
        clipped = part.to_numpy(float).clip(low, high)
        middle = float(np.median(clipped))
        path = outline(np.histogram(clipped, BINS, (low, high))[0], WIDTH, HEIGHT)
        rows.append({"name": label, "path": path, "median": _short(middle), "at": Scale(low, high, 0, WIDTH)(middle)})
    return render("spread.html", rows=rows, of=name, meaning=MEANINGS[name], low=_short(low), high=_short(high),
                  width=WIDTH, height=HEIGHT)  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
