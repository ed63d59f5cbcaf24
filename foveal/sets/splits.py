"""Splits: seeded, stratified by label, with every group in one split."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import sparse

from foveal.sets.options import PrepareConfig

HELD_OUT = "held-out"  # in predictions, the part of the images whose source is kept from a grader (held_out.py)
GROUPS_ASSIGNED = 20_000  # assigning this many groups takes about a quarter of a second
MOST_ORDERS = 100
PARTS = 5  # of images on which a readout is fitted; each part gets a readout that was fitted on the others


def decide_splits(
    records: pd.DataFrame, copies: pd.DataFrame, options: PrepareConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill `split`: splits of the source stay; other images are assigned by group, copies of one picture together.

    records: with `before`, the split that an earlier run decided, which stays, or "". copies: pairs of row numbers
    `first`, `second`. Returns the records that stay, and those (with `reason`) that are left out.
    """
    generator = np.random.default_rng(options.seed)
    records["group"] = join_copies(records["group"].to_numpy(), copies, records["sha256"].to_numpy())
    records.loc[records["label"].isna(), "split"] = "unlabelled"
    records, left_out = leave_out_judged(records)
    _assign_missing(records, options, generator)
    part = records[records["split"] == "train"]
    if options.labelled and len(part):
        keep = keep_labels(part["label"].to_numpy(np.int64), part["group"].to_numpy(), options.labelled, generator)
        records.loc[part.index[~keep], "label"] = pd.NA
        records.loc[part.index[~keep], "split"] = "unlabelled"
    pool = records.index[records["split"] == "unlabelled"].to_numpy()
    if 0 < options.unlabelled < len(pool):
        records = records.drop(index=generator.permutation(pool)[options.unlabelled :].tolist()).reset_index(drop=True)
    return records, left_out


def leave_out_judged(records: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(records that stay, the others with `reason`): of a group, images in its last part (test, else val) stay."""
    rank = records["split"].map({"train": 1, "val": 2, "test": 3}).fillna(0)
    named = records["group"] != ""
    highest = rank.groupby(records["group"]).transform("max").where(named, rank)
    torn = (rank > 0) & (rank < highest)
    judged = records[named & (rank == highest)].drop_duplicates("group").set_index("group")
    other = records.loc[torn, "group"].map(judged["id"] + " (" + judged["split"] + ")")
    reason = "left out of " + records.loc[torn, "split"] + ": the same patient or picture as " + other
    return records[~torn].reset_index(drop=True), records[torn].assign(reason=reason)


def _assign_missing(records: pd.DataFrame, options: PrepareConfig, generator: np.random.Generator) -> None:
    """Assign images without a split; no val or test is made where the source has it."""
    shares = {name: 0.0 if (records["split"] == name).any() else getattr(options, name) for name in ("val", "test")}
    decided = records["before"].replace("unlabelled", "").to_numpy()
    undecided = records["split"] == ""
    if undecided.any():  # images of a patient who is in a split go there
        fixed = records[records["split"].isin(("train", "val", "test")) & (records["group"] != "")]
        side = dict(zip(fixed["group"], fixed["split"], strict=True))
        decided = np.array([*map(side.get, records["group"], decided)], dtype=object)
    else:  # where the source has no validation part, it is taken from its training part
        undecided = records["split"] == "train"
    part = records[undecided]
    if len(part) and any(shares.values()):
        fractions = {"train": 1 - shares["val"] - shares["test"], **shares}
        labels, groups = part["label"].to_numpy(np.int64), part["group"].to_numpy()
        records.loc[part.index, "split"] = assign_parts(labels, groups, fractions, generator, decided[undecided])
    else:
        records.loc[part.index, "split"] = "train"


def assign_parts(
    labels: np.ndarray, groups: np.ndarray, fractions: dict[str, float], generator: np.random.Generator,
    decided: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Assign each image to a part so that groups stay together and every class is spread evenly.

    labels: int [n], 0..K-1; groups: str [n], "" = a group of its own; fractions: part -> share, summing to 1;
    decided: str [n], the part that an image, and so its group, already has, or "". Returns str [n].
    Groups are assigned greedily, large ones first, each to the part whose counts per class come closest to the
    fractions (rare classes weigh as much as frequent ones); of several random orders the best is kept. A group with two
    decided parts goes to the first one, training: the other way round, images that are learned from would be judged.
    """
    codes = group_codes(groups)
    table = np.zeros((int(codes.max(initial=-1)) + 1, int(labels.max(initial=0)) + 1))  # images per group and class
    np.add.at(table, (codes, labels), 1)
    fixed = np.full(len(table), len(fractions))  # the decided part of each group, or none
    for number, name in enumerate(fractions if decided is not None else ()):
        np.minimum.at(fixed, codes[decided == name], number)
    shares = np.array(list(fractions.values()))
    tries = int(np.clip(GROUPS_ASSIGNED / max(1, len(table)), 1, MOST_ORDERS))
    attempts = [_try_order(table, shares, generator.permutation(len(table)), fixed) for _ in range(tries)]
    return np.array(list(fractions), dtype=object)[min(attempts, key=lambda attempt: attempt[1])[0][codes]]


def _try_order(table: np.ndarray, shares: np.ndarray, order: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, float]:
    """Assign groups [G, K] to parts in `order`, large ones first; returns the part of each [G] and the final gap."""
    order = order[np.argsort(-table[order].sum(1), kind="stable")]
    chosen, known, gap = fixed.copy(), fixed < len(shares), shares[:, None] * table.sum(0)
    np.subtract.at(gap, fixed[known], table[known])
    weight = 1 / np.maximum(table.sum(0), 1) ** 2
    for group in order[~known[order]]:
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
        change = np.where(np.bincount(codes, keep) > 0, -sizes, sizes)  # of the count, if one group changes its side
        after = np.abs(missing - change)
        if after.min() >= abs(missing):
            break
        keep[codes == generator.choice(np.flatnonzero(after == after.min()))] ^= True
    return keep


def k_folds(labels: np.ndarray, groups: np.ndarray, folds: int, generator: np.random.Generator) -> np.ndarray:
    """int [n]: the fold, 0 .. folds - 1, of each image; groups stay whole and every class is spread evenly."""
    return assign_parts(labels, groups, {str(number): 1 / folds for number in range(folds)}, generator).astype(np.int64)


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
    """bool [n]: images of randomly drawn whole groups, `units` from 0; at most `most`, or the first group alone."""
    order = generator.permutation(units.max(initial=-1) + 1)
    cumulative = np.bincount(units)[order].cumsum()
    return np.isin(units, order[: max(1, int(np.searchsorted(cumulative, most, side="right")))])


def join_copies(groups: np.ndarray, copies: pd.DataFrame, hashes: np.ndarray) -> np.ndarray:
    """str [n]: the groups, those with copies of one picture merged ("a+b"); copies: pairs of rows `first`, `second`."""
    codes = group_codes(groups)
    first, second = codes[copies[["first", "second"]].to_numpy(np.int64)].T
    nodes = int(codes.max(initial=-1)) + 1
    edges = sparse.coo_matrix((np.ones(len(first)), (first, second)), (nodes, nodes))
    roots = sparse.csgraph.connected_components(edges, directed=False)[1][codes]
    names = groups.astype(object)
    frame = pd.DataFrame({"root": roots, "code": codes, "group": groups, "hash": hashes})
    for _, members in frame[frame.groupby("root")["code"].transform("nunique") > 1].groupby("root"):
        named = sorted({part for name in members["group"] for part in name.split("+")} - {""})
        names[members.index] = "+".join(named) or f"copies-{members['hash'].iloc[0][:12]}"
    return names
