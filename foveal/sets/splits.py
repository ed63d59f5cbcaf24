"""Splits: seeded, stratified by label, with every group in one split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from foveal.errors import FovealError

HELD_OUT = "held-out"  # in predictions, the part of the images whose source is kept from a grader (held_out.py)
GROUPS_ASSIGNED = 20_000  # assigning this many groups takes about a quarter of a second
MOST_ORDERS = 100
PARTS = 5  # of images on which a readout is fitted; each part gets a readout that was fitted on the others


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """The options of PrepareConfig that decide the split."""

    val: float
    test: float
    labelled: int
    unlabelled: int
    seed: int


def decide_splits(
    records: pd.DataFrame, copies: pd.DataFrame, options: SplitOptions, earlier: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill `split`: splits of the source stay; other images are assigned by group, copies of one picture together.

    copies: pairs of row numbers `first`, `second` that show one picture. earlier: id -> split decided by an earlier
    run, which stays. Returns the records that stay, and those (with `reason`) that are left out because a copy or the
    same patient is in a later part (train, val, test).
    """
    generator = np.random.default_rng(options.seed)
    records["group"] = join_copies(records["group"].to_numpy(), copies, records["sha256"].to_numpy())
    labelled = records["label"].notna()
    records.loc[~labelled, "split"] = "unlabelled"
    records, left_out = leave_out_judged(records)
    before = pd.Series([earlier.get(name, "") for name in records["id"]], index=records.index, dtype=object)
    records = _assign_missing(records, options, before.replace("unlabelled", ""), generator)
    train = (records["split"] == "train").to_numpy()
    if options.labelled and train.any():
        part = records[train]
        keep = keep_labels(part["label"].to_numpy(np.int64), part["group"].to_numpy(), options.labelled, generator)
        hidden = part.index[~keep]
        records.loc[hidden, "label"] = pd.NA
        records.loc[hidden, "split"] = "unlabelled"
    pool = records.index[records["split"] == "unlabelled"].to_numpy()
    if 0 < options.unlabelled < len(pool):
        too_many = generator.permutation(pool)[options.unlabelled :]
        records = records.drop(index=too_many.tolist()).reset_index(drop=True)
    return records, left_out


def leave_out_judged(records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Where a group is in several splits of the source, keep only its images in the last of train, val, test.

    Returns (records that stay, records that are left out with `reason`).
    """
    rank = records["split"].map({"train": 1, "val": 2, "test": 3}).fillna(0)
    named = records["group"] != ""
    highest = rank.groupby(records["group"]).transform("max").where(named, rank)
    torn = (rank > 0) & (rank < highest)
    if not torn.any():
        return records, records[torn].assign(reason="")
    judged = records[named & (rank == highest)].drop_duplicates("group").set_index("group")
    other = records.loc[torn, "group"].map(judged["id"] + " (" + judged["split"] + ")")
    reason = "left out of " + records.loc[torn, "split"] + ": the same patient or picture as " + other
    return records[~torn].reset_index(drop=True), records[torn].assign(reason=reason)


def _assign_missing(
    records: pd.DataFrame, options: SplitOptions, before: pd.Series, generator: np.random.Generator
) -> pd.DataFrame:
    """Assign images without a split; no val or test is made where the source has it."""
    has = set(records["split"])
    shares = {"val": 0.0 if "val" in has else options.val, "test": 0.0 if "test" in has else options.test}
    undecided = records["split"] == ""
    if undecided.any():  # images of a patient who is in a split go there
        fixed = records[records["split"].isin(("train", "val", "test")) & (records["group"] != "")]
        side = dict(zip(fixed["group"], fixed["split"], strict=True))
        sides = [side.get(group) or own for group, own in zip(records["group"], before, strict=True)]
        before = pd.Series(sides, index=records.index, dtype=object)
    else:  # where the source has no validation part, it is taken from its training part
        undecided = records["split"] == "train"
    part = records[undecided]
    if len(part) and any(shares.values()):
        fractions = {"train": 1 - shares["val"] - shares["test"], **shares}
        labels, groups = part["label"].to_numpy(np.int64), part["group"].to_numpy()
        decided = before[undecided].to_numpy()
        records.loc[part.index, "split"] = assign_parts(labels, groups, fractions, generator, decided)
    elif len(part):
        records.loc[part.index, "split"] = "train"
    return records


def assign_parts(
    labels: np.ndarray, groups: np.ndarray, fractions: dict[str, float], generator: np.random.Generator,
    decided: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Assign each image to a part so that groups stay together and every class is spread evenly.

    labels: int [n], 0..K-1; groups: str [n], "" = a group of its own; fractions: part -> share, summing to 1;
    decided: str [n], the part that an image, and so its group, already has, or "". Returns str [n].
    Groups are assigned greedily, large ones first, each to the part whose counts per class come closest to the
    fractions (rare classes weigh as much as frequent ones). With a few large groups the result depends on their
    order, so the best of several random orders is kept.
    """
    if abs(sum(fractions.values()) - 1) > 1e-9 or min(fractions.values()) < 0:
        raise FovealError("option.value", f"fractions {fractions}", expected="shares that sum to 1")
    codes = group_codes(groups)
    table = np.zeros((int(codes.max(initial=-1)) + 1, int(labels.max(initial=0)) + 1))  # images per group and class
    np.add.at(table, (codes, labels), 1)
    names, shares = list(fractions), np.array(list(fractions.values()))
    fixed = _decided_part(codes, names, decided, len(table))
    tries = int(np.clip(GROUPS_ASSIGNED / max(1, len(table)), 1, MOST_ORDERS))
    attempts = [_assign_once(table, shares, generator.permutation(len(table)), fixed) for _ in range(tries)]
    best = min(attempts, key=lambda attempt: attempt[1])[0]
    return np.array(names, dtype=object)[best[codes]]


def _decided_part(codes: np.ndarray, names: list[str], decided: np.ndarray | None, groups: int) -> np.ndarray:
    """int [G]: the part of each group that has one, else -1.

    If a copy that is found later joins groups of different parts, all go to the first part, training. That costs test
    images; the other way round, graders would be judged on images that they have learned from.
    """
    fixed = np.full(groups, len(names))
    if decided is not None:
        for number, name in enumerate(names):
            np.minimum.at(fixed, codes[decided == name], number)
    return np.where(fixed == len(names), -1, fixed)


def _assign_once(
    table: np.ndarray, shares: np.ndarray, order: np.ndarray, fixed: np.ndarray
) -> tuple[np.ndarray, float]:
    """Assign groups [G, K] to parts in `order`, large ones first; returns the part of each [G] and the final gap."""
    order = order[np.argsort(-table[order].sum(1), kind="stable")]
    gap = shares[:, None] * table.sum(0)
    weight = 1 / np.maximum(table.sum(0), 1) ** 2
    chosen = fixed.copy()
    np.subtract.at(gap, fixed[fixed >= 0], table[fixed >= 0])
    for group in order:
        if fixed[group] >= 0:
            continue
        # Taking c from a part's gap g changes sum(w g^2) by sum(w c (c - 2 g)): the smallest change is best.
        change = (weight * table[group] * (table[group] - 2 * gap)).sum(1)
        change[shares == 0] = np.inf
        chosen[group] = int(np.argmin(change))
        gap[chosen[group]] -= table[group]
    return chosen, float((weight * gap**2).sum())


def keep_labels(labels: np.ndarray, groups: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Choose images that keep their labels, as near to `count` as whole groups allow, stratified; bool [n]."""
    share = min(1.0, count / max(1, len(labels)))
    keep = np.asarray(assign_parts(labels, groups, {"keep": share, "hide": 1 - share}, generator) == "keep")
    codes = group_codes(groups)
    sizes = np.bincount(codes)
    while (missing := count - int(keep.sum())) and not keep.all():
        kept = np.bincount(codes, keep) > 0
        change = np.where(kept, -sizes, sizes)  # of the count, if one group changes its side
        after = np.abs(missing - change)
        if after.min() >= abs(missing):
            break
        keep[codes == generator.choice(np.flatnonzero(after == after.min()))] ^= True
    return keep


def k_folds(labels: np.ndarray, groups: np.ndarray, folds: int, generator: np.random.Generator) -> np.ndarray:
    """int [n]: the fold, 0 .. folds - 1, of each image; groups stay whole and every class is spread evenly.

    Compared with scikit-learn's StratifiedGroupKFold (shuffled) on 20 drawings of 40 groups of unequal (log-normal)
    size with 5 classes in 5 folds: the share of a class in a fold is off by 0.064 here and 0.068 there (root mean
    square; better in 16 of 20), the size of the worst fold by 0.028 and 0.029.
    """
    fractions = {str(number): 1 / folds for number in range(folds)}
    return assign_parts(labels, groups, fractions, generator).astype(np.int64)


def parts_of_groups(groups: np.ndarray, seed: int) -> np.ndarray:
    """int [n]: the part of each image. There are five parts of whole groups, or as many as there are groups."""
    count = int(group_codes(groups).max(initial=-1)) + 1
    labels = np.zeros(len(groups), np.int64)
    return labels if count < 2 else k_folds(labels, groups, min(PARTS, count), np.random.default_rng(seed))


def owners(groups: np.ndarray | pd.Series, ids: Iterable[str] | None = None) -> np.ndarray:
    """str [n]: the group of each image; without one, a name of its own, made from `ids` or from its place."""
    groups = np.asarray(groups, dtype=object)
    # No name of a group holds a carriage return. NUL would not do: pandas before 3.1 reads text only up to it.
    own = [f"\r{name}" for name in (range(len(groups)) if ids is None else ids)]
    return np.where(pd.isna(groups) | (groups == ""), np.array(own, dtype=object), groups)


def group_codes(groups: np.ndarray | pd.Series) -> np.ndarray:
    """int [n]: equal for images of one group; an image without a group is a group of its own."""
    return pd.factorize(owners(groups))[0]


def draw_groups(units: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """bool [n]: images of randomly drawn whole groups, at most `most` unless the first group alone has more.

    units: int [n], the group of each image, numbered from 0.
    """
    order = generator.permutation(units.max(initial=-1) + 1)
    cumulative = np.bincount(units)[order].cumsum()
    return np.isin(units, order[: max(1, int(np.searchsorted(cumulative, most, side="right")))])


def join_copies(groups: np.ndarray, copies: pd.DataFrame, hashes: np.ndarray) -> np.ndarray:
    """Merge groups that hold copies of one picture, so that copies are always in one split.

    groups, hashes: str [n]; copies: pairs of rows `first`, `second`. Returns str [n]: group names, joined by "+" where
    groups were merged; all others stay, empty ones too.
    """
    codes = group_codes(groups)
    ties = codes[copies[["first", "second"]].to_numpy(np.int64).reshape(-1, 2)]
    nodes = int(codes.max(initial=-1)) + 1
    edges = sparse.coo_matrix((np.ones(len(ties)), (ties[:, 0], ties[:, 1])), (nodes, nodes))
    roots = sparse.csgraph.connected_components(edges, directed=False)[1][codes]
    frame = pd.DataFrame({"root": roots, "code": codes, "group": groups, "hash": hashes})
    tied = frame.groupby("root")["code"].transform("nunique") > 1
    names = {}
    for root, members in frame[tied].groupby("root"):
        named = sorted(set(members["group"]) - {""})
        names[root] = "+".join(named) or f"copies-{members['hash'].iloc[0][:12]}"
    return np.where(tied, frame["root"].map(names), groups).astype(object)
