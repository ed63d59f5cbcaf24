"""Contact sheets: rows of small pictures from the prepared pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from foveal.page.parts import SPLITS, Gallery, Heading, Part, Picture
from foveal.page.pictures import embedded
from foveal.sets.records import PreparedSet

ACROSS = 8  # pictures in a row
MOST_CLASSES = 20  # most classes to show
EXTREMES = {  # measure -> (title, whether the highest values are shown)
    "brightness": ("Darkest", False),
    "clipped": ("Most overexposed", True),
    "sharpness": ("Blurriest", False),
    "contrast": ("Lowest contrast", False),
    "field": ("Smallest visible part of the round field", False),
}


def class_rows(prepared: PreparedSet, table: pd.DataFrame, generator: np.random.Generator) -> list[Part]:
    """A row of random images for each class, and one for those without a label."""
    parts = [(name, table[table["label"] == k]) for k, name in enumerate(prepared.classes)][:MOST_CLASSES]
    parts.append(("without a label", table[table["label"].isna()]))
    rows = [_drawn(prepared, part, name, "", generator, lambda row: SPLITS[row["split"]])
            for name, part in parts if len(part)]  # fmt: skip
    return [part for row in rows for part in row]


def flag_rows(
    prepared: PreparedSet, table: pd.DataFrame, flags: Sequence[dict[str, Any]], generator: np.random.Generator
) -> list[Part]:
    """A row of random images for each quality flag."""
    found: list[Part] = []
    for flag in flags:
        part = table[table["flags"].str.split().map(lambda own, flag=flag: flag["flag"] in own)]
        found += _drawn(
            prepared, part, flag["flag"], flag["sentence"], generator, lambda row: grade(prepared, row["label"])
        )
    return found


def extreme_rows(prepared: PreparedSet, table: pd.DataFrame) -> list[Part]:
    """The worst images by each quality measure, worst first."""
    found: list[Part] = []
    for name, (title, highest) in EXTREMES.items():
        if name in table and table[name].nunique() > 1:
            part = table.sort_values(name, ascending=not highest, kind="stable").head(ACROSS)
            found.append(Heading(title, f"{'highest' if highest else 'lowest'} {name}", 4))
            found.append(_gallery(prepared, part, partial(_value, name)))
    return found


def _value(name: str, row: Any) -> str:
    return f"{row[name]:.3g}"


def pair_gallery(first: PreparedSet, second: PreparedSet, listed: Sequence[dict[str, Any]]) -> Gallery:
    """Pairs of copies side by side with their labels; `listed` comes from `summary.named`."""
    left, right = _by_id(first, [row["id"] for row in listed]), _by_id(second, [row["other"] for row in listed])
    pictures = [
        Picture(source=embedded(one), overlay=embedded(other), overlay_shows="the copy",
                id=f"{row['id']} · {row['other']}",
                text=f"{row['grade'] or 'no label'} · {row['other_grade'] or 'no label'}", lines=[row["kind"]],
                alarm="labels differ" if row["conflict"] else "")
        for one, other, row in zip(left, right, listed, strict=True)
    ]  # fmt: skip
    return Gallery(pictures, "small")


def grade(prepared: PreparedSet, label: Any) -> str:
    """The name of a label; `no label` if it is missing."""
    return "no label" if pd.isna(label) else prepared.classes[int(label)]


def _gallery(prepared: PreparedSet, records: pd.DataFrame, line: Callable[[Any], str]) -> Gallery:
    rows = zip(prepared.pixels(records), records.to_dict("records"), strict=True)
    pictures = [Picture(source=embedded(pixels), id=str(row["id"]), text=line(row)) for pixels, row in rows]
    return Gallery(pictures, "small")


def _drawn(
    prepared: PreparedSet, part: pd.DataFrame, title: str, note: str, generator: np.random.Generator,
    line: Callable[[Any], str],
) -> list[Part]:  # fmt: skip
    chosen = np.sort(generator.choice(len(part), min(ACROSS, len(part)), replace=False))
    shown = f"{len(chosen)} of {len(part):,}" if len(part) > len(chosen) else f"all {len(part)}"
    return [Heading(title, f"{shown}. {note}" if note else shown, 4), _gallery(prepared, part.iloc[chosen], line)]


def _by_id(prepared: PreparedSet, ids: Sequence[str]) -> np.ndarray:
    return prepared.pixels(prepared.records.set_index("id", drop=False).loc[list(ids)])
