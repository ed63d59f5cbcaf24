"""Duplicates: find photographs that occur more than once, in one set or in two, even if they were changed a little.

There are three steps. Equal sha256 means the same pixels. Similar fingerprints make a pair a candidate; all pairs are
compared, as matrix products, since a missed copy is a leak. A candidate is a near or mirrored duplicate if its pixels,
once aligned, agree in details of the size of vessels. Photographs of different eyes ("strangers" below) agree in the
places of disc and macula, but not in vessels.

Near copies were saved again with more loss, shrunk, cropped by a few per cent, brightened or made grey. A second
photograph of the same eye from the same angle, moments or weeks later, is as similar as a lossy copy and counts as one;
both belong in one split.
Not found: pictures rotated by 10 degrees (6 are), upside down, cropped by 7 % on every side (4 % are, 5 % mostly), or
heavily enhanced where the eye is hazy. Wrongly found: a few hazy photographs of different eyes that share the
reflections or the dust of one camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from foveal.console import progress_bar
from foveal.errors import FovealError
from foveal.fundus.fingerprint import detail, even_count, fade
from foveal.sets.shards import cores

# Of 1,520,000 pairs of Messidor-2 photographs, 86 agree this well, and 58 of them show the same eye. Copies of all 547
# photographs that this was chosen on agree as well (JPEG quality 60, shrunk to 70 %, cropped by 3 %, or mirrored).
CANDIDATE = 0.66
# With more pairs (63,000 photographs with each other), checking the strangers among the candidates would take minutes:
# 2 in 100,000 pairs agree by 0.66, less than 1 in 1,000,000 by 0.7. Copies agree by at least 0.92 (200 saved again,
# shrunk and cropped at once); of 54 second photographs of an eye 47 agree by 0.7.
_MANY_PAIRS, _CANDIDATE_OF_MANY = 2_000_000_000, 0.7
# Least similarity: the mean of the agreements of fingerprints and of aligned pixels. Where vessels are visible,
# strangers reach 0.55, and second photographs of one eye start at 0.67. Where all is haze, almost all pairs above it
# are copies; between 0.59 and 0.63 half of them are.
CONFIRMED = 0.63

_BLOCK = 1024  # rows: two blocks of products fill 8 MiB, small enough to stay in the processor's cache
_PAIRS_AT_ONCE = 128  # of which the pixels are held in memory
_COARSE, _FINE = (64, 2.0, 30), (128, 3.0, 15)  # side in px, neighbourhood in px of that side, most iterations
_HOPELESS = 0.42  # agreement after the coarse alignment; half of the strangers stay below, no copy of 1,000 under 0.45
# Shares of the side. A second photograph of one eye needs less; with more, strangers could be bent until they fit.
_MOST_STRETCH, _MOST_SHIFT = 0.15, 0.2


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A collection to search.

    `fingerprints`: int8 `[n, 254]`. `hashes`: str `[n]`, sha256 of the pixels. `read`: called from one thread with
    rows, int `[k]`, ascending, k <= 128; returns their k pictures, uint8 `[S, S, C]` of any sides.
    """

    fingerprints: np.ndarray
    hashes: np.ndarray
    read: Callable[[np.ndarray], Sequence[np.ndarray] | np.ndarray]


def find_duplicates(pictures: Pictures, others: Pictures | None = None, *, near: bool = True) -> pd.DataFrame:
    """Find all duplicates within one collection, or between `pictures` and `others`.

    `near`: False searches for equal hashes only, for pictures other than fundus photographs (two handwritten threes
    are alike without being copies). Pictures below 64 px and flat ones have no near duplicates.
    Returns columns `first`, `second` (rows of `pictures`; `second` of `others`, if given; within one collection first <
    second), `kind` ("exact", "near", "mirrored"), `similarity` (0.63..1, 1 for exact), ordered by rows. All exact
    copies of a picture are paired with the first of them; near pairs are all listed.
    """
    exact = _exact(pictures.hashes, None if others is None else others.hashes)
    found = [exact.assign(kind="exact", similarity=1.0), *([_near(pictures, others)] if near else [])]
    return pd.concat(found).sort_values(["first", "second"], ignore_index=True)


def describe_pairs(
    ours: pd.DataFrame, theirs: pd.DataFrame, pairs: pd.DataFrame, columns: Sequence[str] = ("label",)
) -> pd.DataFrame:
    """Pairs of `find_duplicates` by id: id, other, kind, similarity, `columns` of both images, and conflict.

    ours, theirs: the records that the rows of the pairs mean. conflict: 1 where both have labels, and these differ.
    """
    first = ours.iloc[pairs["first"]].reset_index(drop=True)
    second = theirs.iloc[pairs["second"]].reset_index(drop=True)
    table = pd.DataFrame({"id": first["id"], "other": second["id"], "kind": pairs["kind"].to_numpy()})
    table["similarity"] = pairs["similarity"].round(3).to_numpy()
    for column in columns:
        table[column], table[f"other_{column}"] = first[column], second[column]
    both = first["label"].notna() & second["label"].notna()
    return table.assign(conflict=(both & (first["label"] != second["label"])).fillna(False).astype(int))


def candidates(
    fingerprints: np.ndarray, others: np.ndarray | None = None, threshold: float = CANDIDATE
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs whose fingerprints agree, either directly or with one of them mirrored.

    `fingerprints`: int8 `[n, 254]`; `others`: int8 `[m, 254]`, or None for the pairs i < j within one collection;
    `threshold`: of the cosine of the angle between two fingerprints, above 0. Returns rows i, rows j (int64), their
    cosine (float32) and whether it is that with a mirrored one (bool), each `[k]`, ordered by i and j.
    Takes n x m x 254 multiplications, and memory for n + m fingerprints and the pairs found.
    """
    if not 0 < threshold <= 1:
        raise FovealError("option.value", f"threshold {threshold}", expected="above 0 and at most 1")
    ours = _unit(fingerprints)
    theirs = ours if others is None else _unit(others)
    none = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, bool)
    found = [none, *_agreeing_blocks(ours, theirs, threshold, within=others is None)]
    i, j, cosine, flipped = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((j, i))
    return i[order], j[order], cosine[order], flipped[order]


def confirm(a: np.ndarray, b: np.ndarray, mirrored: bool = False) -> float:
    """Return how well two photographs agree in details of the size of vessels, after they are aligned.

    `a`, `b`: uint8 `[S, S, 3 or 1]`, of any two sides; `mirrored`: mirror b first. Returns 0..1, the normalised
    cross-correlation inside the part of the disc that both show: above 0.6 for one eye, below 0.45 for two, and
    anything between for haze; 0 where a coarse alignment already shows that they are strangers.
    The alignment is affine and maximises that correlation (Evangelidis and Psarakis, 2008). It starts from no change
    and bridges about 5 % of the side; pictures that it must bend further are strangers, and give 0.
    """
    if mirrored:
        b = np.ascontiguousarray(b[:, ::-1])
    side, neighbourhood, most = _COARSE
    warp, agreement = _align(a, b, np.eye(2, 3, dtype=np.float32), side, neighbourhood, most)
    if agreement < _HOPELESS:
        return 0.0
    # In a grid twice as fine the centre of a pixel, x, is at 2 x + 0.5; the map x' = A x + t changes accordingly.
    warp[:, 2] = 2 * warp[:, 2] + 0.5 - 0.5 * warp[:, :2].sum(axis=1)
    side, neighbourhood, most = _FINE
    warp, agreement = _align(a, b, warp, side, neighbourhood, most)
    change = np.abs(warp - np.eye(2, 3))
    bent = change[:, :2].max() > _MOST_STRETCH or change[:, 2].max() > _MOST_SHIFT * side
    return 0.0 if bent else min(1.0, max(0.0, agreement))


def _align(
    a: np.ndarray, b: np.ndarray, start: np.ndarray, side: int, neighbourhood: float, most: int
) -> tuple[np.ndarray, float]:
    """Improve the affine map `start`, float32 `[2, 3]`, from a to b; returns it and the agreement with it."""
    still, moving = detail(a, side, neighbourhood), detail(b, side, neighbourhood)
    ends = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, most, 1e-3)
    everywhere = np.full((side, side), 255, np.uint8)
    try:
        _, warp = cv2.findTransformECC(still * fade(side), moving, start.copy(), cv2.MOTION_AFFINE, ends, everywhere, 3)
    except cv2.error:  # the correlation falls instead of rising: such pictures share nothing
        warp = start
    moved = cv2.warpAffine(moving, warp, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    weight = fade(side) * (still != 0) * (moved != 0)
    energy = float((weight * still * still).sum()) * float((weight * moved * moved).sum())
    return warp.astype(np.float32), float((weight * still * moved).sum()) / max(energy, 1e-12) ** 0.5


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
    """All confirmed candidates: first, second, kind and similarity."""
    theirs = pictures if others is None else others
    count = len(pictures.hashes) * (len(pictures.hashes) / 2 if others is None else len(others.hashes))
    threshold = CANDIDATE if count <= _MANY_PAIRS else _CANDIDATE_OF_MANY
    prints = None if others is None else others.fingerprints
    i, j, cosine, flipped = candidates(pictures.fingerprints, prints, threshold)
    new = np.asarray(pictures.hashes, dtype=object)[i] != np.asarray(theirs.hashes, dtype=object)[j]
    i, j, cosine, flipped = i[new], j[new], cosine[new], flipped[new]
    agreement = np.empty(len(i))
    # OpenCV releases Python's lock.
    with ThreadPoolExecutor(cores()) as threads, progress_bar("compare copies", len(i), unit="pairs") as bar:
        for start in range(0, len(i), _PAIRS_AT_ONCE):
            now = slice(start, start + _PAIRS_AT_ONCE)
            pixels = _read(pictures, i[now]), _read(theirs, j[now])
            agreement[now] = list(threads.map(confirm, *pixels, flipped[now].tolist()))
            bar.advance(len(pixels[0]))
    similarity = np.minimum(1, (cosine + agreement) / 2)
    kinds = np.where(flipped, "mirrored", "near").astype(object)
    pairs = pd.DataFrame({"first": i, "second": j, "kind": kinds, "similarity": similarity})
    return pairs[similarity >= CONFIRMED]


def _read(pictures: Pictures, rows: np.ndarray) -> list[np.ndarray]:
    """The pixels of `rows` in their order; each row is read once."""
    needed, place = np.unique(rows, return_inverse=True)
    images = pictures.read(needed)
    return [images[position] for position in place]


def _agreeing_blocks(
    ours: np.ndarray, theirs: np.ndarray, threshold: float, within: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the agreeing pairs of each block of `_BLOCK` x `_BLOCK` pairs; i < j only, where `within`."""
    even = even_count()
    for top in range(0, len(ours), _BLOCK):
        upper = ours[top : top + _BLOCK]
        for left in range(top if within else 0, len(theirs), _BLOCK):
            lower = theirs[left : left + _BLOCK]
            plain, odd = upper[:, :even] @ lower[:, :even].T, upper[:, even:] @ lower[:, even:].T
            cosine = np.abs(odd)
            cosine += plain
            i, j = np.divmod(np.flatnonzero(cosine.ravel() > threshold), len(lower))
            keep = i + top < j + left if within else np.ones(len(i), bool)
            i, j = i[keep], j[keep]
            yield i + top, j + left, cosine[i, j], odd[i, j] < 0


def _unit(fingerprints: np.ndarray) -> np.ndarray:
    """float32 `[n, 254]` of length 1; a fingerprint of 0 stays 0 and agrees with no other."""
    numbers = fingerprints.astype(np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", numbers, numbers))[:, None]
    return np.divide(numbers, length, out=numbers, where=length > 0)
