"""The embedding map: every image a point, near to those that the encoder takes for alike; drawn as inline SVG.

Classes differ in colour and in shape; images that the grader has learned from are hollow, the others filled. Each point
names its image when the pointer rests on it, so no script is needed; a stop of the keyboard at each of a thousand
points would help nobody, so maps.csv is named beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from foveal.page.parts import Table, cells
from foveal.page.words import counted
from foveal.report.clusters import agreement
from foveal.report.companions import whole
from foveal.report.evidence import Evidence

KINDS = {"umap": "UMAP", "tsne": "t-SNE", "pca": "Principal components"}
MOST_POINTS = 1500  # on one map; more would be a blot, and a heavy page
MOST_CLUSTERS = 20
MOST_COLOURS = 6
SIDE, EDGE = 400, 12  # units of the drawing
FLATTEST = 0.5  # height of a drawing as a share of its width, at least
# Outlines around (0, 0), equally large to the eye; the dot stands for images without a class.
OUTLINES = ("circle", "square", "triangle", "diamond", "bar", "cross")
PATHS = {
    "circle": "m-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z", "square": "m-3.2-3.2h6.4v6.4h-6.4z",
    "triangle": "m0-4.2 4 7h-8z", "diamond": "m0-4.5 3.6 4.5-3.6 4.5-3.6-4.5z", "bar": "m-1.6-4.4h3.2v8.8h-3.2z",
    "cross": "m-1.2-4h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z",
    "dot": "m-1.6 0a1.6 1.6 0 1 0 3.2 0a1.6 1.6 0 1 0-3.2 0z",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How the images of one class are drawn."""

    name: str
    colour: str
    outline: str
    path: str
    count: int


def map_part(run: Evidence, most: int = MOST_POINTS) -> dict[str, Any] | None:
    """Drawings of at most `most` points, legend and clusters; None where no map was made."""
    table = run.companions.maps
    if table is None or not len(table):
        return None
    shown = table if len(table) <= most else table.iloc[np.linspace(0, len(table) - 1, most).astype(int)]
    labels = [_class_of(run, value) for value in shown["label"]]
    kinds = _kinds(run, labels)
    text = f"{counted(len(table), 'image')} as the encoder sees them, each drawn as its true class"
    if len(shown) < len(table):
        text += f"; {len(shown):,} of them, evenly chosen, are drawn"
    drawings = [
        {"title": title, "svg": drawn}
        for key, title in KINDS.items() if (drawn := _draw(shown, key, title, labels, kinds)) is not None
    ]  # fmt: skip
    return {
        "sentence": f"{text}.", "drawings": drawings, "kinds": kinds, "clusters": _clusters(run, table),
        "learned": _learned_counts(shown), "agreement": agreement(run.companions.clustered),
    }  # fmt: skip


def _learned(table: pd.DataFrame) -> pd.Series:
    """bool [n]: the images that the network has learned from; none where the table does not tell."""
    return table["learned"] == "1" if "learned" in table else pd.Series(False, index=table.index)


def _learned_counts(table: pd.DataFrame) -> list[tuple[str, str, int]]:
    """(what, class of its mark, how many) for the legend; empty where the table does not tell, or all are alike."""
    learned = int(_learned(table).sum())
    if learned in (0, len(table)):
        return []
    return [("learned from", "hollow", learned), ("not learned from", "", len(table) - learned)]


def _class_of(run: Evidence, value: Any) -> str:
    label = whole(value)
    return run.classes[label] if label is not None and 0 <= label < len(run.classes) else "no label"


def _kinds(run: Evidence, labels: Sequence[str]) -> list[Kind]:
    kinds = []
    for k, name in enumerate(run.classes):
        if count := labels.count(name):
            outline = OUTLINES[(k + k // MOST_COLOURS) % len(OUTLINES)]  # no two alike among 36
            colour = f"series-{k % MOST_COLOURS + 1}"
            kinds.append(Kind(name=name, colour=colour, outline=outline, path=PATHS[outline], count=count))
    if count := labels.count("no label"):
        kinds.append(Kind(name="no label", colour="muted", outline="dot", path=PATHS["dot"], count=count))
    return kinds


def _draw(table: pd.DataFrame, key: str, title: str, labels: Sequence[str], kinds: Sequence[Kind]) -> Markup | None:
    """The map as <svg>; None where the table has no such places."""
    if f"{key}_x" not in table or f"{key}_y" not in table:
        return None
    places = table[[f"{key}_x", f"{key}_y"]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    there = np.isfinite(places).all(1)
    if there.sum() < 2:
        return None
    scaled, height = _scaled(places, there)
    names, clusters, learned = list(table["id"]), list(table["cluster"]), list(_learned(table))
    groups = []
    for kind in sorted(kinds, key=lambda kind: -kind.count):  # rare classes on top of common ones
        points = [
            Markup('<path{} d="M{:.1f} {:.1f}{}"><title>{}: {}{}{}</title></path>').format(
                Markup(' class="hollow"') if learned[k] else "",
                *scaled[k],
                kind.path,
                names[k],
                labels[k],
                f", cluster {clusters[k]}" if clusters[k] != "" else "",
                ", learned from" if learned[k] else "",
            )
            for k in map(int, np.flatnonzero(there))
            if labels[k] == kind.name
        ]
        groups.append(Markup('<g class="{}">{}</g>').format(kind.colour, Markup("").join(points)))
    said = f"{title}: {counted(int(there.sum()), 'image')} laid out by likeness; the table of clusters has the numbers."
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(SIDE, height, said)
    return head + Markup("").join(groups) + Markup("</svg>")


def _scaled(places: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, int]:
    """The places in units of the drawing, both axes on one scale, and the height that the drawing needs."""
    low, high = places[there].min(0), places[there].max(0)
    span = float(max(high - low)) or 1.0
    inner = SIDE - 2 * EDGE
    height = round(2 * EDGE + inner * max(FLATTEST, min(1.0, float(high[1] - low[1]) / span)))
    flipped = (places - (low + high) / 2) / span * np.array([1, -1]) * inner
    return flipped + np.array([SIDE / 2, height / 2]), height


def _clusters(run: Evidence, table: pd.DataFrame) -> Table | None:
    """How many images of each class stand in each cluster."""
    known = table[table["cluster"] != ""]
    if not len(known):
        return None
    labels = pd.Series([_class_of(run, value) for value in known["label"]], index=known.index)
    counts = pd.crosstab(known["cluster"], labels)
    columns = [name for name in (*run.classes, "no label") if name in counts]
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    rows = [cells(f"cluster {name}", f"{counts.loc[name].sum():,}", *(f"{counts.loc[name, own]:,}" for own in columns))
            for name in order[:MOST_CLUSTERS]]  # fmt: skip
    left = len(order) - MOST_CLUSTERS
    notes = [f"{left} smaller clusters are left out; cluster/maps.csv has all."] if left > 0 else []
    return Table(columns=["cluster", "images", *columns], rows=rows, notes=notes)
