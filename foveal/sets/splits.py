"""Splits: seeded, stratified by label, and never with one group on two sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

GROUPS_DEALT = 20_000  # dealing out this many groups takes about a quarter of a second
MOST_ORDERS = 100


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """What decides the split; the fields of PrepareConfig."""

    val: float
    test: float
    labelled: int
    unlabelled: int
    seed: int


def decide_splits(
    records: pd.DataFrame, copies: pd.DataFrame, options: SplitOptions, earlier: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill `split`: parts of the source stay; the rest is dealt out by group, copies of one picture together.

    copies: pairs of row numbers `first`, `second` that show one picture. earlier: id -> split that was decided when
    the set was first made; it stays. Returns the records, and those left out (with `reason`), because they stand in
    a training part although a copy, or the same patient, is judged.
    """
    generator = np.random.default_rng(options.seed)
    records["group"] = join_copies(records["group"].to_numpy(), copies, records["sha256"].to_numpy())
    labelled = records["label"].notna()
    records.loc[~labelled, "split"] = "unlabelled"
    records, left_out = leave_out_judged(records)
    before = pd.Series([earlier.get(name, "") for name in records["id"]], index=records.index, dtype=object)
    records = _deal_out(records, options, before.replace("unlabelled", ""), generator)
    train = (records["split"] == "train").to_numpy()
    if options.labelled and train.any():
        part = records[train]
        keep = keep_labels(part["label"].to_numpy(np.int64), part["group"].to_numpy(), options.labelled, generator)
        hidden = part.index[~keep]
        records.loc[hidden, "label"] = pd.NA
        records.loc[hidden, "split"] = "unlabelled"
    pool = records.index[records["split"] == "unlabelled"].to_numpy()
    if options.unlabelled and len(pool) > options.unlabelled:
        too_many = generator.permutation(pool)[options.unlabelled :]
        records = records.drop(index=too_many.tolist()).reset_index(drop=True)
    return records, left_out


def leave_out_judged(records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Where the source's own parts share a group, its images stay in the part that is judged: test, then val.

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


def _deal_out(
    records: pd.DataFrame, options: SplitOptions, before: pd.Series, generator: np.random.Generator
) -> pd.DataFrame:
    """Deal out images without a part; where the source has a test (or val) part, only what is missing is made."""
    has = set(records["split"])
    shares = {"val": 0.0 if "val" in has else options.val, "test": 0.0 if "test" in has else options.test}
    undecided = records["split"] == ""
    if undecided.any():  # images of a patient who has a part go there
        fixed = records[records["split"].isin(("train", "val", "test")) & (records["group"] != "")]
        side = dict(zip(fixed["group"], fixed["split"], strict=True))
        sides = [side.get(group) or own for group, own in zip(records["group"], before, strict=True)]
        before = pd.Series(sides, index=records.index, dtype=object)
    else:  # the source's own training part gives up a validation part where there is none
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
    """Assign each image to a part so that whole groups stay together and every class is shared out evenly.

    labels: int [n], 0..K-1; groups: str [n], "" = a group of its own; fractions: part -> share, summing to 1;
    decided: str [n], the part of an image that has one already, and its group with it, or "". Returns str [n].
    Groups are dealt out greedily, large ones first, each to the part whose counts per class it brings nearest to what
    the fractions ask for (rare classes weigh as much as frequent ones). A few large groups make this a matter of
    luck, so the best of several orders is kept.
    """
    if abs(sum(fractions.values()) - 1) > 1e-9 or min(fractions.values()) < 0:
        raise ValueError(f"fractions must be shares that sum to 1, got {fractions}")
    codes = group_codes(groups)
    table = _counts_per_group(codes, labels)
    names, shares = list(fractions), np.array(list(fractions.values()))
    fixed = _decided_part(codes, names, decided, len(table))
    tries = int(np.clip(GROUPS_DEALT / max(1, len(table)), 1, MOST_ORDERS))
    dealt = [_deal(table, shares, generator.permutation(len(table)), fixed) for _ in range(tries)]
    best = min(dealt, key=lambda chosen_and_gap: chosen_and_gap[1])[0]
    return np.array(names, dtype=object)[best[codes]]


def _decided_part(codes: np.ndarray, names: list[str], decided: np.ndarray | None, groups: int) -> np.ndarray:
    """int [G]: the part of each group that has one, else -1. A group torn by a late copy goes to the first part,
    training: a test image that is learned from is lost for judging, the other way round it would flatter."""
    fixed = np.full(groups, len(names))
    if decided is not None:
        for number, name in enumerate(names):
            np.minimum.at(fixed, codes[decided == name], number)
    return np.where(fixed == len(names), -1, fixed)


def _deal(table: np.ndarray, shares: np.ndarray, order: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, float]:
    """Deal groups [G, K] to parts in `order`, large ones first; returns the part of each [G] and the remaining gap."""
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
    """Choose about `count` images whose labels are kept, stratified and by whole groups; bool [n]."""
    share = min(1.0, count / max(1, len(labels)))
    parts = assign_parts(labels, groups, {"keep": share, "hide": 1 - share}, generator)
    return parts == "keep"


def k_folds(labels: np.ndarray, groups: np.ndarray, folds: int, generator: np.random.Generator) -> np.ndarray:
    """int [n]: the fold, 0 .. folds - 1, of each image; groups stay whole and every class is shared out evenly."""
    fractions = {str(number): 1 / folds for number in range(folds)}
    return assign_parts(labels, groups, fractions, generator).astype(np.int64)


def group_codes(groups: np.ndarray) -> np.ndarray:
    """int [n]: equal for images of one group; an empty group name makes a group of its own."""
    own = np.array([f"\0{i}" for i in range(len(groups))], dtype=object)
    return pd.factorize(np.where(groups == "", own, groups))[0]


def join_copies(groups: np.ndarray, copies: pd.DataFrame, hashes: np.ndarray) -> np.ndarray:
    """Groups merged wherever two of them hold copies of one picture, so that copies never stand on two sides.

    groups, hashes: str [n]; copies: pairs of rows `first`, `second`. Returns str [n]: group names, joined by "+" where
    copies tie groups together; images that are alone keep their (maybe empty) group.
    """
    codes = group_codes(groups)
    ties = codes[copies[["first", "second"]].to_numpy(np.int64).reshape(-1, 2)]
    nodes = int(codes.max(initial=-1)) + 1
    edges = sparse.coo_matrix((np.ones(len(ties)), (ties[:, 0], ties[:, 1])), (nodes, nodes))
    roots = sparse.csgraph.connected_components(edges, directed=False)[1][codes]
    frame = pd.DataFrame({"root": roots, "code": codes, "group": groups, "hash": hashes})
    tied = frame.groupby("root")["code"].transform("nunique") > 1
    names = {key: _joined_name(members) for key, members in frame[tied].groupby("root")}
    return np.where(tied, frame["root"].map(names), groups).astype(object)


def _joined_name(members: pd.DataFrame) -> str:
    named = sorted({name for name in members["group"] if name})
    return "+".join(named) or f"copies-{members['hash'].iloc[0][:12]}"


def _counts_per_group(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    table = np.zeros((int(codes.max(initial=-1)) + 1, int(labels.max(initial=0)) + 1))
    np.add.at(table, (codes, labels), 1)
    return table
