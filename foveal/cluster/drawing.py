"""Maps as SVG: a dot per image whose colour the reader chooses, by label, cluster, set, part or quality flag.

Dots are drawn in random order: in the order of the classes, the last one would hide all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foveal.cluster.images import Images
from foveal.cluster.maps import NAMES, Map
from foveal.page.parts import SPLITS

SIDE, MARGIN = 600, 10  # units of the drawing
MOST_KINDS = 12  # colours that can be told apart, just; the commonest kinds get them
# Of middle lightness, so that they show on white and on black. Hues after Okabe & Ito 2008, with six more.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b98500", "#56b4e9",
           "#7a5fc7", "#8f8f00", "#c2255c", "#1a9c9c", "#9c6b4e", "#7d8590")  # fmt: skip
RAMP = ("#3a7bd5", "#17a398", "#c79a00", "#e0662b", "#c2255c")  # ordered grades, from the lowest to the highest
MUTED = ("no label", "no flag", "others")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One colour of a colouring: the class of its dots, its name, how many there are, and its colour."""

    mark: str
    name: str
    count: int
    colour: str

    @property
    def muted(self) -> bool:
        """True for what must not stand out: images of which the colouring says nothing."""
        return self.name in MUTED


@dataclass(frozen=True, kw_only=True)
class Colouring:
    """One choice of colours: `marks` [n] is the class of each image's dot."""

    key: str
    title: str
    kinds: Sequence[Kind]
    marks: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One map: `dots` are (x, y, classes of the dot, position in the list of images on the page)."""

    name: str
    caption: str
    dots: Sequence[tuple[str, str, str, int]]

    def describe(self) -> str:
        """One sentence for those who cannot see the drawing."""
        return f"{self.name} map of {len(self.dots):,} images. {self.caption}"


def colourings(images: Images, clusters: np.ndarray) -> list[Colouring]:
    """Every colouring that has more than one kind; the labels first."""
    table, labels = images.table, images.labels
    names = [name for k, name in enumerate(images.classes) if (labels == k).any()]
    colours = ramp(len(images.classes)) if images.ordered else None
    by_label = _colouring("label", "grade" if images.ordered else "class",
                          pd.Series([images.name(k) for k in labels]), [*names, "no label"])  # fmt: skip
    if colours is not None:
        of = dict(zip(images.classes, colours, strict=True))
        by_label = _recoloured(by_label, of)
    flags = pd.Series([words.split()[0] if words.split() else "no flag" for words in table["flags"]])
    others = [
        _colouring("cluster", "cluster", pd.Series(clusters + 1).astype(str)),
        _colouring("source", "prepared set", table["source"], list(dict.fromkeys(table["source"]))),
        _colouring("split", "part", table["split"].map(SPLITS), list(SPLITS.values())),
        _colouring("flag", "quality flag", flags, ["no flag"]),
    ]
    return [one for one in (by_label, *others) if len(one.kinds) > 1]


def ramp(count: int) -> list[str]:
    """`count` colours from low to high, evenly spaced along the ramp."""
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in RAMP], float)
    places = np.linspace(0, len(stops) - 1, count)
    mixed = np.column_stack([np.interp(places, np.arange(len(stops)), stops[:, c]) for c in range(3)])
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in mixed.round().astype(int)]


def _colouring(key: str, title: str, values: pd.Series, order: Sequence[str] = ()) -> Colouring:
    """A kind for each value, those in `order` first; the rarest share one where there are too many."""
    counts = values.value_counts()
    numbers = sorted((str(name) for name in counts.index if name not in order), key=lambda name: (len(name), name))
    found = [name for name in order if name in counts.index] + numbers
    if len(found) > MOST_KINDS:
        common = set(counts.index[: MOST_KINDS - 1])
        values = values.where(values.isin(common), "others")
        found = [name for name in found if name in common] + ["others"]
    counts = values.value_counts()
    colour = iter(PALETTE)
    kinds = [
        Kind(mark=f"{key}-{n}", name=name, count=int(counts[name]),
             colour="var(--muted)" if name in MUTED else next(colour))
        for n, name in enumerate(found)
    ]  # fmt: skip
    marks = values.map({kind.name: kind.mark for kind in kinds}).to_numpy()
    return Colouring(key=key, title=title, kinds=kinds, marks=marks)


def _recoloured(one: Colouring, colours: dict[str, str]) -> Colouring:
    kinds = [Kind(mark=kind.mark, name=kind.name, count=kind.count, colour=colours.get(kind.name, kind.colour))
             for kind in one.kinds]  # fmt: skip
    return Colouring(key=one.key, title=one.title, kinds=kinds, marks=one.marks)


def drawings(maps: Sequence[Map], colours: Sequence[Colouring], variance: np.ndarray, seed: int) -> list[Drawing]:
    """Every map as dots, the same random order in all."""
    order = np.random.default_rng(seed).permutation(len(maps[0].rows))
    marks = [" ".join(parts) for parts in zip(*(one.marks for one in colours), strict=True)]
    return [_drawing(one, marks, order, variance) for one in maps]


def _drawing(one: Map, marks: Sequence[str], order: np.ndarray, variance: np.ndarray) -> Drawing:
    low, high = np.quantile(one.places, [0.002, 0.998], axis=0)  # one outlier must not squeeze all others together
    span = float(max(high - low)) or 1.0  # one scale for both axes
    middle = (low + high) / 2
    places = np.clip((one.places - middle) / span + 0.5, 0, 1) * (SIDE - 2 * MARGIN) + MARGIN
    dots = [(f"{places[n, 0]:.1f}", f"{SIDE - places[n, 1]:.1f}", marks[one.rows[n]], int(n)) for n in order]
    return Drawing(name=NAMES[one.name], caption=_caption(one, variance), dots=dots)


def _caption(one: Map, variance: np.ndarray) -> str:
    if one.name == "pca":
        return f"The two axes hold {variance[:2].sum():.0%} of the variance, the rest is not to be seen."
    return f"Keeps {one.kept:.0%} of the nearest neighbours; axes and distances have no unit."


def points(images: Images, rows: np.ndarray, clusters: np.ndarray, pictures: dict[int, str]) -> list[list[Any]]:
    """What the page says of each dot: id, label, cluster, set, part, flags, picture ("" where it has none)."""
    part = images.table.iloc[rows]
    columns = zip(part["id"], images.labels[rows], clusters[rows] + 1, part["source"], part["split"], part["flags"],
                  rows, strict=True)  # fmt: skip
    return [
        [name, images.name(label), int(cluster), source, SPLITS[split], flags, pictures.get(int(row), "")]
        for name, label, cluster, source, split, flags, row in columns
    ]
