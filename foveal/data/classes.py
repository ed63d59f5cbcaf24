"""Label scales: merging classes by an explicit map, so that grades of different scales never mix unseen."""

from __future__ import annotations

from foveal.data.source import Source


def merge_classes(source: Source, text: str) -> Source:
    """Order and merge classes as "0,1,2,3+4" or "none+mild,rest" says; each is named by number or by name."""
    parts = [[item.strip() for item in part.split("+")] for part in text.split(",")]
    names = {**{str(n): n for n in range(len(source.classes))}, **{name: n for n, name in enumerate(source.classes)}}
    new_of = {}
    for new, items in enumerate(parts):
        for item in items:
            if item not in names:
                raise ValueError(f"--classes: there is no class '{item}'; the source has {', '.join(source.classes)}")
            if names[item] in new_of:
                raise ValueError(f"--classes {text} names '{item}' twice; each class belongs to one")
            new_of[names[item]] = new
    left = [name for n, name in enumerate(source.classes) if n not in new_of]
    present = source.table["label"].map(lambda label: label not in new_of, na_action="ignore").fillna(False)
    if present.astype(bool).any():
        raise ValueError(f"--classes {text} says nothing of {', '.join(left)}, which the source holds")
    merged = source.table.assign(label=source.table["label"].map(new_of, na_action="ignore").astype("Int64"))
    classes = tuple(" + ".join(source.classes[names[item]] for item in items) for items in parts)
    same = classes == source.classes
    return Source(
        root=source.root, table=merged, classes=classes, images=source.images, task=source.task,
        scale=source.scale if same else "none",
    )  # fmt: skip
