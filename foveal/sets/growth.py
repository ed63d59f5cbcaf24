"""Growth: a set whose source has changed keeps the part of each picture, also if it was renamed or saved again."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.files import sha256_of
from foveal.fundus.fingerprint import from_text
from foveal.page.words import counted
from foveal.sets.candidates import Pictures
from foveal.sets.corrections import CHANGES
from foveal.sets.duplicates import find_duplicates
from foveal.sets.options import PrepareConfig
from foveal.sets.records import read_records
from foveal.sets.shards import Shards, gather, read_facts
from foveal.sources.source import Source

# Of 150 photographs of Messidor-2 and APTOS, all agree as well with their copies saved at JPEG quality 90, 123 with
# those that were also halved, and 109 with those of quality 50. Of 53 second photographs of an eye, 4 do.
SAVED_AGAIN = 0.9
SAME_SOURCE = 0.9  # share of a set's files that must be in another SOURCE for it to be the same one, moved


def check_growth(config: PrepareConfig, card: dict[str, Any], source: Source) -> None:
    """FovealError if a set cannot be extended by the changes in its source; card: of the set."""
    if source.images is not None:
        why = "its arrays have changed"
    elif config.labelled or config.unlabelled > 0:
        why = "--labelled and --unlabelled choose among all images"
    elif list(source.classes) != card["classes"]:
        now, then = (", ".join(classes) or "none" for classes in (source.classes, card["classes"]))
        why = f"its classes were {then} and are {now} now"
    else:
        return
    what = f"{source.root} has changed since {config.out} was made: {why}"
    raise FovealError("source.changed", what, fix="prepare it again with another --out")


def check_moved(config: PrepareConfig, card: dict[str, Any], source: Source, stamps: list[str]) -> None:
    """Say that the source of a set has moved; FovealError if too few stamps, or contents, agree."""
    records = read_records(config.out / "records.csv")
    before = records["file"].map(read_facts(config.out / "images").set_index("file")["stamp"])
    there = set(zip(source.table["file"], stamps, strict=True))
    found = pd.Series([pair in there for pair in zip(records["file"], before, strict=True)])
    if found.mean() < SAME_SOURCE and source.images is None:
        sizes = {stamp.partition("@")[0] for stamp in before}
        likely = [source.root / file for file, stamp in there if stamp.partition("@")[0] in sizes]
        found |= records["file_sha256"].isin([sha256_of(file) for file in likely if file.is_file()])
    old, new = (", ".join(asked["source"]) for asked in (card["asked"], config.asked))
    what = f"{config.out} was made from {old}; in {new}: {int(found.sum()):,} of its {counted(len(records), 'picture')}"
    if found.mean() < SAME_SOURCE:
        fix = f"give a source that has {SAME_SOURCE:.0%} of them, or another --out"
        gone = [path for path in card["asked"]["source"] if not Path(path).exists()]
        what += f"; {', '.join(gone)} does not exist any more" * bool(gone)
        raise FovealError("output.other_source", what, fix=fix)
    say(what)


def follow(
    records: pd.DataFrame, earlier: pd.DataFrame, shards: Shards, photographs: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records with `was`, the id that their picture had, and `before`, the split of that image, or ""; and `same`.

    same: the pictures that are gone or changed under their own id, and were found again among the new ones: id, was,
    change ("renamed", "saved again" or "similar": turned, cropped or less alike) and similarity, the highest of each.
    """
    new = records[records["id"].map(earlier.set_index("id")["sha256"]) != records["sha256"]]
    gone = earlier[earlier["id"].map(records.set_index("id")["sha256"]) != earlier["sha256"]]
    pairs = find_duplicates(pictures_of(new, shards), pictures_of(gone, shards), near=photographs)
    ours, theirs = new["id"].iloc[pairs["first"]], gone["id"].iloc[pairs["second"]]
    near = np.where((pairs["kind"] == "near") & (pairs["similarity"] >= SAVED_AGAIN), "saved again", "similar")
    change, similarity = np.where(pairs["kind"] == "exact", "renamed", near), pairs["similarity"].round(3).to_numpy()
    same = pd.DataFrame({"id": ours.array, "was": theirs.array, "change": change, "similarity": similarity})
    same = same.sort_values("similarity", ascending=False, kind="stable").drop_duplicates("id", ignore_index=True)
    name_of = dict(zip(same["id"], same["was"], strict=True))
    side_of = dict(zip(earlier["id"], earlier["split"], strict=True))
    was = [name_of.get(name, name) for name in records["id"]]
    return records.assign(was=was, before=[side_of.get(name, "") for name in was]), same


def keep_patients(records: pd.DataFrame, earlier: pd.DataFrame, same: pd.DataFrame) -> pd.DataFrame:
    """Fill `group` and `eye` of pictures that had them, but for which the source or the new name has none any more.

    Returns pairs of rows `first`, `second` that were one patient, which the source alone may not say any more.
    """
    known, found = earlier.set_index("id"), records["id"].isin(same["id"])
    kept = found | (records["id"].map(known["sha256"]) == records["sha256"])
    group, eye = (records["was"].map(known[name]).where(kept).fillna("") for name in ("group", "eye"))
    group = group.mask(group.str.startswith("copies-"), "")
    eye = eye.mask(records["id"].isin(same["id"][same["change"] == "similar"]), "")  # it may be mirrored
    changed = found | (records["group"] == "") | group.str.contains("+", regex=False)
    rows = pd.DataFrame({"second": np.arange(len(records)), "group": group, "changed": changed})[group != ""]
    for name, before in (("group", group), ("eye", eye)):
        records[name] = records[name].mask(records[name] == "", before)
    rows["first"] = rows.sort_values("changed", kind="stable").groupby("group")["second"].transform("first")
    return rows.loc[rows["changed"], ["first", "second"]]


def pictures_of(records: pd.DataFrame, shards: Shards) -> Pictures:
    """Records with their fingerprints as a collection to search."""
    shard, row = records["shard"].to_numpy(), records["row"].to_numpy()
    return Pictures(fingerprints=from_text(records["fingerprint"].tolist()), hashes=records["sha256"].to_numpy(),
                    read=lambda index: gather(shards, shard[index], row[index]))  # fmt: skip


def moves_of(records: pd.DataFrame, left_out: pd.DataFrame) -> pd.DataFrame:
    """The images that move to another part: id, was, before, after, why, and whether the user must `accept` it.

    A first label need not be accepted, nor must training images without a label from now on.
    """
    both = pd.concat([records, left_out.assign(split="left out")])
    moved = both[(both["before"] != "") & (both["before"] != both["split"])]
    why = []
    for image, bare in zip(moved.itertuples(), moved["label"].isna(), strict=True):
        others = both[(both["group"] == image.group) & (both["group"] != "") & (both["id"] != image.id)]
        there = others["id"][others["before"] == image.split]  # whose side the group now has
        ties = others["id"][others["before"] == ""]
        if bare or image.before == "unlabelled":
            why.append("it has no label now" if bare else "it has a label now")
        elif len(there):
            by = f", through {ties.iloc[0]}" if len(ties) else ""
            why.append(f"same patient or picture as {there.iloc[0]} ({image.split}){by}")
        else:
            why.append("the source says so")
    table = moved[["id", "was", "before"]].assign(after=moved["split"], why=why)
    judged = table["before"].isin(("val", "test")) & (table["after"] != "left out")
    accept = judged | ((table["before"] == "train") & table["after"].isin(("val", "test")))
    return table.assign(accept=accept).reset_index(drop=True)


def check_moves(moves: pd.DataFrame, out: Path, accepted: bool) -> None:
    """List the images that move to another part; FovealError if that needs --accept-moves."""
    if not len(moves):
        return
    columns = ["id", "before", "after", "why"]
    rows = moves.sort_values("accept", ascending=False, kind="stable")[columns].head(20).to_numpy().tolist()
    show_table(f"moving to another part: {counted(len(moves), 'image')} of {out}", columns, rows)
    if len(need := moves[moves["accept"]]) and not accepted:
        listed = "; ".join(f"{row.id} from {row.before} to {row.after}: {row.why}" for row in need.head(3).itertuples())
        fix = "correct the source, or add --accept-moves and train the graders of this set again"
        what = f"{counted(len(need), 'image')} of {out} would move to another part ({listed})"
        raise FovealError("split.moves", what, fix=fix)


def relabelled(earlier: pd.DataFrame, records: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """The pictures whose label is another one than before, as rows of changes.csv; warns of them."""
    before = records["was"].map(earlier.set_index("id")["label"])
    differs = (before.notna() & records["label"].notna() & (before != records["label"])).fillna(False).to_numpy(bool)
    names = [[classes[int(label)] for label in labels[differs]] for labels in (before, records["label"])]
    rows = records[differs]
    if len(rows):
        first = f"{rows['id'].iloc[0]} ({names[0][0]} before, {names[1][0]} now)"
        judged = int(rows["split"].isin(("val", "test")).sum())
        what = f"the source has another label than before for {counted(len(rows), 'image')}, such as {first}"
        warn(f"{what}; {judged:,} are in validation or test, so earlier results cannot be compared" if judged else what)
    return rows[["id", "was"]].assign(change="relabelled", before=names[0], after=names[1])


def report_growth(earlier: pd.DataFrame, same: pd.DataFrame, records: pd.DataFrame, out: Path) -> None:
    """Print how many pictures were found again under other names or saved again, and how many are gone."""
    for change, rows in same.groupby("change"):
        first = rows.iloc[0]
        say(f"{len(rows):,} {change}, such as {first['id']} ({first['was']} before): {out / CHANGES}")
    before, now = (table.set_index("id")["sha256"].drop(same["id"], errors="ignore") for table in (earlier, records))
    before = before.drop(same["was"], errors="ignore")
    gone, other = before[~before.index.isin(now.index)], now[now != before.reindex(now.index).fillna(now)]
    for images, what in ((other, "the picture has changed"), (gone, "no longer in the source")):
        if len(images):
            warn(f"{what}: {counted(len(images), 'image')} of {out}, such as {images.index[0]}")
