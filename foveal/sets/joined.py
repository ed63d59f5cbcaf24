"""Several prepared sets on one label scale joined into one: shards are linked or copied; splits and patients stay."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from foveal.errors import FovealError
from foveal.files import replacing, write_table
from foveal.fundus.preparation import Preparation
from foveal.sets.numbers import link_numbers
from foveal.sets.records import PreparedSet, check_alike, link_kept, open_prepared, patients
from foveal.sets.shards import read_facts, shard_numbers
from foveal.sources.cards import Card
from foveal.sources.source import KEPT, Source

COLUMNS = ["id", "file", "label", "split", "group", "eye", "flags"]


def load(paths: Sequence[Path]) -> tuple[str, Card, Source, Preparation, list[str]]:
    """Name, card, joined table, how all sets were prepared, and the stamp of each file when it was decoded."""
    if len(paths) < 2:
        raise FovealError("set.single", f"{paths[0]} is a prepared set already", fix="give two or more, to join them")
    if len({path.resolve() for path in paths}) < len(paths):
        raise FovealError("set.repeated", f"a set is given twice: {', '.join(map(str, paths))}")
    sets = [open_prepared(path) for path in paths]
    check_alike(sets, "to join them")
    tables, stamps, scales = [], [], dict[str, Path]()
    for prepared in (prepared for prepared in sets if prepared.classes):
        scale, classes = prepared.card["scale"], prepared.classes
        names = f" ({', '.join(classes)})" if scale == "none" else ""
        scales.setdefault(f"'{scale}' with {len(classes)} classes{names}", prepared.path)
    if len(scales) > 1:
        what = f"they cannot be joined: {', '.join(f'{path} is on {scale}' for scale, path in scales.items())}"
        fix = "prepare both with the same --classes and, if these mean the same, the same --scale"
        raise FovealError("set.scales", what, fix=fix)
    for prefix, prepared in zip(prefixes(paths), sets, strict=True):
        records = prepared.records
        stamps += records["file"].map(read_facts(prepared.path / "images").set_index("file")["stamp"]).tolist()
        tables.append(records[COLUMNS].join(prepared.columns.add_prefix(KEPT), on="id").assign(
            id=prefix + "/" + records["id"], file=prefix + "/" + records["file"], source=_sources(prefix, prepared),
            group=patients(prepared.card, records["group"])))  # two sets may use one name for two patients # fmt: skip
    whole = pd.concat(tables, ignore_index=True)
    whole["group"] = link_numbers(link_kept(whole["group"], whole["id"]))
    cards = [prepared.card for prepared in sets]
    labelled = next((card for card in cards if card["classes"]), cards[0])
    titles, licences, references = (dict.fromkeys(card[key] for card in cards if card[key])
                                    for key in ("title", "licence", "reference"))  # fmt: skip
    card = Card(title=" + ".join(titles), task=labelled["task"], fundus=all(card["fundus"] for card in cards),
                licence="; ".join(licences), reference="; ".join(references))  # fmt: skip
    source = Source(root=paths[0], table=whole, classes=tuple(labelled["classes"]), scale=labelled["scale"],
                    task=labelled["task"])  # fmt: skip
    return "joined", card, source, Preparation(**cards[0]["options"]), stamps


def prefixes(paths: Sequence[Path]) -> list[str]:
    """A name for each set, that of its folder; numbered if two folders have the same name."""
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
            if known.issuperset(zip(rows["file"], rows["stamp"], strict=True)):
                continue
            source, target = path / "images" / f"{shard:05d}.npy", images / f"{number:05d}.npy"
            target.unlink(missing_ok=True)  # left by a run that was interrupted before it wrote the table
            try:
                os.link(source, target)  # both sets can share a shard, since finished shards never change
            except OSError:
                with replacing(target) as partial:
                    shutil.copyfile(source, partial)
            write_table(images / f"{number:05d}.csv", rows.drop(columns="shard"))
            number += 1
