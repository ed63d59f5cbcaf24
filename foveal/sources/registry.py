"""The sources by name: which of them recognises a folder, and what it reads there."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from foveal.console import say
from foveal.errors import FovealError
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

# The first one that recognises a folder reads it, so the most specific ones come first.
SOURCES = {
    "phantom": phantom_source, "messidor2": messidor2, "idrid": idrid, "ddr": ddr, "deepdrid": deepdrid,
    "aptos2019": aptos, "eyepacs": eyepacs, "messidor": messidor, "retinamnist": retinamnist, "medmnist": medmnist,
    "mnist": mnist, "cifar10": cifar10, "table": table, "folder": folder,
}  # fmt: skip
DatasetName = Literal[
    "auto", "phantom", "messidor2", "idrid", "ddr", "deepdrid", "aptos2019", "eyepacs", "messidor", "retinamnist",
    "medmnist", "mnist", "cifar10", "table", "folder",
]  # fmt: skip

COLUMNS = ("image", "label", "group", "split")
# What the libraries that read these files raise where a file is truncated or of another kind.
DAMAGE = (
    OSError, EOFError, KeyError, ValueError, struct.error, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError,
)  # fmt: skip


def read_source(root: Path, dataset: str, options: SourceOptions) -> tuple[str, Source]:
    """The name of the source at `root` and what it holds; prints how it was recognised, and its notes.

    dataset: a key of SOURCES, or "auto". FovealError where no source recognises `root`, where it is damaged or names an
    image twice, and for a split other than train, val, test and unlabelled.
    """
    if not phantom_source.recognise(root) and not root.exists():
        raise FovealError("source.missing", f"there is no file or folder {root}")
    name = _recognise(root) if dataset == "auto" else dataset
    columns = [f"--{what}-column" for what in COLUMNS if getattr(options, f"{what}_column")]
    if columns and name != "table":
        conflict = f"{', '.join(columns)} applies to tables, but {root} is read as {name}"
        raise FovealError("option.conflict", conflict, fix="read it as a table with --dataset table")
    try:
        source = SOURCES[name].load(root, options)
    except FovealError:
        raise
    except DAMAGE as error:
        damaged = f"{root} cannot be read as {name} ({error}): it may be truncated or damaged"
        raise FovealError("source.damaged", damaged) from error
    _check(source, root)
    for note in filter(None, source.notes):
        say(f"  {note}")
    return name, source


def _recognise(root: Path) -> str:
    known = (name for name, source in SOURCES.items() if source.recognise(root))
    name = next(known, None)
    if name is None:
        names = ", ".join(SOURCES)
        raise FovealError("source.unknown", f"no source recognises {root}", fix=f"choose one with --dataset: {names}")
    say(f"{root} is read as {name} ({CARDS[name].title}). Layout: {CARDS[name].layout}")
    return name


def _check(source: Source, root: Path) -> None:
    """FovealError for names that cannot be written into a table, repeated ids, unknown splits and invalid arrays."""
    table, images = source.table, source.images
    bad = [name for column in ("file", "id") for name in table[column] if not _is_text(name)]
    if bad:
        listed = ", ".join(repr(name) for name in bad[:5])
        named = f"{root} holds names that are not UTF-8 or contain a line break: {listed}"
        raise FovealError("source.names", named, fix="rename these files")
    if images is not None and (images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3)):
        found = f"{root} holds images {images.dtype} {images.shape}"
        raise FovealError("source.arrays", found, expected="uint8 [n, h, w, 1 or 3]")
    repeated = table["id"][table["id"].duplicated()].unique()
    if len(repeated):
        twice = f"{root} names {len(repeated)} images more than once: {', '.join(repeated[:5])}"
        raise FovealError("table.duplicate_image", twice, fix="keep one row of each")
    unknown = table[~table["split"].isin([*SPLITS, ""])].head(1)
    for name, split in zip(unknown["id"], unknown["split"], strict=True):
        raise FovealError("split.unknown", f"{root}: the split of {name} is '{split}'", expected=", ".join(SPLITS))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\r" not in name and "\0" not in name


def list_cards() -> None:
    """Print what is known about each source, in the order of SOURCES."""
    for name in SOURCES:
        card = CARDS[name]
        say(f"{name}: {card.title}", style="bold")
        scale = "" if card.scale == "none" else f"{card.scale}: {', '.join(card.classes)}"
        facts = {"images": card.counts, "scale": scale, "files": card.layout}
        for what, fact in {**facts, "licence": card.licence, "reference": card.reference}.items():
            if fact:
                say(f"  {what:<10}{fact}")
