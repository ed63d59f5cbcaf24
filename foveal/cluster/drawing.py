"""Maps as SVG: one dot per image. The reader chooses the colours: by label, cluster, set, part or quality flag.

Dots are drawn in random order. In class order, the last class would hide the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from foveal.cluster.images import Images
from foveal.cluster.maps import NAMES, Map
from foveal.page.charts import fitted, svg
from foveal.page.parts import SPLITS

SIDE, MARGIN, RADIUS = 600, 10, 3.2  # units of the drawing
OUTLIERS = 0.002  # share of the images at each end that are moved to the edge
MOST_KINDS = 12  # most colours that a reader can tell apart; the most common kinds get them
# Medium lightness, visible on white and on black. Hues after Okabe & Ito 2008, and six more.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b98500", "#56b4e9",
           "#7a5fc7", "#8f8f00", "#c2255c", "#1a9c9c", "#9c6b4e", "#7d8590")  # fmt: skip
RAMP = ("#3a7bd5", "#17a398", "#c79a00", "#e0662b", "#c2255c")  # ordered grades, from the lowest to the highest
MUTED = ("no label", "no flag", "others")  # kinds that must not stand out


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One colour of a colouring: the CSS class of its dots, its name, its number of images, and its colour."""

    mark: str
    name: str
    count: int
    colour: str

    @property
    def muted(self) -> bool:
        """True for images without a value in this colouring."""
        return self.name in MUTED


@dataclass(frozen=True, kw_only=True)
class Colouring:
    """One choice of colours: `marks` [n] is the CSS class of the dot of each image."""

    key: str
    title: str
    kinds: Sequence[Kind]
    marks: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One map as <svg>: a circle per image, with its CSS classes and its position in the page's list of points."""

    name: str
    caption: str
    svg: Markup


def colourings(images: Images, clusters: np.ndarray) -> list[Colouring]:
    """Every colouring with more than one kind; labels first."""
    table, classes = images.table, images.classes
    flags = pd.Series([words.split()[0] if words.split() else "no flag" for words in table["flags"]])
    grades = dict(zip(classes, ramp(len(classes)), strict=True)) if images.ordered else {}
    found = [
        _colouring("label", "grade" if images.ordered else "class", pd.Series(map(images.name, images.labels)),
                   [*classes, "no label"], grades),
        _colouring("cluster", "cluster", pd.Series(clusters + 1).astype(str)),
        _colouring("source", "prepared set", table["source"], list(dict.fromkeys(table["source"]))),
        _colouring("split", "part", table["split"].map(SPLITS), list(SPLITS.values())),
        _colouring("flag", "quality flag", flags, ["no flag"]),
    ]  # fmt: skip
    return [one for one in found if len(one.kinds) > 1]


def ramp(count: int) -> list[str]:
    """`count` colours from low to high, evenly spaced along the ramp."""
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in RAMP], float)
    places = np.linspace(0, len(stops) - 1, count)
    mixed = np.column_stack([np.interp(places, np.arange(len(stops)), stops[:, c]) for c in range(3)])
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in mixed.round().astype(int)]


def _colouring(
    key: str, title: str, values: pd.Series, order: Sequence[str] = (), colours: Mapping[str, str] | None = None
) -> Colouring:
    """A kind for each value, those in `order` first; if there are too many, the rarest share one."""
    counts = values.value_counts()
    numbers = sorted((str(name) for name in counts.index if name not in order), key=lambda name: (len(name), name))
    found = [name for name in order if name in counts.index] + numbers
    if len(found) > MOST_KINDS:
        common = set(counts.index[: MOST_KINDS - 1])
        values = values.where(values.isin(common), "others")
        found = [name for name in found if name in common] + ["others"]
    counts, free = values.value_counts(), iter(PALETTE)
    own = {name: "var(--muted)" for name in MUTED} | dict(colours or {})
    kinds = [
        Kind(mark=f"{key}-{n}", name=name, count=int(counts[name]), colour=own[name] if name in own else next(free))
        for n, name in enumerate(found)
    ]
    marks = values.map({kind.name: kind.mark for kind in kinds}).to_numpy()
    return Colouring(key=key, title=title, kinds=kinds, marks=marks)


def drawings(maps: Sequence[Map], colours: Sequence[Colouring], variance: np.ndarray, seed: int) -> list[Drawing]:
    """Every map as dots, in the same random order."""
    order = np.random.default_rng(seed).permutation(len(maps[0].rows))
    marks = [" ".join(one.marks[row] for one in colours) for row in maps[0].rows]
    return [_drawing(one, marks, order, variance) for one in maps]


def _drawing(one: Map, marks: Sequence[str], order: np.ndarray, variance: np.ndarray) -> Drawing:
    places, height = fitted(one.places, SIDE, MARGIN, outliers=OUTLIERS)
    circle = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" class="{}" data-n="{}"/>')
    dots = [circle.format(*places[n], RADIUS, marks[n], n) for n in order]
    name, caption = NAMES[one.name], _caption(one, variance)
    return Drawing(name=name, caption=caption, svg=svg(SIDE, height, f"{name} map of {len(dots):,} images.", dots))


def _caption(one: Map, variance: np.ndarray) -> str:
    if one.name == "pca":
        return f"The two axes show {variance[:2].sum():.0%} of the variance."
    return f"Keeps {one.kept:.0%} of the nearest neighbours. The axes and distances have no unit."


def points(images: Images, rows: np.ndarray, clusters: np.ndarray, pictures: Mapping[int, str]) -> list[list[Any]]:
    """What the page shows for each dot: id, label, cluster, set, part, flags, picture ("" if it has none)."""
    part = images.table.iloc[rows]
    columns = zip(part["id"], images.labels[rows], clusters[rows] + 1, part["source"], part["split"], part["flags"],
                  rows, strict=True)  # fmt: skip
    return [
        [name, images.name(label), int(cluster), source, SPLITS[split], flags, pictures.get(int(row), "")]
        for name, label, cluster, source, split, flags, row in columns
    ]
