"""Contact sheets: rows of small pictures from the prepared pixels, as data: addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foveal.page.parts import SPLITS
from foveal.page.pictures import Thumbnail, embedded
from foveal.sets.records import PreparedSet

SIDE = 128  # pixels of a thumbnail; smaller pictures stay as they are
QUALITY = 82
ACROSS = 8  # thumbnails in a row
MOST_CLASSES = 20  # rows of classes that are shown
EXTREMES = {  # measure -> (title, True where the highest values are the extreme)
    "brightness": ("The darkest", False),
    "clipped": ("The most overexposed", True),
    "sharpness": ("The blurriest", False),
    "contrast": ("The least contrast", False),
    "field": ("The smallest share of the round field in the picture", False),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Thumbnails under one title."""

    title: str
    note: str
    pictures: Sequence[Thumbnail]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two copies side by side."""

    left: Thumbnail
    right: Thumbnail
    kind: str
    conflict: bool


def class_rows(prepared: PreparedSet, table: pd.DataFrame, generator: np.random.Generator) -> list[Row]:
    """A row of random images for each class, and one for those without a label."""
    parts = [(name, table[table["label"] == k]) for k, name in enumerate(prepared.classes)][:MOST_CLASSES]
    parts.append(("without a label", table[table["label"].isna()]))
    return [
        _drawn(prepared, part, name, "", generator, lambda row: SPLITS[row["split"]])
        for name, part in parts
        if len(part)
    ]


def flag_rows(
    prepared: PreparedSet, table: pd.DataFrame, flags: Sequence[dict[str, Any]], generator: np.random.Generator
) -> list[Row]:
    """A row of random images for each quality flag."""
    words = table["flags"].str.split()
    return [
        _drawn(prepared, table[words.map(lambda own, flag=flag: flag["flag"] in own)], flag["flag"], flag["sentence"],
               generator, lambda row: grade(prepared, row["label"]))
        for flag in flags
    ]  # fmt: skip


def extreme_rows(prepared: PreparedSet, table: pd.DataFrame) -> list[Row]:
    """The images at the far end of each measure of quality, the furthest first."""
    rows = []
    for name, (title, highest) in EXTREMES.items():
        if name in table and table[name].nunique() > 1:
            part = table.sort_values(name, ascending=not highest, kind="stable").head(ACROSS)
            note = f"{'highest' if highest else 'lowest'} {name}"
            rows.append(Row(title=title, note=note, pictures=thumbnails(prepared, part, _value_of(name))))
    return rows


def _value_of(name: str) -> Callable[[Any], str]:
    return lambda row: f"{row[name]:.3g}"


def pair_rows(first: PreparedSet, second: PreparedSet, listed: Sequence[dict[str, Any]]) -> list[Pair]:
    """Pairs of copies with their labels; `listed` is what `summary.named` makes of them."""
    left = _by_id(first, [row["id"] for row in listed], [row["grade"] for row in listed])
    right = _by_id(second, [row["other"] for row in listed], [row["other_grade"] for row in listed])
    return [
        Pair(left=one, right=other, kind=row["kind"], conflict=row["conflict"])
        for one, other, row in zip(left, right, listed, strict=True)
    ]


def thumbnails(prepared: PreparedSet, records: pd.DataFrame, line: Callable[[Any], str]) -> list[Thumbnail]:
    """Small pictures of `records`, with what `line` says of each."""
    return [
        Thumbnail(source=embedded(picture), id=str(row["id"]), line=line(row))
        for picture, row in zip(prepared.pixels(records), records.to_dict("records"), strict=True)
    ]


def grade(prepared: PreparedSet, label: Any) -> str:
    """The name of a label; `no label` where there is none."""
    return "no label" if pd.isna(label) else prepared.classes[int(label)]


def _drawn(
    prepared: PreparedSet, part: pd.DataFrame, title: str, note: str, generator: np.random.Generator,
    line: Callable[[Any], str],
) -> Row:  # fmt: skip
    chosen = np.sort(generator.choice(len(part), min(ACROSS, len(part)), replace=False))
    shown = f"{len(chosen)} of {len(part):,}" if len(part) > len(chosen) else f"all {len(part)}"
    return Row(title=title, note=f"{shown}. {note}".strip(), pictures=thumbnails(prepared, part.iloc[chosen], line))


def _by_id(prepared: PreparedSet, ids: Sequence[str], grades: Sequence[str]) -> list[Thumbnail]:
    records = prepared.records.set_index("id", drop=False).loc[list(ids)]
    return thumbnails(prepared, records.assign(line=grades), lambda row: row["line"] or "no label")
