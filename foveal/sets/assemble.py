"""Assemble: from decoded shards and what the source says to the tables of a prepared set.

Copies are found, splits decided, and what is left out is listed; the card is written last.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.config import build
from foveal.console import say, show_table, warn
from foveal.files import write_json, write_text
from foveal.fundus.fingerprint import from_text
from foveal.fundus.preparation import Preparation
from foveal.fundus.quality import FLAGS, UNGRADABLE
from foveal.sets.duplicates import Pictures, find_duplicates
from foveal.sets.records import COLUMNS_FILE, counts_of, open_prepared, read_records, validate, write_records
from foveal.sets.shards import FACTS, Shards, gather, read_facts
from foveal.sets.splits import SplitOptions, decide_splits
from foveal.sources.cards import Card
from foveal.sources.source import KEPT, Source

UNNAMED = ("folder", "table", "phantom")  # of these sources two may use one name for different patients


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What a prepared set is made of, beside its shards; `asked` holds the options as they were given."""

    name: str
    card: Card
    source: Source
    scale: str
    preparation: Preparation
    asked: dict[str, Any]
    source_hash: str


def assemble(folder: Path, assembly: Assembly) -> None:
    """Write records.csv, measures.csv, duplicates.csv, rejected.csv and card.json, each atomically."""
    source = assembly.source
    facts = read_facts(folder / "images")
    records = source.table.merge(facts, on="file", how="left", validate="m:1", suffixes=("_source", ""))
    records["flags"] = (records.pop("flags_source") + " " + records["flags"]).str.strip()
    unread = records["reason"] != ""
    rejected = [records[unread]]
    records = records[~unread].reset_index(drop=True)
    if assembly.asked["drop_ungradable"]:
        records, ungradable = drop_ungradable(records)
        rejected.append(ungradable)
    copies = find_copies(records, folder / "images", assembly.card.fundus)
    write_table(describe_copies(records, copies), folder / "duplicates.csv")
    options = build(SplitOptions, {name: assembly.asked[name] for name in SplitOptions.__annotations__})
    records, left_out = decide_splits(records, copies, options, earlier_splits(folder))
    rejected.append(left_out)
    records["label"] = records["label"].astype("Int64")
    validate(records, list(source.classes), str(source.root))
    write_table(records[["id", *measured(facts)]], folder / "measures.csv")
    kept = [name for name in records.columns if name.startswith(KEPT)]
    if kept:
        write_table(records[["id", *kept]].rename(columns=lambda name: name.removeprefix(KEPT)), folder / COLUMNS_FILE)
    write_table(pd.concat(rejected)[["file", "reason"]], folder / "rejected.csv")
    write_records(records, folder / "records.csv")
    write_card(folder, assembly, records, sum(map(len, rejected)))


def measured(facts: pd.DataFrame) -> list[str]:
    """Names of the measures that the shards hold, the fingerprint included."""
    return [name for name in facts.columns if name not in FACTS and name != "shard"] + ["fingerprint"]


def drop_ungradable(records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(records that can be graded, the others with the `reason`)."""
    words = records["flags"].str.split().map(lambda flags: ", ".join(word for word in flags if word in UNGRADABLE))
    bad = words != ""
    return records[~bad].reset_index(drop=True), records[bad].assign(reason="cannot be graded: " + words[bad])


def find_copies(records: pd.DataFrame, images: Path, photographs: bool) -> pd.DataFrame:
    """Pairs of rows that show one picture: exact copies, and near ones among photographs."""
    shards = Shards(images)
    shard, row = records["shard"].to_numpy(), records["row"].to_numpy()
    pictures = Pictures(
        fingerprints=from_text(records["fingerprint"].tolist()),
        hashes=records["sha256"].to_numpy(),
        read=lambda index: gather(shards, shard[index], row[index]),
    )
    return find_duplicates(pictures, near=photographs)


def describe_copies(records: pd.DataFrame, copies: pd.DataFrame) -> pd.DataFrame:
    """The table of copies by id, with both labels; `conflict` is 1 where they differ."""
    first, second = (records.iloc[copies[side]].reset_index(drop=True) for side in ("first", "second"))
    both = first["label"].notna() & second["label"].notna()
    return pd.DataFrame({
        "id": first["id"], "other": second["id"], "kind": copies["kind"].to_numpy(),
        "similarity": copies["similarity"].round(3).to_numpy(), "label": first["label"], "other_label": second["label"],
        "conflict": (both & (first["label"] != second["label"])).fillna(False).astype(int),
    })  # fmt: skip


def earlier_splits(folder: Path) -> dict[str, str]:
    """id -> split of the records that were decided before, where the set is being extended."""
    if not (folder / "records.csv").is_file():
        return {}
    before = read_records(folder / "records.csv")
    return dict(zip(before["id"], before["split"], strict=True))


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write a CSV atomically."""
    write_text(file, table.to_csv(index=False, lineterminator="\n"))


def write_card(folder: Path, assembly: Assembly, records: pd.DataFrame, rejected: int) -> None:
    """Write card.json: what the set is, where it came from, how it was made, and how much there is of it."""
    card, source = assembly.card, assembly.source
    classes = list(source.classes)
    facts = {
        "name": assembly.name,
        "title": card.title,
        "task": (card.task if card.task != "auto" else source.task or "none") if classes else "none",
        "classes": classes,
        "scale": assembly.scale,
        "fundus": card.fundus,
        "source": assembly.asked["source"],
        "identity": identity(assembly),
        "options": assembly.preparation.as_dict(),
        "asked": assembly.asked,
        "counts": counts_of(records, classes),
        "rejected": rejected,
        "licence": card.licence,
        "reference": card.reference,
        "source_hash": assembly.source_hash,
        "content_hash": hashlib.sha256((folder / "records.csv").read_bytes()).hexdigest(),
    }
    write_json(folder / "card.json", facts)


def identity(assembly: Assembly) -> str:
    """What makes patients of one name the same: the published data set, else the source."""
    if assembly.name not in UNNAMED:
        return assembly.name
    drawn = f" {assembly.asked['seed']}" if assembly.name == "phantom" else ""
    return f"{assembly.name} {', '.join(assembly.asked['source'])}{drawn}"


def report(out: Path) -> None:
    """Print what was made: images per split and class, copies, flags, and what could not be used."""
    prepared = open_prepared(out)
    counts = prepared.card["counts"]
    rows = [
        [split, str(c["images"]), *(str(c["per_class"].get(name, "")) for name in prepared.classes)]
        for split, c in counts.items()
    ]
    show_table(f"{out}: {prepared.card['title']}, {prepared.size} px", ["split", "images", *prepared.classes], rows)
    for option, part, what in (
        ("labelled", "train", "labelled training images"), ("unlabelled", "unlabelled", "unlabelled images")
    ):  # fmt: skip
        found = counts.get(part, {"images": 0})["images"]
        if found < prepared.card["asked"][option]:
            warn(f"--{option} {prepared.card['asked'][option]:,} were asked for: there are {found:,} {what}")
    copies = pd.read_csv(out / "duplicates.csv")
    if len(copies):
        conflicts = int(copies["conflict"].sum())
        kinds = ", ".join(f"{count} {kind}" for kind, count in copies["kind"].value_counts().items())
        say(f"{len(copies)} pairs of copies ({kinds}), kept on one side of the split: {out / 'duplicates.csv'}")
        if conflicts:
            warn(f"{conflicts} of them have different labels")
    if prepared.card["rejected"]:
        warn(f"{prepared.card['rejected']} images are not used; {out / 'rejected.csv'} says why")
    flags = prepared.records["flags"].str.split().explode().value_counts()
    for flag, count in flags.items():
        say(f"  {count:>6} {flag}: {FLAGS.get(str(flag), 'as the source says')}")
