"""Several prepared sets joined into one: their shards are linked or copied, never decoded again.

Only sets whose labels are on one scale can be joined. Splits, patients and measures stay; afterwards copies of one
picture in two sets are searched for, as in any other set. Each image keeps its `source`: the name of the set's folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from foveal.errors import FovealError
from foveal.files import replacing, write_table
from foveal.fundus.preparation import Preparation
from foveal.sets.records import PreparedSet, check_alike, open_prepared, patients
from foveal.sets.shards import read_facts, shard_numbers
from foveal.sources.cards import Card
from foveal.sources.source import KEPT, Source

COLUMNS = ["id", "file", "label", "split", "group", "eye", "flags"]


def load(paths: Sequence[Path]) -> tuple[str, Card, Source, Preparation, list[str]]:
    """Name, card, joined table, how all sets were prepared, and the stamp of each file when it was decoded.

    FovealError for a single set, one that is given twice, or sets that differ in preparation or scale.
    """
    if len(paths) < 2:
        fix = "give two or more sets to join them, or a source to prepare"
        raise FovealError("set.single", f"{paths[0]} is a prepared set already", fix=fix)
    if len({path.resolve() for path in paths}) < len(paths):
        raise FovealError("set.repeated", f"a set is given twice: {', '.join(map(str, paths))}")
    sets = [open_prepared(path) for path in paths]
    check_alike(sets, "to join them")
    check_scales([prepared for prepared in sets if prepared.classes])
    tables, stamps = [], []
    for prefix, prepared in zip(prefixes(paths), sets, strict=True):
        table = prepared.records[COLUMNS].join(prepared.columns.add_prefix(KEPT), on="id")
        stamps += table["file"].map(read_facts(prepared.path / "images").set_index("file")["stamp"]).tolist()
        table["source"] = _sources(prefix, prepared)
        for column in ("id", "file"):
            table[column] = prefix + "/" + table[column]
        table["group"] = patients(prepared.card, table["group"])  # two sets may use one name for two patients
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
        root=paths[0], table=pd.concat(tables, ignore_index=True), classes=tuple(labelled["classes"]),
        scale=labelled["scale"], task=labelled["task"],
    )  # fmt: skip
    return "joined", card, source, Preparation(**cards[0]["options"]), stamps


def check_scales(labelled: Sequence[PreparedSet]) -> None:
    """FovealError unless all sets have one scale and one number of classes."""
    for other in labelled[1:]:
        ours, theirs = _scale(labelled[0]), _scale(other)
        if ours != theirs:
            what = f"{labelled[0].path} is on {ours}, {other.path} on {theirs}: they cannot be joined"
            fix = 'prepare both with the same classes (--classes, such as "0,1,2,3+4") and, where these mean the same, '
            raise FovealError("set.scales", what, fix=fix + "the same --scale")


def _scale(prepared: PreparedSet) -> str:
    scale = prepared.card["scale"]
    names = f" ({', '.join(prepared.classes)})" if scale == "none" else ""
    return f"'{scale}' with {len(prepared.classes)} classes{names}"


def prefixes(paths: Sequence[Path]) -> list[str]:
    """A name for each set, that of its folder; numbered where two folders have the same name."""
    names = [path.resolve().name for path in paths]
    return [name if names.count(name) == 1 else f"{name}-{n}" for n, name in enumerate(names, start=1)]


def joined_sources(paths: Sequence[Path], sets: Sequence[PreparedSet]) -> list[str]:
    """The names of the sources that these sets will have when they are joined."""
    pairs = zip(prefixes(paths), sets, strict=True)
    return list(dict.fromkeys(name for prefix, prepared in pairs for name in _sources(prefix, prepared)))


def _sources(prefix: str, prepared: PreparedSet) -> pd.Series:
    """The source of each record: a joined set keeps its own, any other is one source, named by its prefix."""
    own = prepared.records["source"]
    return own if prepared.card["name"] == "joined" else pd.Series(prefix, index=own.index)


def bring_shards(paths: Sequence[Path], images: Path) -> None:
    """Link or copy to `images` the shards of all sets whose files are not there yet, under the next numbers."""
    images.mkdir(parents=True, exist_ok=True)
    here = read_facts(images)
    known = set(zip(here["file"], here["stamp"], strict=True))
    number = max(shard_numbers(images), default=-1) + 1
    for prefix, path in zip(prefixes(paths), paths, strict=True):
        facts = read_facts(path / "images")
        for shard, rows in facts.assign(file=prefix + "/" + facts["file"]).groupby("shard", sort=True):
            part = rows.drop(columns="shard")
            if not known.issuperset(zip(part["file"], part["stamp"], strict=True)):
                _link(path / "images" / f"{shard:05d}.npy", images / f"{number:05d}.npy")
                write_table(images / f"{number:05d}.csv", part)
                number += 1


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # left by a run that was interrupted before it wrote the table
    try:
        os.link(source, target)  # both sets can share a shard, since finished shards never change
    except OSError:
        with replacing(target) as partial:
            shutil.copyfile(source, partial)
