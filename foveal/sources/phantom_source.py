"""Phantom photographs as a source: `phantom:600` draws 600 of them, two eyes for each of 300 patients."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import numpy as np

from foveal.console import progress_bar
from foveal.errors import FovealError
from foveal.sources.cards import ICDR
from foveal.sources.phantom import draw_patients
from foveal.sources.source import Source, SourceOptions, make_table

DEFAULT_SIZE = 96


def recognise(root: Path) -> bool:
    """`phantom` or `phantom:COUNT`."""
    return re.fullmatch(r"phantom(:\d+)?", str(root)) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """Draw the photographs; grade, patient and eye are known exactly."""
    count = int(str(root).partition(":")[2] or 600) if recognise(root) else 0
    if count < 2:
        raise FovealError("source.phantom", f"{root} cannot be drawn", expected="phantom:COUNT, with 2 or more")
    drawn = []
    with progress_bar("draw", count) as bar:
        for photograph in islice(draw_patients((count + 1) // 2, options.size or DEFAULT_SIZE, options.seed), count):
            drawn.append(photograph)
            bar.advance()
    names, patients, phantoms = zip(*drawn, strict=True)
    grades, eyes = [phantom.grade for phantom in phantoms], [phantom.eye for phantom in phantoms]
    table = make_table(names, [f"{root}#{name}" for name in names], grades, group=patients, eye=eyes)
    return Source(root=root, table=table, classes=ICDR, images=np.stack([phantom.image for phantom in phantoms]))
