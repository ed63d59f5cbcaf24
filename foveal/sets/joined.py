"""Several prepared sets made one: their shards are linked or copied, never decoded again.

Labels mix only where all sets are on one scale. Splits, patients and what was measured stay; copies of one picture
in two sets are found afterwards, as in any other set.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pandas as pd

from foveal.fundus.preparation import Preparation
from foveal.sets.records import PreparedSet, check_alike, open_prepared, patients
from foveal.sets.shards import read_facts
from foveal.sources.cards import Card
from foveal.sources.source import KEPT, Source

COLUMNS = ["id", "file", "label", "split", "group", "eye", "flags"]


def load(paths: Sequence[Path]) -> tuple[str, Card, Source, Preparation]:
    """Name, card, the joined table, and how all sets were prepared.

    Raises ValueError when the sets differ in preparation or scale, when one is none, or is given twice.
    """
    if len(paths) < 2:
        raise ValueError(f"{paths[0]} is a prepared set already; give two or more to join them, or a source to prepare")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"a set is given twice: {', '.join(map(str, paths))}")
    sets = [open_prepared(path) for path in paths]
    check_alike(sets, "to join them")
    check_scales(sets)
    tables = []
    for prefix, prepared in zip(prefixes(paths), sets, strict=True):
        table = prepared.records[COLUMNS].join(prepared.columns.add_prefix(KEPT), on="id")
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
    return "joined", card, source, Preparation(**cards[0]["options"])


def check_scales(sets: Sequence[PreparedSet]) -> None:
    """Raise ValueError unless those of the sets that have labels are on one scale, with one number of classes."""
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


def bring_shards(paths: Sequence[Path], images: Path) -> None:
    """Link or copy the shards of all sets to `images`, numbered on; those that are there already stay."""
    images.mkdir(parents=True, exist_ok=True)
    numbers = count()
    for prefix, path in zip(prefixes(paths), paths, strict=True):
        for shard, part in read_facts(path / "images").groupby("shard", sort=True):
            number = next(numbers)
            array, table = images / f"{number:05d}.npy", images / f"{number:05d}.csv"
            if not table.exists():
                array.unlink(missing_ok=True)
                _link(path / "images" / f"{shard:05d}.npy", array)
                partial = table.with_suffix(".partial")
                renamed = part.drop(columns="shard").assign(file=prefix + "/" + part["file"])
                renamed.to_csv(partial, index=False, lineterminator="\n")
                partial.replace(table)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # a shard is never changed once it is written: both sets may share it
    except OSError:
        partial = target.with_suffix(".copy")
        shutil.copyfile(source, partial)
        partial.replace(target)


def stamps(paths: Sequence[Path], source: Source) -> list[str]:
    """The stamp of each original file, as it was when the file was decoded."""
    known = {
        f"{prefix}/{file}": stamp
        for prefix, path in zip(prefixes(paths), paths, strict=True)
        for file, stamp in read_facts(path / "images")[["file", "stamp"]].itertuples(index=False)
    }
    return [known[file] for file in source.table["file"]]
