"""The tables of a summary, for the terminal and the page; templates/set.txt, sets.txt and pair.txt lay them out."""

from collections.abc import Sequence
from typing import Any

from foveal.inspect.findings import any_labels, class_totals, unknown_patients
from foveal.page.parts import SPLITS, Table
from foveal.page.render import told
from foveal.page.words import number, percent


def tables_of(one: dict[str, Any]) -> list[Table]:
    """All tables about one set."""
    totals = {name: total for name, total in class_totals(one).items() if total}
    classes = one["classes"] if totals else []

    def counts_in(part: dict[str, Any]) -> list[int | None]:
        return [part["per_class"].get(name, 0) if part["per_class"] else None for name in classes]

    def shares(per_class: dict[str, int]) -> list[str]:
        return [percent(per_class.get(name, 0) / total, 1) for name, total in totals.items()]

    def spreads(colours: dict[str, Any]) -> list[str]:
        return [f"{number(mean, 1)} ± {number(deviation, 1)}" for mean, deviation in colours["channels"].values()]

    return told("set.txt", one=one, splits=SPLITS, classes=classes, labelled=list(totals), counts_in=counts_in,
                shares=shares, spreads=spreads, unknown=unknown_patients(one))  # fmt: skip


def side_by_side(sets: Sequence[dict[str, Any]]) -> Table:
    """Several sets: their images, labels and scales."""
    return told("sets.txt", sets=sets, class_totals=class_totals, any_labels=any_labels)[0]


def of_pair(pair: dict[str, Any]) -> list[Table]:
    """Copies across two sets: by their parts, and the first of them, leaks first."""
    return told("pair.txt", pair=pair, splits=SPLITS)
