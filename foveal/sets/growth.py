"""Growth: what a set keeps when its source has changed, and which of its images would change sides.

A picture keeps its side (train, val, test or unlabelled) under another name too, and when it was saved again.
DATA/changes.csv lists such pictures, and the images whose side did change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.files import sha256_of
from foveal.fundus.fingerprint import from_text
from foveal.sets.candidates import Pictures
from foveal.sets.corrections import CHANGES, read_changes
from foveal.sets.duplicates import find_duplicates
from foveal.sets.records import read_records
from foveal.sets.shards import Shards, gather, read_facts
from foveal.sources.source import Source

# Of 150 photographs of Messidor-2 and APTOS, all agree as well with their copies saved at JPEG quality 90, 123 with
# those that were also halved, and 109 with those of quality 50. Of 53 second photographs of an eye, 4 do.
SAVED_AGAIN = 0.9
SAME_SOURCE = 0.9  # share of a set's files that must be in another SOURCE for it to be the same one, moved
SHOWN = 20  # rows


@dataclass(frozen=True)
class Earlier:
    """A set before it grows. same: its pictures that are now under another name, or saved again (`same_pictures`)."""

    records: pd.DataFrame
    same: pd.DataFrame

    @property
    def names(self) -> dict[str, str]:
        """Id now -> the id that its picture had; where an id has another picture now, still that id."""
        names = {name: name for name in self.records["id"]}
        return names | dict(zip(self.same["id"], self.same["was"], strict=True))

    @property
    def splits(self) -> dict[str, str]:
        """Id now -> split of its picture before."""
        sides = dict(zip(self.records["id"], self.records["split"], strict=True))
        return {name: sides[was] for name, was in self.names.items()}


def check_growth(asked: dict[str, Any], out: Path, card: dict[str, Any], source: Source) -> None:
    """FovealError where a set cannot be extended by the changes in its source; asked: the options of prepare."""
    what = f"{source.root} has changed since {out} was made"
    if source.images is not None:
        why = "its arrays have changed"
    elif asked["labelled"] or asked["unlabelled"] > 0:
        why = "--labelled and --unlabelled choose among all images"
    elif list(source.classes) != card["classes"]:
        now, then = (", ".join(classes) or "none" for classes in (source.classes, card["classes"]))
        why = f"its classes are {now} now, and were {then}"
    else:
        return
    raise FovealError("source.changed", f"{what}: {why}", fix="prepare it again with another --out")


def check_moved(out: Path, card: dict[str, Any], asked: dict[str, Any], source: Source, stamps: list[str]) -> None:
    """Say that the source of a set is in another place now; FovealError where that is another source.

    stamps: of the files of `source`. A file is the same if its name and stamp are, or its content. Nothing is decoded.
    """
    records = read_records(out / "records.csv")
    before = records["file"].map(read_facts(out / "images").set_index("file")["stamp"])
    there = set(zip(source.table["file"], stamps, strict=True))
    found = pd.Series([pair in there for pair in zip(records["file"], before, strict=True)])
    if found.mean() < SAME_SOURCE and source.images is None:
        sizes = {stamp.partition("@")[0] for stamp in before}
        likely = [source.root / file for file, stamp in there if stamp.partition("@")[0] in sizes]
        found |= records["file_sha256"].isin([sha256_of(file) for file in likely if file.is_file()])
    old, new = (", ".join(paths) for paths in (card["asked"]["source"], asked["source"]))
    counts = f"{int(found.sum()):,} of its {len(records):,} pictures are in {new}"
    if found.mean() < SAME_SOURCE:
        what, expected = f"--out {out} was made from {old}, and {counts}", f"at least {SAME_SOURCE:.0%} of them"
        raise FovealError("output.other_source", what, expected=expected, fix="choose another --out, or delete it")
    say(f"{out} was made from {old}; {counts}")


def earlier_set(folder: Path, records: pd.DataFrame, photographs: bool) -> Earlier:
    """The set in `folder` as it is before it grows to `records`, which have shard, row and fingerprint."""
    before = read_records(folder / "records.csv")
    prints = pd.read_csv(folder / "measures.csv", dtype={"id": str, "fingerprint": str}, keep_default_na=False)
    before["fingerprint"] = before["id"].map(prints.set_index("id")["fingerprint"])
    return Earlier(before, same_pictures(before, records, Shards(folder / "images"), photographs))


def same_pictures(before: pd.DataFrame, now: pd.DataFrame, shards: Shards, photographs: bool) -> pd.DataFrame:
    """Pictures of `before` that are gone or changed under their own id, and were found again among the new ones.

    Returns id, was, change ("renamed", "saved again" or "similar": turned, cropped or less alike) and similarity;
    a row for each new picture, with the earlier one that is most similar.
    """
    pixels = before.set_index("id")["sha256"]
    new = now[now["id"].map(pixels) != now["sha256"]]
    gone = before[before["id"].map(now.set_index("id")["sha256"]) != before["sha256"]]
    pairs = find_duplicates(pictures_of(new, shards), pictures_of(gone, shards), near=photographs)
    ours, theirs = new.iloc[pairs["first"]], gone.iloc[pairs["second"]]
    same = pd.DataFrame({"id": ours["id"].to_numpy(), "was": theirs["id"].to_numpy()})
    near = np.where((pairs["kind"] == "near") & (pairs["similarity"] >= SAVED_AGAIN), "saved again", "similar")
    same["change"] = np.where(pairs["kind"] == "exact", "renamed", near)
    same["similarity"] = pairs["similarity"].round(3).to_numpy()
    return same.sort_values("similarity", ascending=False, kind="stable").drop_duplicates("id", ignore_index=True)


def pictures_of(records: pd.DataFrame, shards: Shards) -> Pictures:
    """Records with their fingerprints as a collection to search."""
    shard, row = records["shard"].to_numpy(), records["row"].to_numpy()
    return Pictures(
        fingerprints=from_text(records["fingerprint"].tolist()), hashes=records["sha256"].to_numpy(),
        read=lambda index: gather(shards, shard[index], row[index]),
    )  # fmt: skip


def moves_of(earlier: Earlier, records: pd.DataFrame, left_out: pd.DataFrame) -> pd.DataFrame:
    """The images that change sides: id, was, before, after, why, and whether the user must `accept` it.

    records, left_out: the result of `decide_splits`. A judged image that graders could learn from must be accepted, and
    so must every other move among train, val and test. A first label, and training images without a label from now on,
    need no acceptance.
    """
    both = pd.concat([records, left_out.assign(split="left out")])
    both = both.assign(was=both["id"].map(earlier.names), before=both["id"].map(earlier.splits).fillna(""))
    moved = both[(both["before"] != "") & (both["before"] != both["split"])]
    why = []
    for image, labelled in zip(moved.to_dict("records"), moved["label"].notna(), strict=True):
        others = both[(both["group"] == image["group"]) & (both["group"] != "") & (both["id"] != image["id"])]
        there = others[others["before"] == image["split"]]["id"]  # whose side the group now has
        ties = others[others["before"] == ""]["id"]
        if not labelled or image["before"] == "unlabelled":
            why.append("it has a label now" if labelled else "it has no label now")
        elif len(there):
            by = f", through {ties.iloc[0]}" if len(ties) else ""
            why.append(f"same patient or picture as {there.iloc[0]} ({image['split']}){by}")
        else:
            why.append("the source says so")
    table = moved[["id", "was", "before"]].assign(after=moved["split"], why=why)
    judged = table["before"].isin(("val", "test")) & table["after"].isin(("train", "val", "test", "unlabelled"))
    accept = judged | ((table["before"] == "train") & table["after"].isin(("val", "test")))
    return table.assign(accept=accept).reset_index(drop=True)


def check_moves(moves: pd.DataFrame, out: Path, accepted: bool) -> None:
    """List the images that change sides; FovealError where that needs --accept-moves."""
    if not len(moves):
        return
    columns = ["id", "before", "after", "why"]
    rows = moves.sort_values("accept", ascending=False, kind="stable")[columns].head(SHOWN).to_numpy().tolist()
    show_table(f"{len(moves):,} images of {out} change sides", columns, rows)
    if len(moves) > SHOWN:
        say(f"… and {len(moves) - SHOWN:,} more")
    need = moves[moves["accept"]]
    if len(need) and not accepted:
        listed = "; ".join(f"{row.id} from {row.before} to {row.after}: {row.why}" for row in need.head(3).itertuples())
        what = f"{len(need)} images of {out} would change sides ({listed})"
        fix = "correct the source, or add --accept-moves; graders trained on the set before must then be trained again"
        raise FovealError("split.moves", what, fix=fix)


def changes_of(earlier: Earlier, moves: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """All rows of changes.csv: those that are there, the pictures found again, and the images that change sides."""
    rows = [read_changes(folder), earlier.same.astype(str), moves.drop(columns="accept").assign(change="moved")]
    return pd.concat(rows).fillna("").drop_duplicates(ignore_index=True)


def report_growth(earlier: Earlier, records: pd.DataFrame, out: Path) -> None:
    """Print how many pictures were found again under other names or saved again, and how many are gone."""
    for change, count in earlier.same["change"].value_counts().items():
        first = earlier.same[earlier.same["change"] == change].iloc[0]
        say(f"{count:,} {change}, such as {first['id']} ({first['was']} before): {out / CHANGES}")
    before, now = earlier.records.set_index("id")["sha256"], records.set_index("id")["sha256"]
    found = set(earlier.same["was"]) | set(earlier.same["id"])
    other = [name for name, pixels in now.items() if name not in found and before.get(name, pixels) != pixels]
    gone = [name for name in before.index if name not in found and name not in now.index]
    for names, what in ((other, "show another picture now"), (gone, "are no longer in the source")):
        if names:
            warn(f"{len(names):,} images of {out} {what}, such as {names[0]}")
