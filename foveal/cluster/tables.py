"""The tables of the numbers, the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from foveal.cluster.look import NEIGHBOURS
from foveal.cluster.maps import NAMES
from foveal.cluster.neighbours import VOTERS
from foveal.page.parts import Cell, Table, cells
from foveal.page.words import interval, number, signed

TITLES = {
    "accuracy": "accuracy when matched",
    "purity": "purity",
    "nmi": "mutual information",
    "ari": "adjusted Rand index",
}
COMMONEST = "the commonest label for all"


def tables_of(result: dict[str, Any]) -> list[tuple[str, Table]]:
    """(title, table) for everything that there is to say in numbers."""
    made: list[tuple[str, Callable[[dict[str, Any]], Table], bool]] = [
        ("Clusters against labels", clusters, bool(result["looks"][0]["neighbours"])),
        ("Labels told by the nearest images", told, bool(result["looks"][0]["neighbours"])),
        ("Maps", maps, True),
    ]
    return [(title, table(result)) for title, table, wanted in made if wanted]


def clusters(result: dict[str, Any]) -> Table:
    """Every method on features and on pixels, their difference below both, and the levels to beat last."""
    rows, about = [], result["about"]
    for number_of, first in enumerate(result["looks"][0]["methods"]):
        for one in result["looks"]:
            scores = one["methods"][number_of]["scores"]
            rows.append([Cell(text=f"{first['name']} on {one['name']}"), *(_scored(scores[name]) for name in TITLES)])
        rows += _differences(result, first["name"], TITLES)
    levels = result["looks"][0]["methods"][0]["scores"]
    rows.append(cells("dealt out at random", *(number(levels[name]["chance"]) for name in TITLES)))
    rows.append(cells("one single cluster", *(number(levels[name]["constant"]) for name in TITLES)))
    groups = levels["ari"]["groups"]
    notes = [
        f"{about['clusters']} clusters; scored on {about['judged']:,} labelled images in {groups:,} groups, with the "
        f"95\N{NO-BREAK SPACE}% interval of a bootstrap over groups. All images were clustered, once: how far another "
        "start would come out elsewhere is not in the intervals.",
        "The first three grow with the number of clusters and are above 0 by chance: see what random clusters reach.",
        *dict.fromkeys(f"{method['name']}: {method['note']}." for method in result["looks"][0]["methods"]),
    ]
    return Table(columns=["method", *TITLES.values()], rows=rows, notes=notes)


def told(result: dict[str, Any]) -> Table:
    """What the labels of the nearest images are worth, by features and by pixels."""
    first = result["looks"][0]["neighbours"]
    rows = [[Cell(text=one["name"]), *map(_scored, one["neighbours"].values())] for one in result["looks"]]
    rows += _differences(result, NEIGHBOURS, first)
    rows.append(cells(COMMONEST, *(number(score["constant"]) for score in first.values())))
    any_score = next(iter(first.values()))
    notes = [
        f"The vote of the {VOTERS} nearest labelled images of other groups, by cosine, on {any_score['n']:,} images in "
        f"{any_score['groups']:,} groups."
    ]
    return Table(columns=["neighbours by", *first], rows=rows, notes=notes)


def _scored(score: dict[str, Any]) -> Cell:
    return Cell(text=number(score["value"]), small=interval(score))


def _differences(result: dict[str, Any], of: str, measures: Iterable[str]) -> list[list[Cell]]:
    """The row of features minus pixels of one method, on the same resamples; none where there is one of them only."""
    tones = {"better": "good", "worse": "bad", "cannot tell": "unsure"}
    found = {row["measure"]: row for row in result["differences"] if row["of"] == of}
    if not found:
        return []
    own = [found[name] for name in measures]
    return [[Cell(text="features − pixels"), *(
        Cell(text=signed(row["difference"]), small=interval(row, 3), tone=tones[row["answer"]]) for row in own
    )]]  # fmt: skip


def maps(result: dict[str, Any]) -> Table:
    """How far neighbours on a map are neighbours in the features."""
    rows = [
        cells(NAMES[one["name"]], f"{one['images']:,}", number(one["kept"]), number(one["by_chance"], 3))
        for one in result["maps"]
    ]
    notes = ["Kept: of the 10 nearest on the map, the share that is among the 10 nearest in the features."]
    return Table(columns=["map", "images", "kept", "by chance"], rows=rows, notes=notes)
