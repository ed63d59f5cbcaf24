"""RetinaMNIST: the set of MedMNIST with ICDR grades, retinamnist.npz and its 64, 128 and 224 px siblings.

Trap: its training and validation parts were split from DeepDRiD's training part image by image. DeepDRiD has four
photographs per patient, so patients very probably appear in both parts; the file does not say which.
"""

from __future__ import annotations

from pathlib import Path

from foveal.sources.cards import ICDR
from foveal.sources.medmnist import find_arrays, medmnist_source
from foveal.sources.source import Source, SourceOptions, needed

FILES = "retinamnist*.npz"


def recognise(root: Path) -> bool:
    """retinamnist*.npz, or a folder with exactly one."""
    return find_arrays(root, FILES) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """All three official parts with ICDR grades."""
    return medmnist_source(needed(find_arrays(root, FILES), root, "retinamnist"), ICDR)
