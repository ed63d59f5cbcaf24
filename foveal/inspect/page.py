"""The page of an inspection: findings, tables, distributions and contact sheets.

The same sets give the same page, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from foveal.inspect import tables
from foveal.inspect.charts import charts
from foveal.inspect.pictures import class_rows, extreme_rows, flag_rows, pair_gallery
from foveal.inspect.summary import named, read_copies
from foveal.page.parts import Columns, Drawings, Heading, Note, Part, Section, Verdict
from foveal.page.render import page
from foveal.page.words import counted, listed
from foveal.sets.records import PreparedSet

HEADINGS = {"bad": "Likely to mislead", "unsure": "Worth knowing", "good": "Checked and fine"}
SPREAD = (
    "A histogram for each class, scaled to its own peak; the line marks the median. If the histograms differ, the "
    "measure tells the classes apart."
)
SEED = 0  # of the images that are drawn for the contact sheets


def render(result: dict[str, Any], sets: Sequence[PreparedSet], described: Sequence[pd.DataFrame]) -> str:
    """The page as HTML; result: the content of inspect.json; described: the measures of each set."""
    summaries = result["sets"]
    sections = [_findings(result)]
    if result["pairs"]:
        by_name = dict(zip((one["name"] for one in summaries), sets, strict=True))
        parts = [part for pair in result["pairs"] for part in _pair(pair, by_name)]
        sections.append(Section(name="across", title="Across sets", parts=[tables.side_by_side(summaries), *parts]))
    for number, (one, prepared, table) in enumerate(zip(summaries, sets, described, strict=True), start=1):
        name = f"{one['name']}: " if len(sets) > 1 else ""
        for kind, title, parts_of in (("set", "Content", _contents), ("pictures", "Pictures", _pictures)):
            parts = parts_of(one, prepared, table)
            sections.append(Section(name=f"{kind}-{number}", title=f"{name}{title}", parts=parts))
    return page(
        sections, title=listed([one["name"] for one in summaries]), kind="Foveal inspection",
        subtitle=counted(len(sets), "prepared set"), style="inspect.css",
        about=" · ".join(dict.fromkeys(one["title"] for one in summaries)),
    )  # fmt: skip


def _findings(result: dict[str, Any]) -> Section:
    """All findings under a heading for each tone, worst first."""
    parts: list[Part] = [Note(" ".join(lead(one) for one in result["sets"]), "lead")]
    for tone, heading in HEADINGS.items():
        found = [Verdict(**finding) for finding in result["findings"] if finding["tone"] == tone]
        parts += [Heading(heading)] if found else []
        parts += [_checked(one) if tone == "good" else one for one in found]
    return Section(name="findings", title="What could mislead", parts=parts)


def _checked(verdict: Verdict) -> Note:
    return Note(Markup("{} <small>{}</small>").format(verdict.text, verdict.grounds), "checked")


def lead(one: dict[str, Any]) -> str:
    """One sentence about a set."""
    noun = "photograph" if one["fundus"] else "image"
    labelled = sum(sum(part["per_class"].values()) for part in one["parts"].values())
    groups = sum(part["groups"] for part in one["parts"].values())
    places = f" in {counted(groups, 'group')}" if groups else ""
    named = "all labelled" if labelled == one["images"] else f"{labelled:,} of them labelled"
    return f"{one['name']} holds {counted(one['images'], noun)}{places}, {named}."


def _pair(pair: dict[str, Any], sets: dict[str, PreparedSet]) -> list[Part]:
    """The copies across two sets."""
    heading = Heading(f"{pair['first']} and {pair['second']}")
    if not pair["pairs"]:
        return [heading, "No pictures in common."]
    pictures = pair_gallery(sets[pair["first"]], sets[pair["second"]], pair["listed"])
    return [heading, tables.pairs_by_part(pair), tables.pairs_listed(pair), pictures]


def _contents(one: dict[str, Any], prepared: PreparedSet, table: pd.DataFrame) -> list[Part]:
    parts: list[Part] = [Columns([[own] for own in tables.tables_of(one)], "tables")]
    drawn = charts(table, prepared.classes)
    return [*parts, Heading("Distribution of measures"), SPREAD, Drawings(drawn, "spreads")] if drawn else parts


def _pictures(one: dict[str, Any], prepared: PreparedSet, table: pd.DataFrame) -> list[Part]:
    generator = np.random.default_rng(SEED)
    licence = f"Licence of the pictures: {prepared.card['licence']}. It also applies to this page."
    rows = class_rows(prepared, table, generator)
    flags, extremes = flag_rows(prepared, table, one["flags"], generator), extreme_rows(prepared, table)
    copies = read_copies(prepared, table).sort_values("conflict", ascending=False, kind="stable")
    listed_copies = named(copies, prepared, prepared)
    note = f"{len(listed_copies)} of {counted(len(copies), 'pair')} shown; duplicates.csv lists all"
    shown: list[tuple[Heading, list[Part]]] = [
        (Heading("Random pictures"), rows),
        (Heading("Copies", note), [pair_gallery(prepared, prepared, listed_copies)] if listed_copies else []),
        (Heading("By quality flag"), flags),
        (Heading("Extremes"), extremes),
    ]
    return [
        f"Prepared pictures, reduced in size. {licence}",
        *(part for heading, own in shown if own for part in (heading, *own)),
    ]
