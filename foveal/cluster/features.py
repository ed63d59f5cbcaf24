"""The images of one or more prepared sets, and their features: a row of numbers per image.

Pixels are the baseline: a result that pixels also give needs no network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.console import progress_bar, say, warn
from foveal.errors import FovealError
from foveal.fundus.preparation import at_size
from foveal.predict.choose import directions
from foveal.runs import read_model
from foveal.sets.joined import prefixes
from foveal.sets.leaks import compare_sets, find_seen, read_seen
from foveal.sets.records import PreparedSet, check_alike, open_prepared, patients
from foveal.sets.splits import group_codes, join_copies

FEWEST = 10  # images: with fewer, neighbours and clusters mean nothing
MOST = 10_000  # images: more make the page large and t-SNE slow, without a better result
SEED = 0  # of everything random; other seeds give similar results
COMPONENTS = 50  # in so few dimensions, k-means is nearly as good as in all (Ding & He 2004)
PIXEL_SIDE = 32  # px: enough for digits and the layout of a retina, too few for a microaneurysm
AT_ONCE = 64  # images


@dataclass(frozen=True, kw_only=True)
class Images:
    """The chosen images: `table` has a row each with id, label, unit (int, equal within a group), split, source, flags;
    set, record, shard and row point to the prepared set. `of` is the number of images before sampling."""

    sets: Sequence[PreparedSet]
    table: pd.DataFrame
    classes: list[str]
    ordered: bool
    of: int

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> np.ndarray:
        """int [n], -1 if the label is unknown."""
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
            images[own] = prepared.pixels(part[own])
        return images

    def name(self, label: int) -> str:
        """The name of a class; `no label` for -1."""
        return "no label" if label < 0 else self.classes[int(label)]


def choose(paths: Sequence[Path], split: str = "all") -> Images:
    """The images of a part of all sets, at most `MOST` of them, drawn at random.

    FovealError for sets that were prepared differently, or fewer than ten images. Labels on a different scale than
    those of the first labelled set are ignored, with a warning.
    """
    sets = [open_prepared(path) for path in paths]
    check_alike(sets, "to look at them together")
    main = next((prepared for prepared in sets if prepared.classes), sets[0])
    parts = [_part_of(sets, number, name, split, main) for number, name in enumerate(prefixes(paths))]
    table = pd.concat(parts, ignore_index=True)
    if len(table) < FEWEST:
        what, fix = f"images in the part '{split}'", "choose another --split" * (split != "all")
        raise FovealError("set.too_small", f"{what}: {len(table)}", expected=f"at least {FEWEST}", fix=fix)
    table, of = table.assign(unit=_units(table, sets)), len(table)
    if of > MOST:
        table = table.sample(MOST, random_state=SEED).sort_index(ignore_index=True)
        say(f"{MOST:,} of {of:,} images are used, drawn at random")
    return Images(sets=sets, table=table, classes=main.classes, ordered=main.card["task"] == "grading", of=of)


def _part_of(sets: Sequence[PreparedSet], number: int, name: str, split: str, main: PreparedSet) -> pd.DataFrame:
    prepared = sets[number]
    part = prepared.records if split == "all" else prepared.part(split)
    table = part[["id", "label", "group", "split", "flags", "sha256", "shard", "row"]]
    table = table.assign(record=table["id"], set=number, source=name)
    same_scale = (prepared.card["scale"], prepared.classes) == (main.card["scale"], main.classes)
    if not same_scale and table["label"].notna().any():
        warn(f"the labels of {prepared.path} are on a different scale than those of {main.path} and are ignored")
        table["label"] = pd.array([pd.NA] * len(table), dtype="Int64")
    if len(sets) > 1:  # the same id or patient name in two sets must not be confused
        table["group"] = patients(prepared.card, table["group"])
        table["id"] = name + "/" + table["id"]
    return table


def _units(table: pd.DataFrame, sets: Sequence[PreparedSet]) -> np.ndarray:
    """int [n]: groups as numbers; copies in two sets merge their groups, as `prepare` does within one set."""
    groups = table["group"].to_numpy(object)
    if len(sets) > 1:
        place = {key: row for row, key in enumerate(zip(table["set"], table["record"], strict=True))}
        pairs = [(place[one, first], place[other, second])
                 for one, other in combinations(range(len(sets)), 2)
                 for first, second in compare_sets(sets[one], sets[other])[["id", "other"]].itertuples(index=False)
                 if (one, first) in place and (other, second) in place]  # fmt: skip
        ties = pd.DataFrame(pairs, columns=["first", "second"], dtype=np.int64)
        groups = join_copies(groups, ties, table["sha256"].to_numpy(object))
    return group_codes(groups)


def learned_from(images: Images, run: Path) -> np.ndarray:
    """bool [n]: whether `run` learned from the image, a copy of it, or another image of its patient."""
    seen, learned = read_seen(str(run)), np.zeros(len(images), bool)
    for number, prepared in enumerate(images.sets):
        own = (images.table["set"] == number).to_numpy()
        chosen = images.table["record"][own]
        records = prepared.records[prepared.records["id"].isin(chosen)]
        learned[own] = chosen.isin(find_seen(prepared, records, seen)["id"])
    return learned


@dataclass(frozen=True, kw_only=True)
class Features:
    """float32 [n, D], a row per image; `name` is "features" or "pixels", `source` says where they come from."""

    name: str
    source: str
    values: np.ndarray

    @cached_property
    def directions(self) -> np.ndarray:
        """float32 [n, D] with rows of length one, whose products are cosines; rows of zeros stay zeros."""
        return directions(self.values)

    @cached_property
    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Principal components of the directions float32 [n, d], and the share of the variance in each; d <= 50."""
        from sklearn.decomposition import PCA

        found = PCA(min(COMPONENTS, len(self.values) - 1, self.values.shape[1]), random_state=SEED)
        return found.fit_transform(self.directions), found.explained_variance_ratio_


def small_pixels(pixels: np.ndarray) -> np.ndarray:
    """uint8 [m, S, S, C] -> float32 [m, D], 0 to 1: shrunk to at most 32 x 32 px and flattened."""
    return at_size(pixels, min(PIXEL_SIDE, pixels.shape[1])).reshape(len(pixels), -1).astype(np.float32) / 255


def computed(images: Images, run: Path | None, device: str = "cpu") -> Features:
    """The features of `run`, or shrunk pixels without a run."""
    first = images.sets[0]
    side = min(PIXEL_SIDE, first.size)
    encode: Callable[[np.ndarray], np.ndarray] = small_pixels
    source = f"{'RGB' if first.channels == 3 else 'grey'} pixels at {side} x {side}"
    if run is not None:
        from foveal.predict.features import open_encoder  # torch is needed only with a run

        model, encode = read_model(run), open_encoder(run, first, device)
        source = f"{model['encoder']} of {run}, a {'grader' if model['kind'] == 'grader' else 'pre-trained encoder'}"
    parts = []
    with progress_bar("features", len(images)) as bar:
        for positions in np.split(np.arange(len(images)), range(AT_ONCE, len(images), AT_ONCE)):
            parts.append(encode(images.pixels(positions)))
            bar.advance(len(positions))
    return Features(name="features" if run else "pixels", source=source, values=np.concatenate(parts))
