"""Phantom photographs as a source: `phantom:600` draws 600 of them, two eyes for each of 300 patients."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import numpy as np

from foveal.console import progress_bar
from foveal.sources.cards import ICDR
from foveal.sources.phantom import draw_patients
from foveal.sources.source import Source, SourceOptions, make_table

DEFAULT_SIZE = 96


def recognise(root: Path) -> bool:
    """`phantom` or `phantom:COUNT`."""
    return re.fullmatch(r"phantom(:\d+)?", str(root)) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """Draw the photographs; grade, patient and eye are known exactly."""
    if not recognise(root):
        raise ValueError(f"{root}: write phantom:600 to draw 600 photographs")
    count = int(str(root).partition(":")[2] or 600)
    if count < 2:
        raise ValueError(f"{root}: at least 2 photographs, the two eyes of a patient, are drawn")
    drawn = []
    with progress_bar("draw", count) as bar:
        for photograph in islice(draw_patients((count + 1) // 2, options.size or DEFAULT_SIZE, options.seed), count):
            drawn.append(photograph)
            bar.advance()
    table = make_table(
        [name for name, _, _ in drawn],
        [f"{root}#{name}" for name, _, _ in drawn],
        [phantom.grade for _, _, phantom in drawn],
        groups=[patient for _, patient, _ in drawn],
        eyes=[phantom.eye for _, _, phantom in drawn],
    )
    return Source(root=root, table=table, classes=ICDR, images=np.stack([phantom.image for _, _, phantom in drawn]))
