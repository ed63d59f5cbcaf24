"""A folder of images: a folder per class, {train,val,test}/class, or a flat, unlabelled pool."""

from __future__ import annotations

from pathlib import Path

from foveal.page.words import counted
from foveal.sources.source import (
    Source,
    SourceOptions,
    list_pictures,
    make_table,
    name_classes,
    patients_and_eyes,
    picture_ids,
)

PARTS = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "training": "train",
    "testing": "test",
}  # fmt: skip


def recognise(root: Path) -> bool:
    """Any folder: this source is tried last."""
    return root.is_dir()


def load(root: Path, options: SourceOptions) -> Source:
    """Read the folder; the locations of its pictures show which of the three layouts it has.

    Pictures directly in `root`, or a single class folder, make an unlabelled pool.
    """
    files = list_pictures(root)
    paths, ids = [path.relative_to(root) for path in files], picture_ids(files, root)
    patients, eyes = patients_and_eyes(ids)
    splits = [PARTS.get(path.parts[0].lower(), "") if len(path.parts) > 1 else "" for path in paths]
    in_parts = all(splits)
    folders = [path.parts[1 if in_parts else 0 : -1] for path in paths]
    names = [parts[0] if parts else "" for parts in folders]
    found = set(filter(None, names))
    tables = ", ".join(sorted(file.name for file in root.glob("*.csv")))
    unused = f"not used: {tables}; to take labels from a table, give it as the source" if tables else ""
    if len(found) < 2:
        table = make_table(ids, [path.as_posix() for path in paths], group=patients, eye=eyes)
        return Source(root=root, table=table, classes=(), task="none", notes=("an unlabelled pool", unused))
    values, classes, scale, note = name_classes(found)
    labels = [values.index(name) if name else None for name in names]
    split = splits if in_parts else ""
    table = make_table(ids, [path.as_posix() for path in paths], labels, split=split, group=patients, eye=eyes)
    outside = names.count("")
    stray = f"{counted(outside, 'picture')} outside the class folders: an unlabelled pool" if outside else ""
    notes = (f"a folder per class, in this order: {', '.join(values)}", note, stray, unused)
    return Source(root=root, table=table, classes=classes, scale=scale, task=task_of(scale), notes=notes)


def task_of(scale: str) -> str:
    """Classes on a known scale are for grading, any others for classification."""
    return "grading" if scale != "none" else "classification"
