"""The numbers about prepared sets, for the tables, the findings and inspect.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

from foveal.files import json_ready
from foveal.fundus.fingerprint import LEAST_SIDE
from foveal.fundus.quality import FLAGS
from foveal.inspect.shortcut import CUES, probe
from foveal.sets.leaks import compare_sets, shared_patients
from foveal.sets.records import PreparedSet, counts_of, per_class
from foveal.sets.splits import group_codes

COLOURS = ("red", "green", "blue")
BLACK = 16  # of 255: a pixel with no channel above this is border
LISTED = 12  # most conflicts and copies across sets to list
COMMON_SIZES = 5
LEARNED, JUDGED = ("train", "unlabelled"), ("val", "test")


def described(prepared: PreparedSet) -> pd.DataFrame:
    """The records with all measures as numbers, nan if one is missing; colours of arrays are of the prepared pixels."""
    measures = prepared.measures.drop(columns=["id", "fingerprint"], errors="ignore")
    numbers = measures.apply(pd.to_numeric, errors="coerce").set_index(prepared.records.index)
    table = prepared.records.join(numbers.loc[:, [name for name in numbers if name not in prepared.records]])
    table["aspect ratio"] = table["width"] / table["height"].clip(lower=1)
    if {*COLOURS, "border"} <= set(table) and not table[[*COLOURS, "border"]].isna().any(axis=None):
        return table
    names = [*COLOURS, "border"] if prepared.channels == 3 else ["grey", "border"]
    seen = pd.DataFrame(index=table.index, columns=names, dtype=float)
    for number in table["shard"].unique():
        rows, images = table["row"][table["shard"] == number], prepared.shards[number]
        black = (images.max(axis=3) < BLACK).mean((1, 2))
        seen.loc[rows.index] = np.column_stack([images.mean((1, 2), dtype=np.float32), black])[rows]
    table[names] = table.reindex(columns=names).fillna(seen)
    return table


def summarise(prepared: PreparedSet, name: str, table: pd.DataFrame) -> dict[str, Any]:
    """All numbers about one set; `table` comes from `described`."""
    card, classes, copies = prepared.card, prepared.classes, read_copies(prepared, table)
    judged = set(table["group"][table["split"].isin(JUDGED)]) - {""}
    reasons, rejected = prepared.path / "rejected.csv", list[dict[str, Any]]()
    if reasons.is_file():
        texts = pd.read_csv(reasons, dtype=str, keep_default_na=False)["reason"]
        # "… the same patient or picture as IMAGE" names a different image in each row
        alike = texts.str.replace(r"(the same patient or picture as) .*", r"\1 an evaluation image", regex=True)
        rejected = [{"reason": str(text), "files": int(count)} for text, count in alike.value_counts().items()]
    pool_of_judged = table["group"].isin(judged) & (table["split"] == "unlabelled")
    return {"name": name, "path": str(prepared.path), "title": card["title"], "fundus": bool(card["fundus"]),
            "task": card["task"], "scale": card["scale"], "classes": classes, "images": len(table),
            "near_compared": _near_comparable(prepared), "without_group": int((table["group"] == "").sum()),
            "parts": counts_of(table, classes), "pool_of_judged": int(pool_of_judged.sum()),
            "sizes": _sizes(table, classes), "colours": _colours(table, classes), "flags": _flags(table, classes),
            "rejected": rejected,
            "copies": {**_counted(copies), "listed": named(copies[copies["conflict"] == 1], prepared, prepared)},
            "shortcut": json_ready(probe_set(prepared, table))}  # fmt: skip


def _near_comparable(prepared: PreparedSet) -> bool:
    """Whether copies are also found by content, not only by equal pixels."""
    return prepared.size >= LEAST_SIDE and bool((prepared.measures["fingerprint"] != "").all())


def probe_set(prepared: PreparedSet, table: pd.DataFrame) -> dict[str, Any]:
    """The shortcut probe on all labelled images of a set, whatever their part."""
    labelled = table[table["label"].notna()]
    cues = labelled[[name for name in CUES if name in labelled]]
    ordered = prepared.card["task"] == "grading"
    return probe(cues, labelled["label"].to_numpy(np.int64), group_codes(labelled["group"]), ordered=ordered)


def _sizes(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    sides = {name: [int(table[name].min()), float(table[name].median()), int(table[name].max())]
             for name in ("width", "height")}  # fmt: skip
    sizes = table.groupby(["width", "height"])
    common: Any = sizes.size().sort_values(ascending=False, kind="stable").head(COMMON_SIZES)
    shown = [{"width": int(size[0]), "height": int(size[1]), "images": int(images),
              "per_class": per_class(sizes.get_group(size), classes)} for size, images in common.items()]  # fmt: skip
    return {**sides, "distinct": sizes.ngroups, "common": shown}


def _colours(table: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    channels = [name for name in (*COLOURS, "grey") if name in table and table[name].notna().any()]
    parts = {"all images": table} | {name: table[table["label"] == k] for k, name in enumerate(classes)}
    return [{"of": of, "images": len(part),
             "channels": {name: json_ready([part[name].mean(), part[name].std()]) for name in channels}}
            for of, part in parts.items() if len(part)]  # fmt: skip


def _flags(table: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Each flag with its number of images; `p`: p-value of the flag being independent of the class."""
    words, found = table["flags"].str.split(), []
    for flag, count in words.explode().dropna().value_counts().items():
        has = words.map(lambda flags, flag=flag: flag in flags)
        counts = pd.crosstab(table["label"], has)  # of the labelled images
        p = None if min(counts.shape) < 2 else float(chi2_contingency(counts.to_numpy()).pvalue)
        found.append({"flag": str(flag), "sentence": FLAGS.get(str(flag), "Set by the source."), "images": int(count),
                      "per_class": per_class(table[has], classes), "p": p})  # fmt: skip
    return found


def read_copies(prepared: PreparedSet, table: pd.DataFrame) -> pd.DataFrame:
    """duplicates.csv with the split of both images, without pairs of which one is not in the set."""
    types = dict.fromkeys(("id", "other", "kind"), "str") | dict.fromkeys(("label", "other_label"), "Int64")
    missing = {"label": [""], "other_label": [""]}
    pairs = pd.read_csv(prepared.path / "duplicates.csv", dtype=types, keep_default_na=False, na_values=missing)
    split = table.set_index("id")["split"]
    pairs = pairs.assign(split=pairs["id"].map(split), other_split=pairs["other"].map(split))
    return pairs.dropna(subset=["split", "other_split"]).reset_index(drop=True)


def _counted(pairs: pd.DataFrame) -> dict[str, Any]:
    images = pd.concat([pairs["id"], pairs["other"]]).nunique()
    return {"pairs": len(pairs), "images": images, "kinds": pairs["kind"].value_counts().to_dict(),
            "conflicts": int(pairs["conflict"].sum())}  # fmt: skip


def named(pairs: pd.DataFrame, first: PreparedSet, second: PreparedSet) -> list[dict[str, Any]]:
    """The first pairs with their parts and the names of their labels ("" if missing)."""
    ours, theirs = (dict(enumerate(prepared.classes)) for prepared in (first, second))
    return [{"id": row["id"], "other": row["other"], "kind": row["kind"], "similarity": float(row["similarity"]),
             "split": row["split"], "other_split": row["other_split"], "conflict": bool(row["conflict"]),
             "grade": ours.get(row["label"], ""), "other_grade": theirs.get(row["other_label"], "")}
            for row in pairs.head(LISTED).to_dict("records")]  # fmt: skip


def compare(first: PreparedSet, second: PreparedSet, names: tuple[str, str]) -> dict[str, Any]:
    """Copies across two sets by part, leaks between training and test data, the first pairs, and shared patients."""
    pairs, shared = compare_sets(first, second), shared_patients(first, second)
    leaks, torn = _leaks(pairs), shared[_leaks(shared)].drop_duplicates("id")
    if (first.card["scale"], first.classes) != (second.card["scale"], second.classes):
        pairs = pairs.assign(conflict=0)  # labels on different scales cannot be compared
    worst_first = pairs.assign(leak=leaks).sort_values(["leak", "conflict"], ascending=False, kind="stable")
    return {"first": names[0], "second": names[1], **_counted(pairs), "leaks": int(leaks.sum()),
            "near_compared": _near_comparable(first) and _near_comparable(second),
            "by_part": pairs.groupby(["split", "other_split"]).size().rename("pairs").reset_index().to_dict("records"),
            "listed": named(worst_first, first, second),
            "patients": {"images": int(shared["id"].nunique()), "leaks": len(torn),
                         "examples": [f"{row.id} and {row.other}" for row in torn.head(3).itertuples()]}}  # fmt: skip


def _leaks(pairs: pd.DataFrame) -> pd.Series:
    """bool [n]: one image is in training data of a set, the other in test data of the other set."""
    ours, theirs = pairs["split"], pairs["other_split"]
    return (ours.isin(LEARNED) & theirs.isin(JUDGED)) | (ours.isin(JUDGED) & theirs.isin(LEARNED))
