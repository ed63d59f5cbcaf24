"""The images to cluster: those of one or more prepared sets, as one table and one array of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.sets.joined import prefixes
from foveal.sets.leaks import compare_sets, find_seen, read_seen
from foveal.sets.records import PreparedSet, check_alike, open_prepared, patients
from foveal.sets.splits import group_codes, join_copies

FEWEST = 10  # images: with fewer, neighbours and clusters mean nothing
MOST = 10_000  # images: more make spectral clustering slow and the page large, without a better result


@dataclass(frozen=True, kw_only=True)
class Images:
    """The chosen images: `table` has a row each with id, label, unit (int, equal within a group), split, source, flags.

    `set`, `record`, `shard` and `row` point to the prepared set. `of` is the number of images before sampling.
    """

    sets: Sequence[PreparedSet]
    table: pd.DataFrame
    classes: list[str]
    ordered: bool
    of: int

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> np.ndarray:
        """int [n], -1 where the label is unknown."""
        return self.table["label"].fillna(-1).to_numpy(np.int64)

    @property
    def units(self) -> np.ndarray:
        """int [n]: equal for images of one patient, and for copies of one picture."""
        return self.table["unit"].to_numpy(np.int64)

    def pixels(self, positions: np.ndarray) -> np.ndarray:
        """uint8 [m, S, S, C]: the images at these positions, in their order."""
        part, first = self.table.iloc[positions], self.sets[0]
        images = np.empty((len(part), first.size, first.size, first.channels), np.uint8)
        for number, prepared in enumerate(self.sets):
            own = (part["set"] == number).to_numpy()
            if own.any():
                images[own] = prepared.pixels(part[own])
        return images

    def name(self, label: int) -> str:
        """The name of a class; `no label` for -1."""
        return "no label" if label < 0 else self.classes[label]


def choose(paths: Sequence[Path], split: str = "all", most: int = MOST, seed: int = 0) -> Images:
    """The images of a part of all sets, at most `most` of them, drawn at random by `seed`.

    FovealError if the sets were prepared differently, or if there are fewer than ten images. Labels on a different
    scale than the first labelled set are ignored, with a warning.
    """
    sets = [open_prepared(path) for path in paths]
    check_alike(sets, "to look at them together")
    main = next((prepared for prepared in sets if prepared.classes), sets[0])
    names = prefixes(paths)
    parts = [_part_of(sets, number, names[number], split, main) for number in range(len(sets))]
    table = pd.concat(parts, ignore_index=True)
    if len(table) < FEWEST:
        raise FovealError("set.too_small", f"the part '{split}' has {len(table)} images", expected=f"at least {FEWEST}",
                          fix="choose another --split")  # fmt: skip
    table = table.assign(unit=_units(table, sets))
    of = len(table)
    if most < of:
        chosen = np.sort(np.random.default_rng(seed).choice(of, most, replace=False))
        table = table.iloc[chosen].reset_index(drop=True)
        say(f"{most:,} of {of:,} images are used, drawn at random")
    return Images(sets=sets, table=table, classes=main.classes, ordered=main.card["task"] == "grading", of=of)


def _part_of(sets: Sequence[PreparedSet], number: int, name: str, split: str, main: PreparedSet) -> pd.DataFrame:
    prepared = sets[number]
    part = prepared.records if split == "all" else prepared.part(split)
    table = part[["id", "label", "group", "split", "flags", "sha256", "shard", "row"]]
    table = table.assign(record=table["id"], set=number, source=name)
    scales = [(one.card["scale"], one.classes) for one in (prepared, main)]
    if scales[0] != scales[1] and table["label"].notna().any():
        warn(f"the labels of {prepared.path} are on a different scale than those of {main.path} and are ignored")
        table["label"] = pd.array([pd.NA] * len(table), dtype="Int64")
    if len(sets) > 1:  # the same id or patient name in two sets must not be confused
        table["group"] = patients(prepared.card, table["group"])
        table["id"] = name + "/" + table["id"]
    return table


def _units(table: pd.DataFrame, sets: Sequence[PreparedSet]) -> np.ndarray:
    """int [n]: groups as numbers. Copies in two sets merge their groups, as `prepare` does within one set."""
    groups = table["group"].to_numpy(object)
    if len(sets) > 1:
        place = {key: row for row, key in enumerate(zip(table["set"], table["record"], strict=True))}
        pairs = [
            (place[one, first], place[other, second])
            for one, other in combinations(range(len(sets)), 2)
            for first, second in compare_sets(sets[one], sets[other])[["id", "other"]].itertuples(index=False)
            if (one, first) in place and (other, second) in place
        ]
        ties = pd.DataFrame(pairs, columns=["first", "second"], dtype=np.int64)
        groups = join_copies(groups, ties, table["sha256"].to_numpy(object))
    return group_codes(groups)


def learned_from(images: Images, run: Path) -> np.ndarray:
    """bool [n]: whether `run` learned from the image, a copy of it, or another image of its patient."""
    seen = read_seen(str(run))
    learned = np.zeros(len(images), bool)
    for number, prepared in enumerate(images.sets):
        own = (images.table["set"] == number).to_numpy()
        records = prepared.records.set_index("id", drop=False).loc[list(images.table["record"][own])]
        records = records.reset_index(drop=True)
        learned[own] = records["id"].isin(find_seen(prepared, records, seen)["id"]).to_numpy()
    return learned
