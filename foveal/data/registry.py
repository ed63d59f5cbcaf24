"""The sources by name: which of them knows a folder, and what it reads there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from foveal.console import say
from foveal.data import (
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
from foveal.data.cards import CARDS
from foveal.data.records import SPLITS
from foveal.data.source import Source, SourceOptions

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
    source = SOURCES[name].load(root, options)
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
