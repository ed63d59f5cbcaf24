"""The page of an inspection: one HTML file with findings, tables, distributions and contact sheets.

It needs no network, follows the reader's light or dark mode, and prints; its style is that of the report. The same
sets and seed give the same page, byte by byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal.inspect import tables
from foveal.inspect.charts import HEIGHT, WIDTH, charts
from foveal.inspect.pictures import class_rows, extreme_rows, flag_rows, pair_rows
from foveal.inspect.summary import named, read_copies
from foveal.page.render import render as render_page
from foveal.page.words import counted, listed
from foveal.sets.records import PreparedSet

HEADINGS = {"bad": "Likely to mislead", "unsure": "Worth knowing", "good": "Checked, and in order"}


def render(result: dict[str, Any], sets: Sequence[PreparedSet], described: Sequence[pd.DataFrame], seed: int) -> str:
    """The page as HTML; every word that comes from a file is escaped."""
    summaries = result["sets"]
    return render_page("inspect.html",
        title=listed([one["name"] for one in summaries]),
        about=" · ".join(dict.fromkeys(one["title"] for one in summaries)),
        lead=" ".join(lead(one) for one in summaries),
        findings=_by_tone(result["findings"]),
        sets=[
            _about_set(one, prepared, table, seed)
            for one, prepared, table in zip(summaries, sets, described, strict=True)
        ],
        side_by_side=tables.side_by_side(summaries) if len(summaries) > 1 else None,
        pairs=[_about_pair(pair, dict(zip((one["name"] for one in summaries), sets, strict=True)))
               for pair in result["pairs"]],
        drawing={"width": WIDTH, "height": HEIGHT},
    )  # fmt: skip


def lead(one: dict[str, Any]) -> str:
    """One sentence about a set."""
    noun = "photograph" if one["fundus"] else "image"
    labelled = sum(sum(part["per_class"].values()) for part in one["parts"].values())
    groups = sum(part["groups"] for part in one["parts"].values())
    places = f" in {counted(groups, 'group')}" if groups else ""
    named = "all labelled" if labelled == one["images"] else f"{labelled:,} of them labelled"
    return f"{one['name']} holds {counted(one['images'], noun)}{places}, {named}."


def _by_tone(findings: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(heading, findings) for every tone that occurs, the gravest first."""
    return [(heading, own) for tone, heading in HEADINGS.items()
            if (own := [finding for finding in findings if finding["tone"] == tone])]  # fmt: skip


def _about_set(one: dict[str, Any], prepared: PreparedSet, table: pd.DataFrame, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    copies = read_copies(prepared, table).sort_values("conflict", ascending=False, kind="stable")
    return {
        "name": one["name"],
        "title": one["title"],
        "licence": prepared.card["licence"],
        "tables": tables.tables_of(one),
        "charts": charts(table, prepared.classes),
        "classes": class_rows(prepared, table, generator),
        "flags": flag_rows(prepared, table, one["flags"], generator),
        "copies": pair_rows(prepared, prepared, named(copies, prepared, prepared)),
        "extremes": extreme_rows(prepared, table),
        "copies_in_all": one["copies"]["pairs"],
    }


def _about_pair(pair: dict[str, Any], sets: dict[str, PreparedSet]) -> dict[str, Any]:
    if not pair["pairs"]:
        return {**pair, "table": None, "listing": None, "pictures": []}
    pictures = pair_rows(sets[pair["first"]], sets[pair["second"]], pair["listed"])
    return {**pair, "table": tables.pairs_by_part(pair), "listing": tables.pairs_listed(pair), "pictures": pictures}
