"""RetinaMNIST (MedMNIST v2): retinamnist.npz and its 64, 128 and 224 px siblings, official split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveal.data.cards import ICDR
from foveal.data.source import Source, SourceOptions, make_table

PARTS = ("train", "val", "test")


def recognise(root: Path) -> bool:
    """retinamnist*.npz, or a folder with exactly one."""
    return _find(root) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """All three official parts; ids are `train/17`, as in the published arrays."""
    file = _find(root)
    if file is None:
        raise ValueError(f"{root}: expected one file retinamnist.npz (or _64, _128, _224)")
    images: list[np.ndarray] = []
    labels: list[int | None] = []
    splits: list[str] = []
    ids: list[str] = []
    with np.load(file) as arrays:
        missing = [key for part in PARTS for key in (f"{part}_images", f"{part}_labels") if key not in arrays]
        if missing:
            raise ValueError(f"{file}: missing arrays {', '.join(missing)}; found {', '.join(arrays.files)}")
        for part in PARTS:
            images.append(arrays[f"{part}_images"])
            labels.extend(int(label) for label in arrays[f"{part}_labels"].reshape(-1))
            splits.extend([part] * len(images[-1]))
            ids.extend(f"{part}/{number}" for number in range(len(images[-1])))
    files = [f"{file.name}#{name}" for name in ids]
    return Source(
        root=file.parent,
        table=make_table(ids, files, labels, splits),
        classes=ICDR,
        images=np.concatenate(images),
    )


def _find(root: Path) -> Path | None:
    if root.is_file():
        return root if root.name.startswith("retinamnist") and root.suffix == ".npz" else None
    found = sorted(root.glob("retinamnist*.npz")) if root.is_dir() else []
    return found[0] if len(found) == 1 else None
