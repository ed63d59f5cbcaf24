"""RetinaMNIST: the set of MedMNIST with ICDR grades, retinamnist.npz and its 64, 128 and 224 px siblings.

Trap: its training and validation parts are cut from DeepDRiD's training part by image, and DeepDRiD has four
photographs of a patient, so patients very probably stand on both sides; the file does not say which they are.
"""

from __future__ import annotations

from pathlib import Path

from foveal.sources.cards import ICDR
from foveal.sources.medmnist import find_arrays, read_arrays
from foveal.sources.source import Source, SourceOptions, unmet

FILES = "retinamnist*.npz"


def recognise(root: Path) -> bool:
    """retinamnist*.npz, or a folder with exactly one."""
    return find_arrays(root, FILES) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """All three official parts with ICDR grades."""
    file = find_arrays(root, FILES)
    if file is None:
        raise unmet(root, "retinamnist")
    return read_arrays(file, ICDR)
