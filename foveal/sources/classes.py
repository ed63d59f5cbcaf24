"""Classes: their names and order as a source has them, and merging them by an explicit map, never unnoticed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from foveal.errors import FovealError
from foveal.sources.cards import ICDR, Card
from foveal.sources.source import Source


def name_classes(values: set[str]) -> tuple[tuple[str, ...], tuple[str, ...], str, str]:
    """(values in label order, class names in the same order, scale, note).

    Values 0-4 and the five ICDR names are taken as the ICDR scale, in its order. Others keep their names, in numerical
    order where all of them are whole numbers, otherwise in alphabetical order.
    """
    numbers = all(re.fullmatch(r"\d+", value) for value in values)
    ordered = tuple(sorted(values, key=int)) if numbers else tuple(sorted(values))
    if ordered == ("0", "1", "2", "3", "4"):
        return ordered, ICDR, "icdr", "classes 0-4 are taken as the ICDR scale; use --scale none if they are not"
    if values == set(ICDR):
        return ICDR, ICDR, "icdr", ""
    return ordered, ordered, "none", ""


def merge_classes(source: Source, card: Card, text: str) -> Source:
    """Order and merge classes by a map such as "0,1,2,3+4" or "none+mild,rest", of class numbers or names.

    The scale becomes "icdr 0,1,2,3+4", in numbers, unless the map changes nothing. FovealError for a class that does
    not exist, appears twice in the map, or is missing from it although images have it.
    """
    number_of = {str(n): n for n in range(len(source.classes))} | {name: n for n, name in enumerate(source.classes)}
    items = [[item.strip() for item in part.split("+")] for part in text.split(",")]
    unknown = [item for part in items for item in part if item not in number_of]
    if unknown:
        has = ", ".join(source.classes) or "no class, since the source has no labels"
        raise FovealError("option.value", f"--classes {text}: there is no class '{unknown[0]}'", expected=has)
    merged = [[number_of[item] for item in part] for part in items]
    new_of = {old: new for new, olds in enumerate(merged) for old in olds}
    twice = [source.classes[old] for old, count in Counter(old for olds in merged for old in olds).items() if count > 1]
    if twice:
        raise FovealError("option.value", f"--classes {text} names the class {twice[0]} twice")
    present = set(source.table["label"].dropna())
    left = [name for n, name in enumerate(source.classes) if n not in new_of and n in present]
    if left:
        raise FovealError("option.value", f"--classes {text} leaves out {', '.join(left)}, which some images have")
    classes = tuple(" + ".join(source.classes[old] for old in olds) for olds in merged)
    if classes == source.classes:
        return source
    table = source.table.assign(label=source.table["label"].map(new_of, na_action="ignore").astype("Int64"))
    name, _, before = (source.scale or card.scale).partition(" ")
    original = before.split(",") if before else [str(number) for number in range(len(source.classes))]
    plan = ",".join("+".join(original[old] for old in olds) for olds in merged)
    return replace(source, table=table, classes=classes, scale="none" if name == "none" else f"{name} {plan}")
