"""The sources by name: which of them knows a folder, and what it reads there."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from foveal.console import say
from foveal.sources import (
    aptos,
    cifar10,
    ddr,
    deepdrid,
    eyepacs,
    folder,
    idrid,
    medmnist,
    messidor,
    messidor2,
    mnist,
    phantom_source,
    retinamnist,
    table,
)
from foveal.sources.cards import CARDS
from foveal.sources.source import SPLITS, Source, SourceOptions

# In the order in which they are asked whether they know a folder: the particular ones first.
SOURCES = {
    "phantom": phantom_source, "messidor2": messidor2, "idrid": idrid, "ddr": ddr, "deepdrid": deepdrid,
    "aptos2019": aptos, "eyepacs": eyepacs, "messidor": messidor, "retinamnist": retinamnist, "medmnist": medmnist,
    "mnist": mnist, "cifar10": cifar10, "table": table, "folder": folder,
}  # fmt: skip
DatasetName = Literal[
    "auto", "phantom", "messidor2", "idrid", "ddr", "deepdrid", "aptos2019", "eyepacs", "messidor", "retinamnist",
    "medmnist", "mnist", "cifar10", "table", "folder",
]  # fmt: skip


def read_source(root: Path, dataset: str, options: SourceOptions) -> tuple[str, Source]:
    """The name of the source at `root` and what it holds; says how a guess was made.

    dataset: a key of SOURCES, or "auto". Raises ValueError for what no source knows, images named twice, and splits
    of other names than train, val, test and unlabelled.
    """
    if not phantom_source.recognise(root) and not root.exists():
        raise ValueError(f"{root}: there is no such file or folder")
    name = dataset
    if name == "auto":
        known = [key for key, source in SOURCES.items() if source.recognise(root)]
        if not known:
            raise ValueError(f"{root} is no source that is known; name one with --dataset: {', '.join(SOURCES)}")
        name = known[0]
        say(f"{root} is read as {name}, {CARDS[name].title}, by its files: {CARDS[name].layout}")
    if name != "table" and any(
        (options.image_column, options.label_column, options.group_column, options.split_column)
    ):
        raise ValueError(
            f"{root} is read as {name}, where columns cannot be chosen: --dataset table reads it as a table"
        )
    try:
        source = SOURCES[name].load(root, options)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError) as error:
        raise ValueError(f"{root} cannot be read as {name}, it may be cut off or damaged: {error}") from error
    check_names(source.table, root)
    images = source.images
    if images is not None and (images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3)):
        raise ValueError(f"{root}: its images are {images.dtype} {images.shape}; uint8 [n, h, w, 1 or 3] was expected")
    for note in source.notes:
        if note:
            say(f"  {note}")
    repeated = source.table["id"][source.table["id"].duplicated()].unique()
    if len(repeated):
        raise ValueError(
            f"{root} names {len(repeated)} images more than once, {', '.join(repeated[:5])}: keep one row each"
        )
    unknown = sorted(set(source.table["split"]) - {*SPLITS, ""})
    if unknown:
        raise ValueError(f"{root}: split '{unknown[0]}' is none of {', '.join(SPLITS)}")
    return name, source


def check_names(table: pd.DataFrame, root: Path) -> None:
    """Raise ValueError for names of files or images that no table can hold."""
    for column in ("file", "id"):
        bad = [name for name in table[column] if "\r" in name or "\0" in name or not _is_text(name)]
        if bad:
            listed = ", ".join(repr(name) for name in bad[:5])
            raise ValueError(
                f"{root}: {len(bad)} names are not text (not UTF-8, or with a carriage return): {listed}; rename them"
            )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def list_cards() -> None:
    """Print what is known of each source, in the order of SOURCES."""
    for name in SOURCES:
        card = CARDS[name]
        say(f"{name}: {card.title}", style="bold")
        facts = {
            "images": card.counts,
            "scale": "" if card.scale == "none" else f"{card.scale}: {', '.join(card.classes)}",
            "files": card.layout,
            "licence": card.licence,
            "reference": card.reference,
        }
        for what, fact in facts.items():
            if fact:
                say(f"  {what:<10}{fact}")
