"""The embedding map: one point per image, near the images that the encoder finds similar. Drawn as inline SVG.

Classes differ in colour and shape. Training images are hollow, the others filled. A tooltip shows the name of each
image; it needs no script. The page points keyboard users to maps.csv: nobody can step through a thousand points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from foveal.page.charts import COLOURS, SHAPES, Key, fitted, series, svg
from foveal.page.parts import (
    Cell,
    Details,
    Drawings,
    Legend,
    Part,
    Section,
    Table,
    cells,
    muted,
    section_by_run,
    value_cell,
)  # fmt: skip
from foveal.page.words import counted, number
from foveal.report.evidence import Evidence

KINDS = {"umap": "UMAP", "tsne": "t-SNE", "pca": "Principal components"}
MOST_POINTS = 1500  # on one map; with more, points overlap and the page gets large
MOST_CLUSTERS = 20
SIDE, EDGE = 400, 12  # units of the drawing
FLATTEST = 0.5  # height of a drawing as a share of its width, at least
OUTLINES = ("circle", "square", "triangle", "diamond", "bar", "cross")  # the dot is for images without a label
MEASURES = {"accuracy": "matched accuracy", "purity": "purity", "nmi": "mutual information", "ari": "adjusted Rand"}
INTRO = (
    "Images that the encoder finds similar are close to each other. Distances between far groups mean little, and a "
    "cluster "
    "need not be a disease: it may be a camera. Hover over a point to see the name of the image; cluster/maps.csv in "
    "the "
    "run folder lists all images with their coordinates."
)


def embedding_map(graders: Sequence[Evidence], most: int = MOST_POINTS) -> Section | None:
    """Maps of at most `most` points, and the clusters; None if no map was made."""
    runs = [(run.name, _parts(run, most)) for run in graders]
    return section_by_run("map", "Embedding map", runs, intro=[INTRO], short="Map")


def _parts(run: Evidence, most: int) -> list[Part]:
    table = run.companions.maps
    if table is None or not len(table):
        return []
    table = table.assign(name=[run.class_name(value) for value in table["label"]], hollow=_learned(table))
    shown = table if len(table) <= most else table.iloc[np.linspace(0, len(table) - 1, most).astype(int)]
    text = f"{counted(len(table), 'image')}, each marked by its true class"
    text += f"; the map shows {len(shown):,} of them, evenly spaced in the list." if len(shown) < len(table) else "."
    keys = _keys(run, shown)
    drawn = [(title, drawing) for kind, title in KINDS.items() if (drawing := _draw(shown, kind, title, keys))]
    parts: list[Part] = [text, Legend([*_counted(keys, shown), *_learned_keys(shown)]), Drawings(drawn, "scatter")]
    scores, clusters = _scores(run.companions.clustered), _clusters(run, table)
    parts += [] if scores is None else [scores]
    return parts if clusters is None else [*parts, Details("Clusters and classes in numbers", [clusters])]


def _learned(table: pd.DataFrame) -> pd.Series:
    """bool [n]: the images that the network learned from; all False if the table does not tell."""
    return table["learned"] == "1" if "learned" in table else pd.Series(False, index=table.index)


def _keys(run: Evidence, shown: pd.DataFrame) -> list[Key]:
    """Colour and shape of every class on the map; up to 36 classes all look different."""
    drawn = set(shown["name"])
    keys = [Key(label=name, look=series(k), shape=OUTLINES[(k + k // COLOURS) % len(OUTLINES)])
            for k, name in enumerate(run.classes) if name in drawn]  # fmt: skip
    return [*keys, Key(label="no label", look="muted", shape="dot")] if "no label" in drawn else keys


def _counted(keys: Sequence[Key], shown: pd.DataFrame) -> list[Key]:
    counts = shown["name"].value_counts()
    return [replace(key, label=f"{key.label} ({counts[key.label]:,})") for key in keys]


def _learned_keys(shown: pd.DataFrame) -> list[Key]:
    """Legend keys for hollow and filled points; none if all points are of one kind."""
    hollow = int(shown["hollow"].sum())
    if hollow in (0, len(shown)):
        return []
    return [Key(label=f"learned from ({hollow:,})", look="muted hollow", shape="circle"),
            Key(label=f"not learned from ({len(shown) - hollow:,})", look="muted", shape="circle")]  # fmt: skip


def _draw(table: pd.DataFrame, kind: str, title: str, keys: Sequence[Key]) -> Markup | None:
    """The map as <svg>; None if the table has no such coordinates."""
    if f"{kind}_x" not in table or f"{kind}_y" not in table:
        return None
    places = table[[f"{kind}_x", f"{kind}_y"]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    there = np.isfinite(places).all(1)
    if there.sum() < 2:
        return None
    fit, height = fitted(places[there], SIDE, EDGE, flattest=FLATTEST)
    shown = table[there].assign(x=fit[:, 0], y=fit[:, 1])
    groups = []
    for key in sorted(keys, key=lambda key: -(shown["name"] == key.label).sum()):  # rare classes above common ones
        points = [_point(row, key) for row in shown[shown["name"] == key.label].to_dict("records")]
        groups.append(Markup('<g class="{}">{}</g>').format(key.look, Markup("").join(points)))
    said = (
        f"{title} of {counted(len(shown), 'image')}; similar images are close. The table of clusters has the numbers."
    )
    return svg(SIDE, height, said, groups)


def _point(row: Mapping[Any, Any], key: Key) -> Markup:
    cluster = f", cluster {row['cluster']}" if row["cluster"] != "" else ""
    words = f"{row['id']}: {row['name']}{cluster}{', learned from' if row['hollow'] else ''}"
    look = Markup(' class="hollow"') if row["hollow"] else ""
    path = f"M{row['x']:.1f} {row['y']:.1f}{SHAPES[key.shape]}"
    return Markup('<path{} d="{}"><title>{}</title></path>').format(look, path, words)


def _scores(clustered: Mapping[str, Any]) -> Table | None:
    """Scores of every clustering method on features and pixels, then the baselines; None if nothing was scored.

    clustered: the content of cluster.json, or {}.
    """
    looks = [one for one in clustered.get("looks", []) if any(method["scores"] for method in one["methods"])]
    if not looks:
        return None
    rows = [
        [Cell(text=f"{method['name']} on {one['name']}"), *(value_cell(method["scores"][name]) for name in MEASURES)]
        for one in looks
        for method in one["methods"]
    ]
    levels, about = looks[0]["methods"][0]["scores"], clustered["about"]
    for title, level in (("random clusters", "chance"), ("one single cluster", "constant")):
        rows.append([muted(title), *(muted(number(levels[name][level], 3)) for name in MEASURES)])
    taught = ", none of which the grader learned from" if about.get("taught") else ""
    notes = [
        f"{about['clusters']} clusters, scored on {about['judged']:,} labelled images in {levels['ari']['groups']:,} "
        f"groups{taught}. The small figures are 95\N{NO-BREAK SPACE}% intervals of a bootstrap over groups.",
        "Matched accuracy gives each cluster at most one label, in the best possible way (the Hungarian method). "
        "Random "
        "clusters also score above 0, except in the adjusted Rand index: compare with the last two rows.",
    ]
    return Table(caption="Clusters against labels", columns=["method", *MEASURES.values()], rows=rows, notes=notes)


def _clusters(run: Evidence, table: pd.DataFrame) -> Table | None:
    """How many images of each class are in each cluster."""
    known = table[table["cluster"] != ""]
    if not len(known):
        return None
    counts = pd.crosstab(known["cluster"], known["name"])
    columns = [name for name in (*run.classes, "no label") if name in counts]
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    rows = [cells(f"cluster {name}", f"{counts.loc[name].sum():,}", *(f"{counts.loc[name, own]:,}" for own in columns))
            for name in order[:MOST_CLUSTERS]]  # fmt: skip
    left = len(order) - MOST_CLUSTERS
    notes = [f"{left} smaller clusters are not shown; cluster/maps.csv has all."] if left > 0 else []
    return Table(caption="True classes in each cluster", columns=["cluster", "images", *columns], rows=rows,
                 notes=notes)  # fmt: skip
