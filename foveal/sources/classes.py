"""Label scales: merging classes by an explicit map, so that grades of different scales never mix unseen."""

from __future__ import annotations

from dataclasses import replace

from foveal.sources.cards import Card
from foveal.sources.source import Source


def merge_classes(source: Source, card: Card, text: str) -> Source:
    """Order and merge classes as "0,1,2,3+4" or "none+mild,rest" says; each is named by number or by name.

    The scale becomes "icdr 0,1,2,3+4", in numbers, unless the map changes nothing. Raises ValueError for classes that
    do not exist, stand in the map twice, or are left out of it although images have them.
    """
    names = {**{str(n): n for n in range(len(source.classes))}, **{name: n for n, name in enumerate(source.classes)}}
    parts = [[item.strip() for item in part.split("+")] for part in text.split(",")]
    for item in (item for part in parts for item in part):
        if item not in names:
            raise ValueError(
                f"--classes: there is no class '{item}'; the source has {', '.join(source.classes) or 'no labels'}"
            )
    numbers = [[names[item] for item in part] for part in parts]
    new_of: dict[int, int] = {}
    for new, olds in enumerate(numbers):
        for old, item in zip(olds, parts[new], strict=True):
            if new_of.setdefault(old, new) != new or olds.count(old) > 1:
                raise ValueError(f"--classes {text} names '{item}' twice; each class belongs to one")
    present = set(source.table["label"].dropna())
    left = [name for n, name in enumerate(source.classes) if n not in new_of and n in present]
    if left:
        raise ValueError(f"--classes {text} says nothing of {', '.join(left)}, which the source holds")
    classes = tuple(" + ".join(source.classes[old] for old in olds) for olds in numbers)
    if classes == source.classes:
        return source
    table = source.table.assign(label=source.table["label"].map(new_of, na_action="ignore").astype("Int64"))
    name, _, before = (source.scale or card.scale).partition(" ")
    original = before.split(",") if before else [str(number) for number in range(len(source.classes))]
    plan = ",".join("+".join(original[old] for old in olds) for olds in numbers)
    return replace(source, table=table, classes=classes, scale="none" if name == "none" else f"{name} {plan}")
