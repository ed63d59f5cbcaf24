"""Several prepared sets made one: their shards are linked or copied, never decoded again.

Labels mix only where all sets are on one scale. Splits, patients and what was measured stay; copies of one picture
in two sets are found afterwards, as in any other set.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.data.cards import Card
from foveal.data.records import PreparedSet, open_prepared
from foveal.data.shards import read_facts
from foveal.data.source import Source
from foveal.fundus.preparation import Preparation

COLUMNS = ["id", "file", "label", "split", "group", "eye", "flags"]


def load(paths: Sequence[Path], images: Path) -> tuple[str, Card, Source, Preparation]:
    """Bring the shards of all sets to `images`; returns name, card, the joined table and how all were prepared.

    Raises ValueError when the sets differ in preparation or scale, or when one is none.
    """
    if len(paths) < 2:
        raise ValueError(f"{paths[0]} is a prepared set already; give two or more to join them, or a source to prepare")
    sets = [open_prepared(path) for path in paths]
    check_alike(sets)
    images.mkdir(parents=True, exist_ok=True)
    tables, number = [], 0
    for prefix, prepared in zip(prefixes(paths), sets, strict=True):
        number = bring_shards(prepared, prefix, images, number)
        table = prepared.records[COLUMNS].copy()
        for column in ("id", "file"):
            table[column] = prefix + "/" + table[column]
        named = table["group"] != ""
        table["group"] = (prepared.card["name"] + ":" + table["group"]).where(named, "")
        tables.append(table)
    cards = [prepared.card for prepared in sets]
    labelled = next((card for card in cards if card["classes"]), cards[0])
    card = Card(
        title=" + ".join(dict.fromkeys(card["title"] for card in cards)),
        task=labelled["task"],
        fundus=all(card["fundus"] for card in cards),
        licence="; ".join(dict.fromkeys(card["licence"] for card in cards)),
        reference="; ".join(dict.fromkeys(card["reference"] for card in cards if card["reference"])),
    )
    source = Source(
        root=images, table=pd.concat(tables, ignore_index=True), classes=tuple(labelled["classes"]),
        scale=labelled["scale"], task=labelled["task"],
    )  # fmt: skip
    return "joined", card, source, Preparation(**cards[0]["options"])


def check_alike(sets: Sequence[PreparedSet]) -> None:
    """Raise ValueError unless all sets have one preparation, and those with labels one scale and number of classes."""
    first = sets[0]
    for other in sets[1:]:
        if other.card["options"] != first.card["options"]:
            raise ValueError(
                f"{first.path} was prepared with {first.card['options']}, {other.path} with {other.card['options']}; "
                "prepare them alike to join them"
            )
    labelled = [prepared for prepared in sets if prepared.classes]
    for other in labelled[1:]:
        ours, theirs = (_scale(prepared) for prepared in (labelled[0], other))
        if ours != theirs:
            raise ValueError(
                f"{labelled[0].path} is labelled on the scale {ours}, {other.path} on {theirs}: such labels do not "
                'mix. Prepare each with a --classes map to the same classes, as "0,1,2,3+4", and say that they mean '
                "the same with --scale and a name of your own"
            )


def _scale(prepared: PreparedSet) -> str:
    scale = prepared.card["scale"]
    names = f" ({', '.join(prepared.classes)})" if scale == "none" else ""
    return f"'{scale}' with {len(prepared.classes)} classes{names}"


def prefixes(paths: Sequence[Path]) -> list[str]:
    """A name for each set, that of its folder; numbered where two folders have the same."""
    names = [path.resolve().name for path in paths]
    return [name if names.count(name) == 1 else f"{name}-{n}" for n, name in enumerate(names, start=1)]


def bring_shards(prepared: PreparedSet, prefix: str, images: Path, number: int) -> int:
    """Link or copy the shards of one set, numbered from `number` on; returns the next free number."""
    facts = read_facts(prepared.path / "images")
    for shard, part in facts.groupby("shard", sort=True):
        array, table = images / f"{number:05d}.npy", images / f"{number:05d}.csv"
        if not table.exists():
            array.unlink(missing_ok=True)
            _link(prepared.path / "images" / f"{shard:05d}.npy", array)
            part = part.drop(columns="shard").assign(file=prefix + "/" + part["file"])  # noqa: PLW2901
            partial = table.with_suffix(".partial")
            part.to_csv(partial, index=False, lineterminator="\n")
            partial.replace(table)
        number += 1
    return number


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # a shard is never changed once it is written: both sets may share it
    except OSError:
        partial = target.with_suffix(".copy")
        shutil.copyfile(source, partial)
        partial.replace(target)


def sizes(source: Source, images: Path) -> np.ndarray:
    """int64 [n]: size of each original file in bytes, as it was when the file was decoded."""
    known = read_facts(images).set_index("file")["bytes"]
    return source.table["file"].map(known).to_numpy(np.int64)
