"""Assemble: from decoded shards and the table of a source to the tables and the card of a prepared set.

This finds copies, decides splits and lists what is left out. The card, which says what the set was made from, is
written last: a run that is interrupted before that is repeated.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.config import build
from foveal.console import say, show_table, warn
from foveal.files import write_json, write_table
from foveal.fundus.preparation import Preparation
from foveal.fundus.quality import FLAGS, UNGRADABLE
from foveal.sets.corrections import CHANGES, apply_corrections, later_names
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.duplicates import describe_pairs, find_duplicates
from foveal.sets.growth import changes_of, check_moves, earlier_set, moves_of, pictures_of, report_growth
from foveal.sets.records import COLUMNS, COLUMNS_FILE, PreparedSet, counts_of, open_prepared, torn_copies, validate
from foveal.sets.shards import FACTS, Shards, read_facts
from foveal.sets.splits import SplitOptions, decide_splits
from foveal.sources.cards import Card
from foveal.sources.source import KEPT, Source
from foveal.sources.tables import usual_columns

UNNAMED = ("folder", "table", "phantom")  # two of these sources may use one name for different patients


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What a prepared set is made from, besides its shards.

    stamps: size and time of change of each file, as in the shards. asked: the options as they were given.
    identity: under which names of patients mean one person; it stays when the source moves.
    """

    name: str
    identity: str
    card: Card
    source: Source
    stamps: list[str]
    scale: str
    preparation: Preparation
    asked: dict[str, Any]
    source_hash: str


def assemble(folder: Path, assembly: Assembly, *, grows: bool = False, accept_moves: bool = False) -> None:
    """Write records.csv, measures.csv, duplicates.csv, rejected.csv, columns.csv and card.json.

    grows: `folder` is an existing set. Its splits stay, and it can be opened at any moment while it is extended.
    FovealError, before anything is written, where images would change sides (without `accept_moves`), or where
    corrections disagree with the new labels.
    """
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
    # Exact copies and, among photographs, near ones.
    copies = find_duplicates(pictures_of(records, Shards(folder / "images")), near=assembly.card.fundus)
    pairs = describe_pairs(records, records, copies)
    options = build(SplitOptions, {name: assembly.asked[name] for name in SplitOptions.__annotations__})
    earlier = earlier_set(folder, records, assembly.card.fundus) if grows else None
    decided = earlier.splits if earlier else {}
    if assembly.name == "joined" and set(decided.values()) - {"unlabelled"} <= set(records["split"]):
        options = replace(options, val=0.0, test=0.0)  # what its sets decided stays; sets of version 0.1 may have more
    records, left_out = decide_splits(records, copies, options, decided)
    rejected.append(left_out)
    records["label"] = records["label"].astype("Int64")
    records = records.assign(source=records.get("source", ""), camera=cameras(records))
    validate(records, list(source.classes), str(source.root))
    measured = [name for name in facts.columns if name not in FACTS and name != "shard"]
    tables = {"measures.csv": records[["id", *measured, "fingerprint"]]}
    if kept := [name for name in records.columns if name.startswith(KEPT)]:
        tables[COLUMNS_FILE] = records[["id", *kept]].rename(columns=lambda name: name.removeprefix(KEPT))
    if earlier:
        moves = moves_of(earlier, records, left_out)
        check_moves(moves, folder, accept_moves)
        changes = changes_of(earlier, moves, folder)
        if (folder / CORRECTIONS).is_file():
            names = later_names(changes, records["id"])
            apply_corrections(records, folder / CORRECTIONS, list(source.classes), names=names)
        report_growth(earlier, records, folder)
        if len(changes):
            write_table(folder / CHANGES, changes)
        write_passage(folder, earlier.records, pairs, tables)
    write_table(folder / "records.csv", records[list(COLUMNS)])
    tables |= {"duplicates.csv": pairs, "rejected.csv": pd.concat(rejected)[["file", "reason"]]}
    for name, table in tables.items():
        write_table(folder / name, table)
    if not kept:
        (folder / COLUMNS_FILE).unlink(missing_ok=True)
    write_card(folder, assembly, records, sum(map(len, rejected)))


def write_passage(folder: Path, before: pd.DataFrame, pairs: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> None:
    """Write the other tables so that they fit both the old records.csv (`before`) and the new one.

    Rows of images that are no longer in the source stay; pairs that are in different old splits are left out.
    """
    for name, table in tables.items():
        file = folder / name
        old = pd.read_csv(file, dtype=str, keep_default_na=False) if file.is_file() else pd.DataFrame({"id": []})
        write_table(file, pd.concat([table, old[~old["id"].isin(table["id"])]]))
    write_table(folder / "duplicates.csv", pairs[~torn_copies(before, pairs)])


def cameras(records: pd.DataFrame) -> pd.Series | str:
    """The camera of each image, from a column of the source's table with a usual name; "" where there is none."""
    others = records[[name for name in records.columns if name.startswith(KEPT)]].rename(
        columns=lambda name: name.removeprefix(KEPT)
    )
    named = usual_columns(others, "camera")
    return others[named[0]].fillna("") if named else ""


def drop_ungradable(records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(records that can be graded, the others with a `reason`)."""
    words = records["flags"].str.split().map(lambda flags: ", ".join(word for word in flags if word in UNGRADABLE))
    bad = words != ""
    return records[~bad].reset_index(drop=True), records[bad].assign(reason="cannot be graded: " + words[bad])


def write_card(folder: Path, assembly: Assembly, records: pd.DataFrame, rejected: int) -> None:
    """Write card.json: what the set is, where it comes from, how it was made, and its counts."""
    card, source, classes = assembly.card, assembly.source, list(assembly.source.classes)
    facts = {
        "name": assembly.name,
        "title": card.title,
        "task": (card.task if card.task != "auto" else source.task or "none") if classes else "none",
        "classes": classes,
        "scale": assembly.scale,
        "fundus": card.fundus,
        "source": assembly.asked["source"],
        "identity": assembly.identity,
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


def identity_of(name: str, asked: dict[str, Any]) -> str:
    """Under which name the patients of a new set mean one person."""
    if name not in UNNAMED:
        return name
    drawn = f" {asked['seed']}" if name == "phantom" else ""
    return f"{name} {', '.join(asked['source'])}{drawn}"


def report(out: Path) -> None:
    """Print what was made: images per split and class, copies, flags, and how many images were not used."""
    prepared = open_prepared(out)
    counts = prepared.card["counts"]
    rows = []
    for split, found in counts.items():
        rows.append([split, *map(str, [found["images"], *(found["per_class"].get(c, "") for c in prepared.classes)])])
    show_table(f"{out}: {prepared.card['title']}, {prepared.size} px", ["split", "images", *prepared.classes], rows)
    for option, part in (("labelled", "train"), ("unlabelled", "unlabelled")):
        there, asked = counts.get(part, {"images": 0})["images"], prepared.card["asked"][option]
        if there < asked or (option == "labelled" and 0 < asked < there):
            why = "; the images of a patient stay together" if option == "labelled" else ""
            warn(f"--{option} {asked:,}: there are {there:,} such images{why}")
    copies = pd.read_csv(out / "duplicates.csv")
    if len(copies):
        kinds = ", ".join(f"{count} {kind}" for kind, count in copies["kind"].value_counts().items())
        say(f"{len(copies)} pairs of copies ({kinds}), each pair in one split: {out / 'duplicates.csv'}")
    if conflicts := int(copies["conflict"].sum()):
        warn(f"{conflicts} of them have different labels")
    if prepared.card["rejected"]:
        warn(f"{prepared.card['rejected']} images are not used; reasons: {out / 'rejected.csv'}")
    for flag, count in prepared.records["flags"].str.split().explode().value_counts().items():
        say(f"  {count:>6} {flag}: {FLAGS.get(str(flag), 'a flag of the source')}")
    say_patients(prepared)


def say_patients(prepared: PreparedSet) -> None:
    """Print how many patients are known; a warning where that is not so for all photographs."""
    groups = prepared.records["group"]
    unknown = int(((groups == "") | groups.str.startswith("copies-")).sum())
    if not prepared.card["fundus"] or not len(groups):
        return
    if unknown:
        what = "no patient is known" if unknown == len(groups) else f"the patient of {unknown:,} images is unknown"
        warn(f"{what}: two photographs of one person may be in training and test; --group-column names the patients")
    else:
        say(f"{groups.nunique():,} patients or examinations, each in one part")
