"""Clusters against labels, as `foveal cluster` has scored them for the run: every method beside what chance reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveal.page.parts import Cell, Table, muted, value_cell
from foveal.page.words import number

MEASURES = {"accuracy": "matched accuracy", "purity": "purity", "nmi": "mutual information", "ari": "adjusted Rand"}


def agreement(clustered: Mapping[str, Any]) -> Table | None:
    """The scores of every method on features and pixels, the levels to beat last; None where nothing was scored.

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
    levels = looks[0]["methods"][0]["scores"]
    for title, level in (("dealt out at random", "chance"), ("one single cluster", "constant")):
        rows.append([muted(title), *(muted(number(levels[name][level], 3)) for name in MEASURES)])
    return Table(columns=["method", *MEASURES.values()], rows=rows, notes=_notes(clustered["about"], levels))


def _notes(about: Mapping[str, Any], levels: Mapping[str, Any]) -> list[str]:
    taught = "; none of them was learned from" if about.get("taught") else ""
    return [
        f"{about['clusters']} clusters, scored on {about['judged']:,} labelled images in {levels['ari']['groups']:,} "
        f"groups{taught}. The small figures are 95\N{NO-BREAK SPACE}% intervals of a bootstrap over groups.",
        "Matched accuracy gives each cluster at most one label, in the best way (the Hungarian method). It, purity and "
        "mutual information are above 0 by chance: hold them against the last two rows.",
    ]
