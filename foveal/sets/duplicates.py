"""Duplicates: find photographs that occur more than once, in one set or in two, even if they were changed a little.

There are three steps. Equal sha256 means the same pixels. A pair is a candidate if its fingerprints are similar, where
one picture lies on the other (candidates.py), or if it shares keypoints, where one was turned, cropped or squeezed
(matches.py). A candidate is a copy if its pixels, once aligned, agree in details of the size of vessels. Photographs of
different eyes ("strangers" below) agree in the places of disc and macula, but not in vessels.

Near copies were saved again with more loss, shrunk, cropped by a few per cent, brightened or made grey. Copies may also
be mirrored, turned by any angle, squeezed, or cropped to 55 % of the side at any place, and all of these at once. Other
photographs of the same eye, moments or years later, count as copies where they overlap; they belong in one split.
Not found: most changes where the eye is so hazy that no vessel is seen.
Wrongly found: a few hazy photographs of different eyes that share the reflections or the dust of one camera.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from foveal.console import progress_bar
from foveal.fundus.keypoints import Keypoints, keypoints
from foveal.sets.agreement import confirm, confirm_laid
from foveal.sets.candidates import AT_ONCE, Pictures, candidates, read_rows
from foveal.sets.matches import fit, likely_pairs
from foveal.sets.shards import cores

# Least similarity: the mean of the agreements of fingerprints and of aligned pixels. Where vessels are visible,
# strangers reach 0.55, and second photographs of one eye start at 0.67. Where all is haze, almost all pairs above it
# are copies; between 0.59 and 0.63 half of them are.
CONFIRMED = 0.63
_CONFIRMED_LAID = 0.5  # the same for pairs that their keypoints lay on each other; see agreement.py
COLUMNS = ["first", "second", "kind", "similarity"]
_TURNED = 8  # degrees from which a copy counts as turned


def find_duplicates(pictures: Pictures, others: Pictures | None = None, *, near: bool = True) -> pd.DataFrame:
    """Find all duplicates within one collection, or between `pictures` and `others`.

    `near`: False searches for equal hashes only, for pictures other than fundus photographs (two handwritten threes
    are alike without being copies). Pictures below 64 px and flat ones have no near duplicates.
    Returns columns `first`, `second` (rows of `pictures`; `second` of `others`, if given; within one collection first <
    second), `kind` ("exact", "near", "mirrored", "turned", "overlapping"), `similarity` (1 for exact, 0.63..1 for near
    and mirrored, 0.5..1 for the others), ordered by rows. Exact copies are paired with the first of them; other pairs
    are all listed. Turned ones may also be mirrored.
    """
    exact = _exact(pictures.hashes, None if others is None else others.hashes)
    if near and len(exact):
        exact = exact[~are_blank(pictures, exact["first"].to_numpy())]
    found = [exact.assign(kind="exact", similarity=1.0), *([_near(pictures, others)] if near else [])]
    return pd.concat(found).sort_values(["first", "second"], ignore_index=True)


def are_blank(pictures: Pictures, rows: np.ndarray) -> np.ndarray:
    """bool [k]: pictures of one colour, such as failed exposures, which are equal without being copies."""
    flat = np.unique(rows[~pictures.fingerprints[rows].any(axis=1)])  # the others need not be read
    parts = (flat[start : start + AT_ONCE] for start in range(0, len(flat), AT_ONCE))
    return np.isin(rows, [row for part in parts for row, picture in zip(part, pictures.read(part), strict=True)
                          if picture.min() == picture.max()])  # fmt: skip


def describe_pairs(
    ours: pd.DataFrame, theirs: pd.DataFrame, pairs: pd.DataFrame, columns: Sequence[str] = ("label",)
) -> pd.DataFrame:
    """Pairs of `find_duplicates` by id: id, other, kind, similarity, `columns` of both images, and conflict.

    ours, theirs: the records of the two sides. conflict: 1 if both images have labels, and these differ.
    """
    first = ours.iloc[pairs["first"]].reset_index(drop=True)
    second = theirs.iloc[pairs["second"]].reset_index(drop=True)
    table = pd.DataFrame({"id": first["id"], "other": second["id"], "kind": pairs["kind"].to_numpy()})
    table["similarity"] = pairs["similarity"].round(3).to_numpy()
    for column in columns:
        table[column], table[f"other_{column}"] = first[column], second[column]
    both = first["label"].notna() & second["label"].notna()
    return table.assign(conflict=(both & (first["label"] != second["label"])).fillna(False).astype(int))


def _exact(hashes: np.ndarray, others: np.ndarray | None) -> pd.DataFrame:
    """`first` and `second` of equal hashes: each copy with the first one in its own collection, or in the other."""
    ours = pd.DataFrame({"hash": hashes, "first": np.arange(len(hashes))})
    earliest = ours.drop_duplicates("hash")
    if others is None:
        pairs = earliest.merge(ours.rename(columns={"first": "second"}), on="hash")[["first", "second"]]
        return pairs[pairs["first"] < pairs["second"]]
    theirs = pd.DataFrame({"hash": others, "second": np.arange(len(others))})
    pairs = pd.concat([ours.merge(theirs.drop_duplicates("hash"), on="hash"), earliest.merge(theirs, on="hash")])
    return pairs[["first", "second"]].drop_duplicates()


def _near(pictures: Pictures, others: Pictures | None) -> pd.DataFrame:
    """Copies that lie on their originals, and those that were turned, cropped or squeezed."""
    theirs = pictures if others is None else others
    prints = None if others is None else others.fingerprints
    i, j, cosine, flipped = candidates(pictures.fingerprints, prints)
    table = _unequal(pd.DataFrame({"first": i, "second": j, "cosine": cosine, "flipped": flipped}), pictures, theirs)
    agreement = _compared(table, pictures, theirs, lambda a, b, pair: confirm(a, b, pair.flipped), "compare copies")
    table = table.assign(similarity=np.minimum(1, (table["cosine"] + agreement) / 2))
    table["kind"] = np.where(table["flipped"], "mirrored", "near").astype(object)
    near = table.loc[table["similarity"] >= CONFIRMED, COLUMNS]
    known = pd.MultiIndex.from_frame(near[["first", "second"]])
    return pd.concat([near, _changed(pictures, others, known)])


def _changed(pictures: Pictures, others: Pictures | None, known: pd.MultiIndex) -> pd.DataFrame:
    """Copies, other than the `known` ones, that one map of their keypoints lays on their originals."""
    ours, theirs = _keypoints(pictures), pictures if others is None else others
    of_theirs = ours if others is None else _keypoints(others)
    likely = likely_pairs(ours, None if others is None else of_theirs)
    table = _unequal(pd.DataFrame(likely, columns=["first", "second"]), pictures, theirs)
    table = table[~pd.MultiIndex.from_frame(table).isin(known)]
    with ThreadPoolExecutor(cores()) as threads:
        maps = list(threads.map(lambda i, j: fit(ours[i], of_theirs[j]), table["first"], table["second"]))
    table = table.assign(map=pd.Series(maps, dtype=object, index=table.index)).dropna(subset=["map"])
    table["kind"] = table["map"].map(lambda way: "turned" if _is_turned(way) else "overlapping").astype(object)
    what = "compare turned and cropped copies"
    table["similarity"] = _compared(table, pictures, theirs, lambda a, b, pair: confirm_laid(a, b, pair.map), what)
    return table.loc[table["similarity"] >= _CONFIRMED_LAID, COLUMNS]


def _is_turned(way: np.ndarray) -> bool:
    return np.linalg.det(way[:, :2]) < 0 or abs(np.degrees(np.arctan2(way[1, 0], way[0, 0]))) > _TURNED


def _unequal(table: pd.DataFrame, pictures: Pictures, others: Pictures) -> pd.DataFrame:
    """The pairs without those of equal hashes, which are known already."""
    first = np.asarray(pictures.hashes, dtype=object)[table["first"]]
    return table[first != np.asarray(others.hashes, dtype=object)[table["second"]]].reset_index(drop=True)


def _keypoints(pictures: Pictures) -> list[Keypoints]:
    """The keypoints of each picture; a flat or small one has none."""
    found = [Keypoints.none()] * len(pictures.hashes)
    known = np.flatnonzero(pictures.fingerprints.any(axis=1))
    # OpenCV releases Python's lock.
    with ThreadPoolExecutor(cores()) as threads, progress_bar("find keypoints", len(known), unit="images") as bar:
        for start in range(0, len(known), AT_ONCE):
            rows = known[start : start + AT_ONCE]
            for row, points in zip(rows, threads.map(keypoints, pictures.read(rows)), strict=True):
                found[row] = points
            bar.advance(len(rows))
    return found


def _compared(
    table: pd.DataFrame, pictures: Pictures, others: Pictures, agree: Callable[[Any, Any, Any], float], what: str
) -> np.ndarray:
    """float64 `[k]`: what `agree` gives for the pixels of each pair and its row of the table."""
    found = np.empty(len(table))
    with ThreadPoolExecutor(cores()) as threads, progress_bar(what, len(table), unit="pairs") as bar:
        for start in range(0, len(table), AT_ONCE):
            part = table.iloc[start : start + AT_ONCE]
            pixels = read_rows(pictures, part["first"].to_numpy()), read_rows(others, part["second"].to_numpy())
            found[start : start + len(part)] = list(threads.map(agree, *pixels, part.itertuples()))
            bar.advance(len(part))
    return found
