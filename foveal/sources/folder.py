"""A folder of images: a folder per class, {train,val,test}/class, or a flat, unlabelled pool."""

from __future__ import annotations

from pathlib import Path

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
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "training": "train",
    "testing": "test",
}


def recognise(root: Path) -> bool:
    """Any folder will do: this source is asked last."""
    return root.is_dir()


def load(root: Path, options: SourceOptions) -> Source:
    """Read the folder's shape: which of the three it is follows from where the pictures lie.

    Pictures directly in `root`, or `root` with a single class folder, make an unlabelled pool.
    """
    files = list_pictures(root)
    ids = picture_ids(files, root)
    patients, eyes = patients_and_eyes(ids)
    folders = [path.relative_to(root).parts[:-1] for path in files]
    splits = [PARTS.get(parts[0].lower(), "") if parts else "" for parts in folders]
    in_parts = all(splits)
    names = [_class_of(parts[1:] if in_parts else parts) for parts in folders]
    found = {name for name in names if name}
    unused = ", ".join(sorted(file.name for file in root.glob("*.csv")))
    tables = f"not used: {unused}; give one of them as the source to take labels from it" if unused else ""
    if len(found) < 2:
        table = make_table(ids, _relative(files, root), [None] * len(ids), groups=patients, eyes=eyes)
        pool = ("no class folders: an unlabelled pool", tables)
        return Source(root=root, table=table, classes=(), task="none", notes=pool)
    classes, shown, scale, note = name_classes(found)
    labels: list[int | None] = [classes.index(name) if name else None for name in names]
    table = make_table(ids, _relative(files, root), labels, splits if in_parts else None, patients, eyes)
    outside = sum(not name for name in names)
    stray = f"{outside} pictures outside the class folders are an unlabelled pool" if outside else ""
    notes = (f"a folder per class, in this order: {', '.join(classes)}", note, stray, tables)
    return Source(root=root, table=table, classes=shown, scale=scale, task=_task(scale), notes=notes)


def _class_of(parts: tuple[str, ...]) -> str:
    return parts[0] if parts else ""


def _task(scale: str) -> str:
    return "grading" if scale != "none" else "classification"


def _relative(files: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in files]
