"""How each measure is spread over the images of every class, as outlines that the template draws in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foveal.inspect.measures import COLOURS, QUALITY

BINS = 48
MOST_ROWS = 12  # classes in one chart
FEWEST = 10  # images of a class, below which it has no outline
MOST_IN_ONE = 0.95  # share of the images in one bin, from which there is nothing to draw
WIDTH, HEIGHT = 240, 26  # units of the drawing
MEANINGS = {
    "width": "px of the original",
    "height": "px of the original",
    "aspect ratio": "width over height",
    "border": "share of the frame outside the disc",
    "red": "mean of the frame, 0 to 255",
    "green": "mean of the frame, 0 to 255",
    "blue": "mean of the frame, 0 to 255",
    "grey": "mean of the frame, 0 to 255",
    "sharpness": "fine detail in the retina",
    "brightness": "of the retina, 0 to 1",
    "contrast": "in the retina",
    "dark": "share of the retina underexposed",
    "clipped": "share of the retina overexposed",
    "field": "share of the round field in the picture",
}


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The spread of one class: an SVG path, and the place of its median from 0 to WIDTH."""

    name: str
    path: str
    median_at: float
    median: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One measure: an outline per class on one scale, which goes from `low` to `high`."""

    name: str
    meaning: str
    low: str
    high: str
    outlines: Sequence[Outline]

    def describe(self) -> str:
        """One sentence for those who cannot see the drawing."""
        medians = "; ".join(f"{outline.name} {outline.median}" for outline in self.outlines)
        return f"Distribution of {self.name} by class. Medians: {medians}."


def charts(table: pd.DataFrame, classes: Sequence[str]) -> list[Chart]:
    """A chart for each measure that is not the same for almost all images."""
    names = ["width", "height", "aspect ratio", "border", *COLOURS, "grey", *QUALITY]
    return [_chart(table, name, classes) for name in names if name in table and _is_spread(table[name])]


def _is_spread(values: pd.Series) -> bool:
    """True where a drawing would show more than one bar."""
    if values.nunique() < 2 or values.count() < FEWEST:
        return False
    counts = np.histogram(values.dropna(), BINS)[0]
    return bool(counts.max() < MOST_IN_ONE * counts.sum())


def _chart(table: pd.DataFrame, name: str, classes: Sequence[str]) -> Chart:
    values = table[name].dropna()
    low, high = np.quantile(values, [0.002, 0.998])  # a single outlier must not squeeze all others together
    if low == high:
        low, high = values.min(), values.max()
    edges = np.linspace(low, high, BINS + 1)
    parts = [(label, values[table["label"].loc[values.index] == k]) for k, label in enumerate(classes)]
    parts = [(label, part) for label, part in parts if len(part) >= FEWEST][:MOST_ROWS]
    if len(parts) < 2:
        parts = [("all images", values)]
    outlines = [_outline(label, part.to_numpy(float), edges) for label, part in parts]
    return Chart(name=name, meaning=MEANINGS[name], low=_short(low), high=_short(high), outlines=outlines)


def _outline(name: str, values: np.ndarray, edges: np.ndarray) -> Outline:
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    tops = HEIGHT - 1 - (HEIGHT - 3) * counts / counts.max()
    x = np.linspace(0, WIDTH, len(edges))
    steps = "".join(f"V{top:.1f}H{right:.1f}" for top, right in zip(tops, x[1:], strict=True))
    median = float(np.median(values))
    place = float(np.clip((median - edges[0]) / (edges[-1] - edges[0]), 0, 1)) * WIDTH
    return Outline(name=name, path=f"M0 {HEIGHT - 1}{steps}V{HEIGHT - 1}Z", median_at=place, median=_short(median))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
