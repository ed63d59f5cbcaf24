"""The distribution of each measure by class: histograms above each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from foveal.inspect.measures import COLOURS, QUALITY
from foveal.page.charts import Scale, outline
from foveal.page.render import render

BINS = 48
MOST_ROWS = 12  # classes in one chart
FEWEST = 10  # images of a class; with fewer, no histogram
MOST_IN_ONE = 0.95  # share of the images in one bin, above which there is nothing to draw
OUTLIERS = 0.002  # share of the images at each end to clip, so that a single one does not squeeze the others
WIDTH, HEIGHT = 240, 26  # units of the drawing
MEANINGS = {
    "width": "px of the original",
    "height": "px of the original",
    "aspect ratio": "width over height",
    "border": "share of the frame outside the disc",
    **dict.fromkeys((*COLOURS, "grey"), "mean of the frame, 0 to 255"),
    "sharpness": "fine detail in the retina",
    "brightness": "of the retina, 0 to 1",
    "contrast": "in the retina",
    "dark": "share of the retina underexposed",
    "clipped": "share of the retina overexposed",
    "field": "share of the round field in the picture",
}
assert set(QUALITY) < set(MEANINGS)


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The histogram of one class: an SVG path, and the position of its median from 0 to WIDTH."""

    name: str
    path: str
    median_at: float
    median: str


def charts(table: pd.DataFrame, classes: Sequence[str]) -> list[tuple[str, Markup]]:
    """(measure, drawing) for each measure that varies between images: a histogram per class."""
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
    parts = parts if len(parts) > 1 else [("all images", values)]
    outlines = [_outline(label, part.to_numpy(float).clip(low, high), low, high) for label, part in parts]
    medians = "; ".join(f"{one.name} {one.median}" for one in outlines)
    return render("spread.html", outlines=outlines, meaning=MEANINGS[name], low=_short(low), high=_short(high),
                  width=WIDTH, height=HEIGHT, said=f"Distribution of {name} by class. Medians: {medians}.")  # fmt: skip


def _outline(name: str, values: np.ndarray, low: float, high: float) -> Outline:
    path = outline(np.histogram(values, BINS, (low, high))[0], WIDTH, HEIGHT)
    median = float(np.median(values))
    return Outline(name=name, path=path, median_at=Scale(low, high, 0, WIDTH)(median), median=_short(median))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
