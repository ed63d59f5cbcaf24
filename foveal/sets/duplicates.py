"""Duplicates: find photographs that occur more than once, in one set or in two, even if they were changed a little.

There are three steps. Equal sha256 means the same pixels. A pair is a candidate if its fingerprints are similar, where
one picture lies on the other (candidates.py), or if it shares keypoints, where one was turned, cropped or squeezed
(matches.py). A candidate is a copy if its pixels, once aligned, agree in details of the size of vessels. Photographs of
different eyes ("strangers" below) agree in the places of disc and macula, but not in vessels.

Near copies were saved again with more loss, shrunk, cropped by a few per cent, brightened or made grey. A second
photograph of the same eye from the same angle, moments or weeks later, is as similar as a lossy copy and counts as one;
both belong in one split. Copies may also be mirrored, turned by any angle, squeezed, or cropped to 55 % of the side at
any place, and all of these at once. Not found: most changes where the eye is so hazy that no vessel is seen.
Wrongly found: a few hazy photographs of different eyes that share the reflections or the dust of one camera.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pandas as pd

from foveal.console import progress_bar
from foveal.fundus.fingerprint import detail, fade
from foveal.fundus.keypoints import Keypoints, keypoints
from foveal.sets.candidates import AT_ONCE, CANDIDATE, Pictures, candidates, read_rows
from foveal.sets.matches import fit, likely_pairs
from foveal.sets.shards import cores

# With more pairs (63,000 photographs with each other), checking the strangers among the candidates would take minutes:
# 2 in 100,000 pairs agree by 0.66, less than 1 in 1,000,000 by 0.7. Copies agree by at least 0.92 (200 saved again,
# shrunk and cropped at once); of 54 second photographs of an eye 47 agree by 0.7.
_MANY_PAIRS, _CANDIDATE_OF_MANY = 2_000_000_000, 0.7
# Least similarity: the mean of the agreements of fingerprints and of aligned pixels. Where vessels are visible,
# strangers reach 0.55, and second photographs of one eye start at 0.67. Where all is haze, almost all pairs above it
# are copies; between 0.59 and 0.63 half of them are.
CONFIRMED = 0.63
# Laid on each other by their keypoints, copies of 160 photographs agree by 0.7 and more, strangers by at most 0.23.
_LAID, _CONFIRMED_LAID = (128, 4.0), 0.4  # side and neighbourhood as below; least correlation
_TURNED = 8  # degrees from which a copy counts as turned
_COARSE, _FINE = (64, 2.0, 30), (128, 3.0, 15)  # side in px, neighbourhood in px of that side, most iterations
_HOPELESS = 0.42  # agreement after the coarse alignment; half of the strangers stay below, no copy of 1,000 under 0.45
# Shares of the side. A second photograph of one eye needs less; with more, strangers could be bent until they fit.
_MOST_STRETCH, _MOST_SHIFT = 0.15, 0.2


def find_duplicates(pictures: Pictures, others: Pictures | None = None, *, near: bool = True) -> pd.DataFrame:
    """Find all duplicates within one collection, or between `pictures` and `others`.

    `near`: False searches for equal hashes only, for pictures other than fundus photographs (two handwritten threes
    are alike without being copies). Pictures below 64 px and flat ones have no near duplicates.
    Returns columns `first`, `second` (rows of `pictures`; `second` of `others`, if given; within one collection first <
    second), `kind` ("exact", "near", "mirrored", "turned", "cropped"), `similarity` (1 for exact, 0.63..1 for near and
    mirrored, 0.4..1 for the others), ordered by rows. Exact copies are paired with the first of them; other pairs are
    all listed. Turned ones may also be mirrored.
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


def confirm(a: np.ndarray, b: np.ndarray, mirrored: bool = False, framed: bool = True) -> float:
    """Return how well two photographs agree in details of the size of vessels, after they are aligned.

    `a`, `b`: uint8 `[S, S, 3 or 1]`, of any two sides; `mirrored`: mirror b first; `framed`: as of `detail`. Returns
    0..1, the normalised cross-correlation inside the part of the disc that both show: above 0.6 for one eye, below 0.45
    for two, and anything between for haze; 0 where a coarse alignment already shows that they are strangers.
    The alignment is affine and maximises that correlation (Evangelidis and Psarakis, 2008). It starts from no change
    and bridges about 5 % of the side; pictures that it must bend further are strangers, and give 0.
    """
    if mirrored:
        b = np.ascontiguousarray(b[:, ::-1])
    warp, agreement = _align(a, b, np.eye(2, 3, dtype=np.float32), *_COARSE, framed)
    if agreement < _HOPELESS:
        return 0.0
    # In a grid twice as fine the centre of a pixel, x, is at 2 x + 0.5; the map x' = A x + t changes accordingly.
    warp[:, 2] = 2 * warp[:, 2] + 0.5 - 0.5 * warp[:, :2].sum(axis=1)
    warp, agreement = _align(a, b, warp, *_FINE, framed)
    change = np.abs(warp - np.eye(2, 3))
    bent = change[:, :2].max() > _MOST_STRETCH or change[:, 2].max() > _MOST_SHIFT * _FINE[0]
    return 0.0 if bent else min(1.0, max(0.0, agreement))


def _align(
    a: np.ndarray, b: np.ndarray, start: np.ndarray, side: int, neighbourhood: float, most: int, framed: bool
) -> tuple[np.ndarray, float]:
    """Improve the affine map `start`, float32 `[2, 3]`, from a to b; returns it and the agreement with it."""
    still, moving = (detail(picture, side, neighbourhood, framed) for picture in (a, b))
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
    theirs = pictures if others is None else others
    count = len(pictures.hashes) * (len(pictures.hashes) / 2 if others is None else len(others.hashes))
    threshold = CANDIDATE if count <= _MANY_PAIRS else _CANDIDATE_OF_MANY
    prints = None if others is None else others.fingerprints
    i, j, cosine, flipped = candidates(pictures.fingerprints, prints, threshold)
    table = pd.DataFrame({"first": i, "second": j, "cosine": cosine})
    table["kind"] = np.where(flipped, "mirrored", "near").astype(object)
    near = _confirmed(_not_exact(table, pictures, theirs), pictures, theirs, "compare copies")
    near = near[near["similarity"] >= CONFIRMED]
    ours = _keypoints(pictures)
    of_others = ours if others is None else _keypoints(others)
    likely = likely_pairs(ours, None if others is None else of_others)
    table = _not_exact(pd.DataFrame(likely, columns=["first", "second"]), pictures, theirs)
    known = pd.MultiIndex.from_frame(near[["first", "second"]])
    table = _fitted(table[~pd.MultiIndex.from_frame(table).isin(known)], ours, of_others)
    changed = _confirmed(table, pictures, theirs, "compare turned and cropped copies")
    changed = changed[changed["similarity"] >= _CONFIRMED_LAID]
    return pd.concat([near, changed])[["first", "second", "kind", "similarity"]]


def _not_exact(table: pd.DataFrame, pictures: Pictures, others: Pictures) -> pd.DataFrame:
    """The pairs without those of equal hashes, which are known already."""
    first = np.asarray(pictures.hashes, dtype=object)[table["first"]]
    return table[first != np.asarray(others.hashes, dtype=object)[table["second"]]].reset_index(drop=True)


def _keypoints(pictures: Pictures) -> list[Keypoints]:
    """The keypoints of each picture; a flat or small one has none."""
    found = [Keypoints.none()] * len(pictures.hashes)
    known = np.flatnonzero(pictures.fingerprints.any(axis=1))
    with ThreadPoolExecutor(cores()) as threads, progress_bar("find keypoints", len(known), unit="images") as bar:
        for start in range(0, len(known), AT_ONCE):
            rows = known[start : start + AT_ONCE]
            for row, points in zip(rows, threads.map(keypoints, pictures.read(rows)), strict=True):
                found[row] = points
            bar.advance(len(rows))
    return found


def _fitted(table: pd.DataFrame, ours: list[Keypoints], theirs: list[Keypoints]) -> pd.DataFrame:
    """The pairs whose keypoints lie on each other, with their `map` and `kind`."""
    with ThreadPoolExecutor(cores()) as threads:
        maps = list(threads.map(lambda i, j: fit(ours[i], theirs[j]), table["first"], table["second"]))
    table = table.assign(map=pd.Series(maps, dtype=object, index=table.index))
    table = table[table["map"].notna()].reset_index(drop=True)
    angles = [np.degrees(np.arctan2(way[1, 0], way[0, 0])) for way in table["map"]]
    turned = [
        np.linalg.det(way[:, :2]) < 0 or abs(angle) > _TURNED for way, angle in zip(table["map"], angles, strict=True)
    ]
    return table.assign(kind=np.where(turned, "turned", "cropped").astype(object))


def _confirmed(table: pd.DataFrame, pictures: Pictures, others: Pictures, what: str) -> pd.DataFrame:
    """Candidates with their `similarity`: the mean of the agreements of fingerprints and of aligned pixels."""
    similarity = np.empty(len(table))
    # OpenCV releases Python's lock.
    with ThreadPoolExecutor(cores()) as threads, progress_bar(what, len(table), unit="pairs") as bar:
        for start in range(0, len(table), AT_ONCE):
            part = table.iloc[start : start + AT_ONCE]
            pixels = read_rows(pictures, part["first"].to_numpy()), read_rows(others, part["second"].to_numpy())
            similarity[start : start + len(part)] = list(threads.map(_similarity, *pixels, part.itertuples()))
            bar.advance(len(part))
    return table.assign(similarity=np.minimum(1, similarity))


def _similarity(a: np.ndarray, b: np.ndarray, pair: Any) -> float:
    """How alike two pictures are as they are, or after the map of their keypoints has laid one on the other."""
    if not hasattr(pair, "map"):
        return (pair.cosine + confirm(a, b, pair.kind == "mirrored")) / 2
    return _alike(*_laid(a, b, pair.map))


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    """The normalised cross-correlation of the details of two squares where both show something, 0..1."""
    side, neighbourhood = _LAID
    still, moved = (detail(picture, side, neighbourhood, framed=False) for picture in (a, b))
    both = (still != 0) & (moved != 0)
    energy = float((both * still * still).sum()) * float((both * moved * moved).sum())
    return max(0.0, float((both * still * moved).sum()) / max(energy, 1e-12) ** 0.5)


def _laid(a: np.ndarray, b: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures as uint8 `[128, 128, 1]` in the frame of the one that shows less; `way` is that of `fit`."""
    if abs(np.linalg.det(way[:, :2])) > 1:  # the frame of b is larger than that of a
        a, b, way = b, a, cv2.invertAffineTransform(way)
    side, moving = _LAID[0], _grey(a, 2 * _LAID[0])
    still, size = _grey(b, side), len(moving)
    # From shares of the side to pixels, whose centres are at half ones.
    turn = way[:, :2] * size / side
    way = np.column_stack([turn, way[:, 2] * size + (turn.sum(axis=1) - 1) / 2])
    moved = cv2.warpAffine(moving, way, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return still[..., None], moved[..., None]


def _grey(picture: np.ndarray, side: int) -> np.ndarray:
    """The grey values uint8 `[side, side]`."""
    grey = picture[..., 0] if picture.shape[2] == 1 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if side < len(grey) else cv2.INTER_LINEAR)
