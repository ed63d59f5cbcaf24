"""Records: the prepared set, a folder that any tool can read; see docs/reference/files.md."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.console import say
from foveal.errors import FovealError
from foveal.files import read_json
from foveal.page.words import counted
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.corrections import apply_corrections, later_names, read_changes, read_corrections
from foveal.sets.shards import Shards, gather
from foveal.sources.patients import hashes_of, patients_and_eyes
from foveal.sources.source import SPLITS

HASHED = "(?:name|dicom)-[0-9a-f]{16}"  # the patient of a photograph that a server kept
COLUMNS_FILE = "columns.csv"
COLUMNS = ("id", "file", "label", "split", "group", "eye", "source", "camera", "width", "height", "sha256",
           "file_sha256", "flags", "shard", "row")  # fmt: skip
ADDED = ("source", "camera", "file_sha256")  # columns that sets of earlier versions lack


@dataclass(frozen=True)
class PreparedSet:
    """A prepared set that was opened and checked; `records` has the columns of records.csv."""

    path: Path
    records: pd.DataFrame
    card: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the prepared images in pixels."""
        return int(self.card["options"]["size"])

    @property
    def channels(self) -> int:
        """3 (RGB) or 1 (grey)."""
        return int(self.card["options"]["channels"])

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self.card["classes"])

    @cached_property
    def shards(self) -> Shards:
        """By number, memory-mapped uint8 [n, S, S, C]."""
        return Shards(self.path / "images")

    @cached_property
    def measures(self) -> pd.DataFrame:
        """The measures of each image, in the order of `records`; only `id` and `fingerprint` for arrays."""
        measures = pd.read_csv(self.path / "measures.csv", dtype={"id": str, "fingerprint": str}, keep_default_na=False)
        return measures.set_index("id").loc[self.records["id"]].reset_index()

    @cached_property
    def columns(self) -> pd.DataFrame:
        """Other columns of the source's table, as text, by id; without columns where it had none."""
        if not (file := self.path / COLUMNS_FILE).is_file():
            return pd.DataFrame(index=pd.Index([], name="id"))
        return pd.read_csv(file, dtype=str, keep_default_na=False).set_index("id")

    def part(self, *splits: str) -> pd.DataFrame:
        """The records of these splits, in file order; FovealError for unknown ones."""
        if strange := set(splits) - {*SPLITS}:
            raise FovealError("split.unknown", f"no split is called {', '.join(strange)}", expected=", ".join(SPLITS))
        return self.records[self.records["split"].isin(splits)]

    def pixels(self, records: pd.DataFrame) -> np.ndarray:
        """uint8 [n, S, S, C]: the images of `records`, in their order."""
        if not len(records):
            return np.empty((0, self.size, self.size, self.channels), np.uint8)
        return gather(self.shards, records["shard"].to_numpy(), records["row"].to_numpy())


def open_prepared(path: str | PathLike[str]) -> PreparedSet:
    """Open a prepared set; FovealError if something is missing or wrong."""
    path = Path(path)
    for name in ("records.csv", "card.json", "measures.csv", "duplicates.csv", "images"):
        if not (path / name).exists():
            there = f"is not a complete prepared set: it has no {name}" if path.exists() else "does not exist"
            raise FovealError("set.incomplete", f"{path} {there}", fix="make one with foveal prepare")
    card = read_json(path / "card.json")
    if "identity" not in card:
        raise FovealError("set.outdated", f"{path} was made by an older version of Foveal", fix="prepare it again")
    records, corrections = read_records(path / "records.csv"), path / CORRECTIONS
    # Earlier versions did not write the source of an image; those of a joined set are in its ids.
    own = records["id"].str.partition("/")[0] if card["name"] == "joined" else path.resolve().name
    records["source"] = records["source"].where(records["source"] != "", own)
    # Computed from records.csv, since the card is written a moment later when a set is extended.
    digest = hashlib.sha256((path / "records.csv").read_bytes()).hexdigest()
    if corrections.is_file():
        names = later_names(read_changes(path), records["id"])
        records = apply_corrections(records, corrections, card["classes"], names=names)
        digest = hashlib.sha256(digest.encode() + corrections.read_bytes()).hexdigest()
        card["corrections"] = len(read_corrections(corrections))
        say(f"{path}: {counted(card['corrections'], 'correction')} of labels, from {CORRECTIONS}")
    card |= {"content_hash": digest, "counts": counts_of(records, card["classes"])}
    prepared = PreparedSet(path, records, card)
    validate(records, prepared.classes, str(path))
    copies = pd.read_csv(path / "duplicates.csv", dtype=str, keep_default_na=False)
    if len(torn := copies[torn_copies(records, copies)]):
        pair = f"such as {torn['id'].iloc[0]} and {torn['other'].iloc[0]}"
        raise FovealError("split.copies", f"{path}: {counted(len(torn), 'pair')} of copies in different parts, {pair}")
    for number, last in records.groupby("shard")[["row"]].max().itertuples(name=None):
        if prepared.shards.rows(number) <= last:
            what = f"{path}: images/{number:05d}.npy is missing, or shorter than records.csv says"
            raise FovealError("set.damaged", what, fix="copy or prepare it again")
    return prepared


def read_records(file: Path) -> pd.DataFrame:
    """records.csv with exact types: labels are nullable integers, and text stays text."""
    text = dict.fromkeys(("id", "file", "split", "group", "eye", *ADDED, "sha256", "flags"), str)
    records = pd.read_csv(file, dtype=text, keep_default_na=False, na_values={"label": [""]})
    records = records.assign(**dict.fromkeys([name for name in ADDED if name not in records], ""))
    if missing := [column for column in COLUMNS if column not in records]:
        raise FovealError("table.missing_column", f"{file} has no column {', '.join(missing)}")
    return records.astype({"label": "Int64", "shard": "int64", "row": "int64"})


def validate(records: pd.DataFrame, classes: list[str], where: str) -> None:
    """FovealError for repeated ids, unknown splits, labels outside the classes, or a group in several splits."""
    labels, bare = records["label"].dropna(), records["label"].isna() & (records["split"] != "unlabelled")
    labelled = records[records["split"].isin(("train", "val", "test")) & (records["group"] != "")]
    sides = labelled.groupby("group")["split"].nunique()
    last = f"0 to {len(classes) - 1}, for the {len(classes)} classes in card.json"
    for code, problem, found, advice in (
        ("set.repeated_id", "more than one row for", records["id"][records["id"].duplicated()].unique(), {}),
        ("split.unknown", "unknown split", sorted(set(records["split"]) - set(SPLITS)), {"expected": str(SPLITS)}),
        ("label.value", "labels", labels[~labels.between(0, len(classes) - 1)].unique(), {"expected": last}),
        ("label.missing", "not 'unlabelled', but without a label:", records["id"][bare], {}),
        ("split.group", "in more than one part: the groups", sides[sides > 1].index, {"fix": "keep each in one"}),
    ):
        if len(found):
            listed = ", ".join(map(str, list(found)[:5]))
            raise FovealError(code, f"{where}: {problem} {listed} ({len(found)})", **advice)


def counts_of(records: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Images, groups and images per class of each split that has images, as in card.json."""
    return {split: {"images": len(part), "groups": len({*part["group"]} - {""}), "per_class": per_class(part, classes)}
            for split in SPLITS if len(part := records[records["split"] == split])}  # fmt: skip


def per_class(records: pd.DataFrame, classes: Sequence[str]) -> dict[str, int]:
    """The number of images of each class; {} if none has a label."""
    labels = records["label"].dropna()
    return {name: int((labels == n).sum()) for n, name in enumerate(classes)} if len(labels) else {}


def patients(card: dict[str, Any], groups: pd.Series) -> pd.Series:
    """Groups under names that are unique across sets: "eyepacs/10", "folder /data/clinic/7"; "" stays "".

    A group joined by copies ("a+b") stands for all its patients. In a joined set the groups have such names already.
    """
    if card["name"] == "joined":
        return groups
    prefix = card["identity"]
    return (f"{prefix}/" + groups.str.replace("+", f"+{prefix}/", regex=False)).where(groups != "", "")


def link_kept(groups: pd.Series, ids: pd.Series) -> pd.Series:
    """Patients from `patients`, with those that a server knows by a hash under the names that other sets give them.

    The name is the group of an image, or the patient in its id. If several sets have such a patient, all of them become
    one: which of them the server means is not known.
    """
    wanted, owners = set(groups.str.findall(HASHED).explode().dropna()), dict[str, dict[str, None]]()
    for group, name in zip(groups, ids, strict=True) if wanted else ():
        if not re.search(HASHED, group):
            own, _ = patients_and_eyes([str(name).rpartition("/")[2]])
            for part in filter(None, group.split("+")):
                for text in (part.rpartition("/")[2], *filter(None, own)):
                    for digest in hashes_of(text) & wanted:
                        owners.setdefault(digest, {})[part] = None
    known = {name: "+".join(parts) for digest, parts in owners.items() for name in (digest, *parts)}
    names = groups.map(lambda group: [known.get(part, known.get(part[part.rfind("/") + 1 :], part))
                                      for part in group.split("+")])  # fmt: skip
    return names.map(lambda parts: "+".join(dict.fromkeys("+".join(parts).split("+")))) if owners else groups


def check_alike(sets: Sequence[PreparedSet], purpose: str) -> None:
    """FovealError unless all sets were prepared in one way; purpose: such as "to join them"."""
    for other in sets[1:]:
        if different := differing(sets[0].card, other.card):
            what = f"{sets[0].path} and {other.path} were not prepared alike ({different})"
            raise FovealError("set.not_alike", what, fix=f"prepare them with the same options {purpose}")


def differing(first: dict[str, Any], other: dict[str, Any], but: Sequence[str] = ()) -> str:
    """The options of preparation in which two cards differ, without those in `but`: "size 512 and 224"."""
    ours, theirs = first["options"], other["options"]
    names = [name for name in sorted((ours.keys() | theirs.keys()) - set(but)) if ours.get(name) != theirs.get(name)]
    return ", ".join(f"{name} {ours.get(name)} and {theirs.get(name)}" for name in names)


def torn_copies(records: pd.DataFrame, copies: pd.DataFrame) -> pd.Series:
    """bool [n]: which pairs of `copies` are in two different splits among train, val and test."""
    sides = records.set_index("id")["split"].replace("unlabelled", "")
    first, second = (copies[name].map(sides).fillna("") for name in ("id", "other"))
    return (first != second) & (first != "") & (second != "")
