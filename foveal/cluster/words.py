"""The tables for the terminal and the page, and what the numbers mean; no sentence claims more than its interval.

The sentences are in templates/alike.txt.
"""

from collections.abc import Iterable
from typing import Any

from foveal.cluster.look import NEIGHBOURS
from foveal.cluster.methods import CHECKED, NAMES
from foveal.cluster.neighbours import NEAREST
from foveal.page.parts import TONES, Shown, Table, Verdict, value_cell
from foveal.page.render import sayings
from foveal.page.words import counted, number

TITLES = {"accuracy": "matched accuracy", "purity": "purity", "nmi": "mutual information",
          "ari": "adjusted Rand index"}  # fmt: skip


def tables(result: dict[str, Any]) -> list[Table]:
    """All tables; only the one of the maps if nothing was scored."""
    scored = [_clusters_table(result), _votes_table(result)] if result["looks"][0]["neighbours"] else []
    return [*scored, _maps_table(result)]


def _clusters_table(result: dict[str, Any]) -> Table:
    about, methods = result["about"], result["looks"][0]["methods"]
    rows: list[list[Shown]] = []
    for place, first in enumerate(methods):
        for one in result["looks"]:
            scores = one["methods"][place]["scores"]
            rows.append(_values(f"{first['name']} on {one['name']}", (scores[name] for name in TITLES)))
        rows += _differences(result, first["name"], TITLES)
    levels = methods[0]["scores"]
    rows.append(["random clusters", *(number(levels[name]["chance"]) for name in TITLES)])
    rows.append(["one single cluster", *(number(levels[name]["constant"]) for name in TITLES)])
    notes = [
        f"{about['clusters']} clusters, scored on {counted(about['judged'], 'labelled image')} in "
        f"{counted(levels['ari']['groups'], 'group')}; 95\N{NO-BREAK SPACE}% intervals of a bootstrap over groups. All "
        "images were clustered once: the intervals do not cover the variation between random starts.",
        "The first three measures grow with the number of clusters and are above 0 even for random clusters: compare "
        "with the row of random clusters.",
        *dict.fromkeys(f"{method['name']}: {method['note']}." for method in methods),
    ]
    return Table(caption="Clusters against labels", columns=["method", *TITLES.values()], rows=rows, notes=notes)


def _votes_table(result: dict[str, Any]) -> Table:
    first = result["looks"][0]["neighbours"]
    rows = [_values(one["name"], one["neighbours"].values()) for one in result["looks"]]
    rows += _differences(result, NEIGHBOURS, first)
    rows.append(["most common label for all", *(number(score["constant"]) for score in first.values())])
    scored = f"{counted(first['accuracy']['n'], 'image')} in {counted(first['accuracy']['groups'], 'group')}"
    notes = [f"The {NEAREST} nearest labelled images of other groups vote. Scored on {scored}."]
    return Table(caption="Votes of the nearest images", columns=["neighbours by", *first], rows=rows, notes=notes)


def _maps_table(result: dict[str, Any]) -> Table:
    rows = [
        [NAMES[one["name"]], one["images"], number(one["kept"]), number(one["by_chance"], 3)] for one in result["maps"]
    ]
    notes = [f"Kept: share of the {CHECKED} nearest on the map that are among the {CHECKED} nearest in the features."]
    return Table(caption="Maps", columns=["map", "images", "kept", "by chance"], rows=rows, notes=notes)


def _values(name: str, scores: Iterable[dict[str, Any]]) -> list[Shown]:
    return [name, *(value_cell(score, 2) for score in scores)]


def _differences(result: dict[str, Any], of: str, measures: Iterable[str]) -> list[list[Shown]]:
    """The row of features minus pixels of one method; none without both."""
    found = {row["measure"]: row for row in result["differences"] if row["of"] == of}
    return [["features − pixels", *(found[name] for name in measures)]] if found else []


def find(result: dict[str, Any]) -> list[Verdict]:
    """What the run learned from, then the results of neighbours, clusters and the comparison with pixels."""
    said = sayings("alike.txt", result=result, titles=TITLES, tones=TONES)
    return [Verdict(tone=tone, text=text, grounds=grounds) for tone, text, grounds in said]
