"""The embedding map: one point per image, near the images that the encoder finds similar. Drawn as inline SVG.

Classes differ in colour and shape. Training images are hollow, the others filled. A tooltip, which needs no script,
shows the name of each image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from foveal.page.charts import COLOURS, Key, fitted, series
from foveal.page.parts import Shown, muted
from foveal.page.words import number
from foveal.report.evidence import Evidence

KINDS = {"umap": "UMAP", "tsne": "t-SNE", "pca": "Principal components"}
MOST_POINTS = 1500  # on one map; with more, points overlap and the page gets large
MOST_CLUSTERS = 20
SIDE, EDGE = 400, 12  # units of the drawing
FLATTEST = 0.5  # height of a drawing as a share of its width, at least
OUTLINES = ("circle", "square", "triangle", "diamond", "bar", "cross")  # the dot is for images without a label
MEASURES = {"accuracy": "matched accuracy", "purity": "purity", "nmi": "mutual information", "ari": "adjusted Rand"}


def embedding_map(graders: Sequence[Evidence], most: int = MOST_POINTS) -> list[dict[str, Any]]:
    """Maps of at most `most` points, and the clusters."""
    return [_maps(run, run.maps, most) for run in graders if run.maps is not None and len(run.maps)]


def _maps(run: Evidence, table: pd.DataFrame, most: int) -> dict[str, Any]:
    learned = table["learned"] == "1" if "learned" in table else False
    table = table.assign(name=[run.class_name(value) for value in table["label"]], hollow=learned)
    shown = table if len(table) <= most else table.iloc[np.linspace(0, len(table) - 1, most).astype(int)]
    counts, hollow = shown["name"].value_counts(), int(shown["hollow"].sum())
    keys = [Key(label=name, look=series(k), shape=OUTLINES[(k + k // COLOURS) % len(OUTLINES)])  # 36 different ones
            for k, name in enumerate(run.classes) if name in counts]  # fmt: skip
    keys += [Key(label="no label", look="muted", shape="dot")] if "no label" in counts else []
    legend = [replace(key, label=f"{key.label} ({counts[key.label]:,})") for key in keys]
    if 0 < hollow < len(shown):
        legend += [Key(label=f"learned from ({hollow:,})", look="muted hollow", shape="circle"),
                   Key(label=f"not learned from ({len(shown) - hollow:,})", look="muted", shape="circle")]  # fmt: skip
    return {
        "name": run.name, "images": len(table), "shown": len(shown), "legend": legend, "side": SIDE,
        "drawings": [drawing for kind in KINDS if (drawing := _drawing(shown, kind, keys))],
        "scores": _scores(run.clustered), "clusters": _clusters(run, table),
    }  # fmt: skip


def _drawing(table: pd.DataFrame, kind: str, keys: Sequence[Key]) -> dict[str, Any] | None:
    """The points of each class, with those of rare classes on top; None if the table has no such coordinates."""
    if not {f"{kind}_x", f"{kind}_y"} <= set(table):
        return None
    places = table[[f"{kind}_x", f"{kind}_y"]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    there = np.isfinite(places).all(1)
    if there.sum() < 2:
        return None
    fit, height = fitted(places[there], SIDE, EDGE, flattest=FLATTEST)
    shown = table[there].assign(x=fit[:, 0], y=fit[:, 1])
    groups = [(key, shown[shown["name"] == key.label].to_dict("records")) for key in keys]
    groups.sort(key=lambda group: -len(group[1]))
    return {"title": KINDS[kind], "height": height, "images": len(shown), "groups": groups}


def _scores(clustered: Mapping[str, Any]) -> dict[str, Any] | None:
    """Scores of every clustering method on features and pixels, then the baselines; None if nothing was scored."""
    looks = [one for one in clustered.get("looks", []) if any(method["scores"] for method in one["methods"])]
    if not looks:
        return None
    rows: list[list[Shown]] = [
        [f"{method['name']} on {one['name']}", *(method["scores"][name] for name in MEASURES)]
        for one in looks for method in one["methods"]
    ]  # fmt: skip
    levels = looks[0]["methods"][0]["scores"]
    for title, level in (("random clusters", "chance"), ("one single cluster", "constant")):
        rows.append([muted(title), *(muted(number(levels[name][level], 3)) for name in MEASURES)])
    return {"taught": False, **clustered["about"], "groups": levels["ari"]["groups"], "rows": rows,
            "columns": ["method", *MEASURES.values()]}  # fmt: skip


def _clusters(run: Evidence, table: pd.DataFrame) -> dict[str, Any] | None:
    """How many images of each class are in each cluster, the largest first."""
    known = table[table["cluster"] != ""]
    if not len(known):
        return None
    counts = pd.crosstab(known["cluster"], known["name"])
    counts = counts[[name for name in (*run.classes, "no label") if name in counts]]
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable")
    rows = [[f"cluster {name}", *map(int, (order[name], *counts.loc[name]))] for name in order.index[:MOST_CLUSTERS]]
    return {"rows": rows, "columns": ["cluster", "images", *counts], "left": len(order) - len(rows)}
