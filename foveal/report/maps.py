"""The embedding map: every image a point, close to those that the encoder finds similar; drawn as inline SVG.

Classes differ in colour and in shape; images that the grader has learned from are hollow, the others filled. Each point
names its image when the pointer rests on it, which needs no script. The page names maps.csv for keyboard users, as a
thousand points to step through would help nobody.
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
MOST_POINTS = 1500  # on one map; more would be a blot, and a heavy page
MOST_CLUSTERS = 20
SIDE, EDGE = 400, 12  # units of the drawing
FLATTEST = 0.5  # height of a drawing as a share of its width, at least
OUTLINES = ("circle", "square", "triangle", "diamond", "bar", "cross")  # the dot is for images without a class
MEASURES = {"accuracy": "matched accuracy", "purity": "purity", "nmi": "mutual information", "ari": "adjusted Rand"}
INTRO = (
    "Images that the encoder finds similar lie close to each other. Distances between far groups mean little, and "
    "clusters of such a map need not be clusters of disease: cameras cluster too. The pointer shows the name of an "
    "image; cluster/maps.csv in the run lists all with their places."
)


def embedding_map(graders: Sequence[Evidence], most: int = MOST_POINTS) -> Section | None:
    """Maps of at most `most` points, and the clusters; None where no map was made."""
    runs = [(run.name, _parts(run, most)) for run in graders]
    return section_by_run("map", "Embedding map", runs, intro=[INTRO], short="Map")


def _parts(run: Evidence, most: int) -> list[Part]:
    table = run.companions.maps
    if table is None or not len(table):
        return []
    table = table.assign(name=[run.class_name(value) for value in table["label"]], hollow=_learned(table))
    shown = table if len(table) <= most else table.iloc[np.linspace(0, len(table) - 1, most).astype(int)]
    text = f"{counted(len(table), 'image')} as the encoder sees them, each drawn as its true class"
    text += f"; {len(shown):,} of them, evenly chosen, are drawn." if len(shown) < len(table) else "."
    keys = _keys(run, shown)
    drawn = [(title, drawing) for kind, title in KINDS.items() if (drawing := _draw(shown, kind, title, keys))]
    parts: list[Part] = [text, Legend([*_counted(keys, shown), *_learned_keys(shown)]), Drawings(drawn, "scatter")]
    scores, clusters = _scores(run.companions.clustered), _clusters(run, table)
    parts += [] if scores is None else [scores]
    return parts if clusters is None else [*parts, Details("Clusters and classes in numbers", [clusters])]


def _learned(table: pd.DataFrame) -> pd.Series:
    """bool [n]: the images that the network has learned from; none where the table does not tell."""
    return table["learned"] == "1" if "learned" in table else pd.Series(False, index=table.index)


def _keys(run: Evidence, shown: pd.DataFrame) -> list[Key]:
    """Colour and shape of every class that is drawn; no two of 36 classes look the same."""
    drawn = set(shown["name"])
    keys = [Key(label=name, look=series(k), shape=OUTLINES[(k + k // COLOURS) % len(OUTLINES)])
            for k, name in enumerate(run.classes) if name in drawn]  # fmt: skip
    return [*keys, Key(label="no label", look="muted", shape="dot")] if "no label" in drawn else keys


def _counted(keys: Sequence[Key], shown: pd.DataFrame) -> list[Key]:
    counts = shown["name"].value_counts()
    return [replace(key, label=f"{key.label} ({counts[key.label]:,})") for key in keys]


def _learned_keys(shown: pd.DataFrame) -> list[Key]:
    """Keys for hollow and filled points; none where all points are the same."""
    hollow = int(shown["hollow"].sum())
    if hollow in (0, len(shown)):
        return []
    return [Key(label=f"learned from ({hollow:,})", look="muted hollow", shape="circle"),
            Key(label=f"not learned from ({len(shown) - hollow:,})", look="muted", shape="circle")]  # fmt: skip


def _draw(table: pd.DataFrame, kind: str, title: str, keys: Sequence[Key]) -> Markup | None:
    """The map as <svg>; None where the table has no such places."""
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
    said = f"{title}: {counted(len(shown), 'image')} laid out by likeness; the table of clusters has the numbers."
    return svg(SIDE, height, said, groups)


def _point(row: Mapping[Any, Any], key: Key) -> Markup:
    cluster = f", cluster {row['cluster']}" if row["cluster"] != "" else ""
    words = f"{row['id']}: {row['name']}{cluster}{', learned from' if row['hollow'] else ''}"
    look = Markup(' class="hollow"') if row["hollow"] else ""
    path = f"M{row['x']:.1f} {row['y']:.1f}{SHAPES[key.shape]}"
    return Markup('<path{} d="{}"><title>{}</title></path>').format(look, path, words)


def _scores(clustered: Mapping[str, Any]) -> Table | None:
    """Scores of every clustering method on features and pixels, the levels to beat last; None where nothing was scored.

    clustered: what cluster.json holds, or {}.
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
    for title, level in (("clusters drawn at random", "chance"), ("one single cluster", "constant")):
        rows.append([muted(title), *(muted(number(levels[name][level], 3)) for name in MEASURES)])
    taught = "; none of them was learned from" if about.get("taught") else ""
    notes = [
        f"{about['clusters']} clusters, scored on {about['judged']:,} labelled images in {levels['ari']['groups']:,} "
        f"groups{taught}. The small figures are 95\N{NO-BREAK SPACE}% intervals of a bootstrap over groups.",
        "Matched accuracy gives each cluster at most one label, in the best way (the Hungarian method). It, purity and "
        "mutual information are above 0 by chance: compare them with the last two rows.",
    ]
    return Table(caption="Clusters against labels", columns=["method", *MEASURES.values()], rows=rows, notes=notes)


def _clusters(run: Evidence, table: pd.DataFrame) -> Table | None:
    """How many images of each class stand in each cluster."""
    known = table[table["cluster"] != ""]
    if not len(known):
        return None
    counts = pd.crosstab(known["cluster"], known["name"])
    columns = [name for name in (*run.classes, "no label") if name in counts]
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    rows = [cells(f"cluster {name}", f"{counts.loc[name].sum():,}", *(f"{counts.loc[name, own]:,}" for own in columns))
            for name in order[:MOST_CLUSTERS]]  # fmt: skip
    left = len(order) - MOST_CLUSTERS
    notes = [f"{left} smaller clusters are left out; cluster/maps.csv has all."] if left > 0 else []
    return Table(caption="True classes in every cluster", columns=["cluster", "images", *columns], rows=rows,
                 notes=notes)  # fmt: skip
