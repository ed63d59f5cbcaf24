"""The page of an inspection: findings, tables, and rows of small pictures from the prepared pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal.inspect.findings import class_totals, of_pair, side_by_side, tables_of
from foveal.inspect.summary import named, read_copies
from foveal.page.parts import SPLITS, Columns, Gallery, Heading, Part, Picture, Section
from foveal.page.pictures import embedded
from foveal.page.render import page, section
from foveal.page.words import counted, listed
from foveal.sets.records import PreparedSet

SEED = 0  # of the images that are drawn
ACROSS = 8  # pictures in a row
MOST_CLASSES = 20  # most classes to show


def render(result: dict[str, Any], sets: Sequence[PreparedSet], described: Sequence[pd.DataFrame]) -> str:
    """The page as HTML; result: the content of inspect.json; described: the measures of each set."""
    summaries = result["sets"]
    sections = [section("findings", sets=summaries, findings=result["findings"], class_totals=class_totals)]
    if result["pairs"]:
        by_name = {one["name"]: prepared for one, prepared in zip(summaries, sets, strict=True)}
        parts: list[Part] = [side_by_side(summaries)]
        for pair in result["pairs"]:
            parts.append(Heading(f"{pair['first']} and {pair['second']}"))
            pictures = _pair_gallery(by_name[pair["first"]], by_name[pair["second"]], pair["listed"])
            parts += [*of_pair(pair), pictures] if pair["pairs"] else ["No pictures in common."]
        sections.append(Section(name="across", title="Across sets", parts=parts))
    for number, (one, prepared, table) in enumerate(zip(summaries, sets, described, strict=True), start=1):
        name = f"{one['name']}: " if len(sets) > 1 else ""
        tables = Columns([[own] for own in tables_of(one)])
        sections.append(Section(name=f"set-{number}", title=f"{name}Content", parts=[tables]))
        shown = _pictures(one, prepared, table)
        sections.append(Section(name=f"pictures-{number}", title=f"{name}Pictures", parts=shown))
    return page(sections, title=listed([one["name"] for one in summaries]), kind="Foveal inspection",
                subtitle=counted(len(sets), "prepared set"),
                about=" · ".join(dict.fromkeys(one["title"] for one in summaries)))  # fmt: skip


def _pictures(one: dict[str, Any], prepared: PreparedSet, table: pd.DataFrame) -> list[Part]:
    generator = np.random.default_rng(SEED)
    licence = f"Licence of the pictures: {prepared.card['licence']}. It also applies to this page."
    shown: list[Part] = [f"Prepared pictures, reduced in size. {licence}", Heading("Random pictures")]
    classes = [(name, table[table["label"] == k]) for k, name in enumerate(prepared.classes)][:MOST_CLASSES]
    for name, part in [*classes, ("without a label", table[table["label"].isna()])]:
        if len(part):
            shown += _drawn(prepared, part, name, part["split"].map(SPLITS), generator)
    copies = read_copies(prepared, table).sort_values("conflict", ascending=False, kind="stable")
    if first := named(copies, prepared, prepared):
        note = f"{len(first)} of {counted(len(copies), 'pair')} shown; duplicates.csv lists all"
        shown += [Heading("Copies", note), _pair_gallery(prepared, prepared, first)]
    words = table["flags"].str.split()
    grades = pd.Series(["no label" if pd.isna(k) else prepared.classes[int(k)] for k in table["label"]], table.index)
    shown += [Heading("By quality flag")] if one["flags"] else []
    for flag in one["flags"]:
        has = words.map(lambda own, flag=flag: flag["flag"] in own)
        shown += _drawn(prepared, table[has], flag["flag"], grades[has], generator, flag["sentence"])
    return shown


def _drawn(
    prepared: PreparedSet, part: pd.DataFrame, title: str, lines: pd.Series, generator: np.random.Generator,
    note: str = "",
) -> list[Part]:  # fmt: skip
    chosen = np.sort(generator.choice(len(part), min(ACROSS, len(part)), replace=False))
    shown = f"{len(chosen)} of {len(part):,}" if len(part) > len(chosen) else f"all {len(part)}"
    drawn = part.iloc[chosen]
    rows = zip(prepared.pixels(drawn), drawn["id"], lines.iloc[chosen], strict=True)
    pictures = [Picture(source=embedded(pixels), id=str(name), text=line) for pixels, name, line in rows]
    return [Heading(title, f"{shown}. {note}" if note else shown, 4), Gallery(pictures, "small")]


def _pair_gallery(first: PreparedSet, second: PreparedSet, shown: Sequence[dict[str, Any]]) -> Gallery:
    """Pairs of copies side by side with their labels; `shown` comes from `summary.named`."""
    left, right = (prepared.pixels(prepared.records.set_index("id").loc[[row[key] for row in shown]])
                   for prepared, key in ((first, "id"), (second, "other")))  # fmt: skip
    pictures = [Picture(source=embedded(one), overlay=embedded(other), overlay_shows="the copy",
                        id=f"{row['id']} · {row['other']}", lines=[row["kind"]],
                        text=f"{row['grade'] or 'no label'} · {row['other_grade'] or 'no label'}",
                        alarm="labels differ" if row["conflict"] else "")
                for one, other, row in zip(left, right, shown, strict=True)]  # fmt: skip
    return Gallery(pictures, "small")
