"""The tables for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foveal.cluster.look import NEIGHBOURS
from foveal.cluster.maps import CHECKED, NAMES
from foveal.cluster.neighbours import NEAREST
from foveal.page.parts import Cell, Table, cells, difference_cell, value_cell
from foveal.page.words import number

TITLES = {
    "accuracy": "matched accuracy",
    "purity": "purity",
    "nmi": "mutual information",
    "ari": "adjusted Rand index",
}


def tables_of(result: dict[str, Any]) -> list[Table]:
    """All tables; only the one of the maps if nothing was scored."""
    scored = [clusters(result), votes(result)] if result["looks"][0]["neighbours"] else []
    return [*scored, maps(result)]


def clusters(result: dict[str, Any]) -> Table:
    """Every method on features and pixels with their difference, then the baselines."""
    rows, about, methods = [], result["about"], result["looks"][0]["methods"]
    for number_of, first in enumerate(methods):
        for one in result["looks"]:
            scores = one["methods"][number_of]["scores"]
            rows.append(_values(f"{first['name']} on {one['name']}", (scores[name] for name in TITLES)))
        rows += _differences(result, first["name"], TITLES)
    levels = methods[0]["scores"]
    rows.append(cells("random clusters", *(number(levels[name]["chance"]) for name in TITLES)))
    rows.append(cells("one single cluster", *(number(levels[name]["constant"]) for name in TITLES)))
    notes = [
        f"{about['clusters']} clusters, scored on {about['judged']:,} labelled images in {levels['ari']['groups']:,} "
        "groups; 95\N{NO-BREAK SPACE}% intervals of a bootstrap over groups. All images were clustered once: the "
        "intervals do not cover the variation between random starts.",
        "The first three measures grow with the number of clusters and are above 0 even for random clusters: compare "
        "with "
        "the row of random clusters.",
        *dict.fromkeys(f"{method['name']}: {method['note']}." for method in methods),
    ]
    return Table(caption="Clusters against labels", columns=["method", *TITLES.values()], rows=rows, notes=notes)


def votes(result: dict[str, Any]) -> Table:
    """How often the nearest images vote for the right label, by features and by pixels."""
    first = result["looks"][0]["neighbours"]
    rows = [_values(one["name"], one["neighbours"].values()) for one in result["looks"]]
    rows += _differences(result, NEIGHBOURS, first)
    rows.append(cells("most common label for all", *(number(score["constant"]) for score in first.values())))
    any_score = next(iter(first.values()))
    notes = [
        f"The {NEAREST} nearest labelled images of other groups vote. Scored on {any_score['n']:,} images in "
        f"{any_score['groups']:,} groups."
    ]
    return Table(caption="Votes of the nearest images", columns=["neighbours by", *first], rows=rows, notes=notes)


def _values(name: str, scores: Iterable[dict[str, Any]]) -> list[Cell]:
    return [Cell(text=name), *(value_cell(score, 2) for score in scores)]


def _differences(result: dict[str, Any], of: str, measures: Iterable[str]) -> list[list[Cell]]:
    """The row of features minus pixels of one method; none if there is only one of them."""
    found = {row["measure"]: difference_cell(row) for row in result["differences"] if row["of"] == of}
    return [[Cell(text="features − pixels"), *(found[name] for name in measures)]] if found else []


def maps(result: dict[str, Any]) -> Table:
    """How many neighbours on each map are also neighbours in the features."""
    rows = [
        cells(NAMES[one["name"]], f"{one['images']:,}", number(one["kept"]), number(one["by_chance"], 3))
        for one in result["maps"]
    ]
    notes = [
        f"Kept: the share of the {CHECKED} nearest on the map that are among the {CHECKED} nearest in the features."
    ]
    return Table(caption="Maps", columns=["map", "images", "kept", "by chance"], rows=rows, notes=notes)
