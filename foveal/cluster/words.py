"""The tables for the terminal and the page, and what the numbers mean; no sentence claims more than its interval.

Templates lay out the tables (clusters.txt) and have the sentences (alike.txt).
"""

from collections.abc import Mapping
from typing import Any

from foveal.cluster.methods import CHECKED, NAMES, NEAREST, STARTS, SUBSTANTIAL
from foveal.page.parts import TONES, Cell, Table, Verdict, value_cell
from foveal.page.render import told

TITLES = {"accuracy": "matched accuracy", "ari": "adjusted Rand index"}


def tables(result: dict[str, Any]) -> list[Table]:
    """All tables; only the one of the maps if nothing was scored."""

    def entries(scores: Mapping[str, Any]) -> list[Cell]:
        return [value_cell(score, 2) for score in scores.values()]

    return told("clusters.txt", result=result, titles=TITLES, names=NAMES, nearest=NEAREST, checked=CHECKED,
                starts=STARTS, entries=entries)  # fmt: skip


def find(result: dict[str, Any]) -> list[Verdict]:
    """What the run learned from, then the results of neighbours, clusters and the comparison with pixels."""
    return told("alike.txt", result=result, titles=TITLES, tones=TONES, substantial=SUBSTANTIAL)
