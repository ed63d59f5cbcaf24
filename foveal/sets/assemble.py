"""Assemble: from decoded shards and the table of a source to the tables and the card of a prepared set.

The card, which says how the set was made, is written last: a run that is interrupted before that is repeated.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.console import say, show_table, warn
from foveal.files import write_json, write_table
from foveal.fundus.preparation import Preparation
from foveal.fundus.quality import FLAGS, UNGRADABLE
from foveal.page.words import counted
from foveal.sets import corrections, growth
from foveal.sets.duplicates import describe_pairs, find_duplicates
from foveal.sets.options import PrepareConfig
from foveal.sets.records import COLUMNS, COLUMNS_FILE, counts_of, open_prepared, read_records, torn_copies, validate
from foveal.sets.shards import FACTS, Shards, read_facts
from foveal.sets.splits import decide_splits
from foveal.sources.cards import Card
from foveal.sources.columns import usual_columns
from foveal.sources.source import KEPT, Source


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What a set is made from, besides shards; identity: the source within which a patient's name means one person."""

    name: str
    identity: str
    config: PrepareConfig
    card: Card
    source: Source
    stamps: list[str]
    scale: str
    preparation: Preparation
    source_hash: str


def assemble(folder: Path, assembly: Assembly, *, grows: bool = False) -> None:
    """Write records.csv, measures.csv, duplicates.csv, rejected.csv, columns.csv and card.json.

    grows: `folder` is an existing set, whose splits stay, and which can be opened at any moment. FovealError, before
    anything is written, if images would move to another part, or if corrections disagree with the new labels.
    """
    source, config, photographs = assembly.source, assembly.config, assembly.card.fundus
    classes = list(source.classes)
    facts, shards = read_facts(folder / "images"), Shards(folder / "images")
    records = source.table.merge(facts, on="file", how="left", validate="m:1", suffixes=("_source", ""))
    records["flags"] = (records.pop("flags_source") + " " + records["flags"]).str.strip()
    unread = records["reason"] != ""
    records, rejected = records[~unread].reset_index(drop=True), [records[unread]]
    if config.drop_ungradable:
        words = records["flags"].str.split().map(lambda flags: ", ".join(word for word in flags if word in UNGRADABLE))
        rejected.append(records[words != ""].assign(reason="cannot be graded: " + words))
        records = records[words == ""].reset_index(drop=True)
    copies = find_duplicates(growth.pictures_of(records, shards), near=photographs)
    pairs = describe_pairs(records, records, copies)
    records = records.assign(was=records["id"], before="")
    if grows:
        prints = pd.read_csv(folder / "measures.csv", dtype={"id": str, "fingerprint": str}, keep_default_na=False)
        earlier = read_records(folder / "records.csv").join(prints.set_index("id")["fingerprint"], on="id")
        records, same = growth.follow(records, earlier, shards, photographs)
        copies = pd.concat([copies, growth.keep_patients(records, earlier, same)], ignore_index=True)
    if assembly.name == "joined" and set(records["before"]) - {"", "unlabelled"} <= set(records["split"]):
        config = replace(config, val=0.0, test=0.0)  # what its sets decided stays; sets of version 0.1 may have more
    records, left_out = decide_splits(records, copies, config)
    about = ["file", "reason"]
    rejected.append(left_out[about])  # of photographs that were not seen, patient and label are kept, too
    kept = [name for name in records.columns if name.startswith(KEPT)]
    others = records[kept].rename(columns=lambda name: name.removeprefix(KEPT))
    camera = others[named[0]].fillna("") if (named := usual_columns(others, "camera")) else ""
    records = records.assign(source=records.get("source", ""), camera=camera)
    validate(records, classes, str(source.root))
    measured = [name for name in facts.columns if name not in FACTS and name != "shard"]
    tables = {"measures.csv": records[["id", *measured, "fingerprint"]]}
    if kept:
        tables[COLUMNS_FILE] = pd.concat([records["id"], others], axis=1)
    if grows:
        moves = growth.moves_of(records, left_out)
        growth.check_moves(moves, folder, config.accept_moves)
        rows = [corrections.read_changes(folder), same.astype(str), moves.drop(columns="accept").assign(change="moved")]
        changes = pd.concat(rows).fillna("").drop_duplicates(ignore_index=True)
        if (folder / corrections.FILE).is_file():
            names = corrections.later_names(changes, records["id"])
            corrections.apply_corrections(records, folder / corrections.FILE, classes, names=names)
        changes = pd.concat([changes, growth.relabelled(earlier, records, classes)]).fillna("").drop_duplicates()
        growth.report_growth(earlier, same, records, folder)
        if len(changes):
            write_table(folder / corrections.CHANGES, changes)
        for name, table in tables.items():  # they fit both the old records.csv and the new one, which follows
            old = pd.read_csv(folder / name, dtype=str, keep_default_na=False) if (folder / name).is_file() else table
            write_table(folder / name, pd.concat([table, old[~old["id"].isin(table["id"])]]))
        write_table(folder / "duplicates.csv", pairs[~torn_copies(earlier, pairs)])
    write_table(folder / "records.csv", records[list(COLUMNS)])
    unseen = [*about, "id", "label", "group", "eye"] if any(map(len, rejected[:-1])) else about
    tables |= {"duplicates.csv": pairs, "rejected.csv": pd.concat(rejected).reindex(columns=unseen)}
    for name, table in tables.items():
        write_table(folder / name, table)
    if COLUMNS_FILE not in tables:
        (folder / COLUMNS_FILE).unlink(missing_ok=True)
    write_card(folder, assembly, records, sum(map(len, rejected)))


def write_card(folder: Path, assembly: Assembly, records: pd.DataFrame, rejected: int) -> None:
    """Write card.json: what the set is, where it comes from, how it was made, and its counts."""
    card, source, classes = assembly.card, assembly.source, list(assembly.source.classes)
    task = card.task if card.task != "auto" else source.task or "none"
    write_json(folder / "card.json", {
        "name": assembly.name, "title": card.title, "task": task if classes else "none", "classes": classes,
        "scale": assembly.scale, "fundus": card.fundus, "source": assembly.config.asked["source"],
        "identity": assembly.identity, "options": assembly.preparation.as_dict(), "asked": assembly.config.asked,
        "counts": counts_of(records, classes), "rejected": rejected, "licence": card.licence,
        "reference": card.reference, "source_hash": assembly.source_hash,
        "content_hash": hashlib.sha256((folder / "records.csv").read_bytes()).hexdigest(),
    })  # fmt: skip


def report(out: Path) -> None:
    """Print what was made: images per split and class, copies, flags, and how many images were not used."""
    prepared = open_prepared(out)
    counts, classes = prepared.card["counts"], prepared.classes
    rows = [[split, f"{found['images']}", *(str(found["per_class"].get(name, "")) for name in classes)]
            for split, found in counts.items()]  # fmt: skip
    show_table(f"{out}: {prepared.card['title']}, {prepared.size} px", ["split", "images", *classes], rows)
    for option, part in (("labelled", "train"), ("unlabelled", "unlabelled")):
        there, asked = counts.get(part, {"images": 0})["images"], prepared.card["asked"][option]
        if option == "labelled" and asked and there != asked:
            why = ("there are no more, or " if there < asked else "") + "the images of a patient stay together"
            warn(f"--labelled {asked:,} keeps the labels of {counted(there, 'training image')}: {why}")
        elif there < asked:
            warn(f"--{option} {asked:,}: the source has {counted(there, 'such image')}")
    if len(copies := pd.read_csv(out / "duplicates.csv")):
        kinds = ", ".join(f"{count} {kind}" for kind, count in copies["kind"].value_counts().items())
        say(f"{counted(len(copies), 'pair')} of copies ({kinds}), each pair in one part: {out / 'duplicates.csv'}")
    if conflicts := int(copies["conflict"].sum()):
        warn(f"different labels in {conflicts} of them")
    if prepared.card["rejected"]:
        warn(f"not used: {counted(prepared.card['rejected'], 'image')}; reasons: {out / 'rejected.csv'}")
    for part, asked in ((part, prepared.card["asked"].get(part)) for part in ("val", "test")):
        if asked and "train" in prepared.card["counts"] and part not in prepared.card["counts"]:
            warn(f"the {part} part is empty, although --{part} is {asked}: too few patients, or the source has parts")
    for flag, count in prepared.records["flags"].str.split().explode().value_counts().items():
        say(f"  {count:>6} {flag}: {FLAGS.get(str(flag), 'a flag of the source')}")
    say_patients(prepared.card, prepared.records["group"])


def say_patients(card: dict[str, Any], groups: pd.Series) -> None:
    """Print how many patients are known; warn if some photographs have no known patient."""
    unknown = int(((groups == "") | groups.str.startswith("copies-")).sum())
    if unknown and card["fundus"]:
        some = f"the patient of {counted(unknown, 'image')} is unknown"
        what = "no patient is known" if unknown == len(groups) else some
        way = "as (images, labels, patients)" if card["name"] == "given" else "with prepare --group-column"
        warn(f"{what}: photographs of one person may be in training and test; name the patients {way}")
    elif len(groups) and card["fundus"]:
        say(f"{counted(groups.nunique(), 'patient')} (or examinations), each in one part")
