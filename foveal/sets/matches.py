"""Matches: pairs of photographs that share keypoints, and the map that lays one of them on the other.

Each keypoint of a picture votes for the pictures of its nearest neighbours. Neighbours are sought in four of many cells
(an inverted file: Sivic and Zisserman, 2003), so the time grows little faster than the number of pictures. Votes count
together if they agree by how much one picture is turned and enlarged (weak geometric consistency: Jégou, Douze and
Schmid, 2008). A pair with a few votes is looked at: many of its keypoints must lie on each other under one affine map,
which also turns, mirrors, squeezes and crops.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from foveal.fundus.fingerprint import unit
from foveal.fundus.keypoints import NUMBERS, Keypoints, evens
from foveal.sets.shards import cores

_NEIGHBOURS = 16  # nearest neighbours of each: a photograph may have this many copies, and more that are tied by these
_LEAST_ALIKE = 0.75  # cosine; nine in ten keypoints of a copy agree by more
_VOTES = 3  # that agree in turn and size
_TURNS = 8  # bins of a full turn; bins of size are octaves. Votes are counted in bins that overlap by half, too
_SIZES = 32  # bins of size: the largest keypoint is 2^16 times as large as the smallest, far more than ever found
# Nearest cells in which neighbours are sought. With two cells, or only 150 voters of a picture, 0.5 % of the copies of
# 180 photographs that `fit` confirms get too few votes; now 0.2 %.
_CELLS = 4
_BLOCK = 256  # pictures that vote at a time: at most 5 million votes, in about 100 MB
_ROWS = 1 << 14  # keypoints whose nearest cells are sought at a time
_PRODUCTS = 1 << 21  # of keypoints, at a time
_RATIO = 0.85  # of the distances to the nearest and the second nearest keypoint (Lowe, 2004)
_TOLERANCE = 0.012  # of the side, for keypoints that lie on each other
# Copies of 160 photographs share at least 11 keypoints (turned, mirrored, or cropped to 70 % anywhere), different eyes
# at most 7 in 24,000 pairs with votes.
_LEAST_SHARED = 9
_MOST_SCALE, _MOST_SQUEEZE = 2.5, 1.8  # crops to 40 % of the side; pictures squeezed to 56 %


class _Stack(NamedTuple):
    """Keypoints of many pictures: `numbers` and `poses` as in `Keypoints`, and `owner`, int64 `[k]`, the picture."""

    numbers: np.ndarray
    poses: np.ndarray
    owner: np.ndarray


def likely_pairs(ours: Sequence[Keypoints], theirs: Sequence[Keypoints] | None = None) -> np.ndarray:
    """Pairs of pictures of which several keypoints are alike, rows int64 `[k, 2]` in order.

    Within one collection, or between two. Takes memory for the keypoints and one block of votes.
    """
    if theirs is None:
        pairs = np.sort(_voted(ours, ours, within=True), axis=1)
    else:
        pairs = np.concatenate([_voted(ours, theirs), _voted(theirs, ours)[:, ::-1]])
    return np.unique(pairs, axis=0)


def fit(first: Keypoints, second: Keypoints) -> np.ndarray | None:
    """The affine map float32 `[2, 3]` from places of `second` to those of `first`, in shares of their sides.

    A map that mirrors has a negative determinant. None if fewer than 9 keypoints lie on each other, or only where one
    picture is stretched more than copies are. The map is found by random sampling (Fischler and Bolles, 1981).
    """
    if min(len(first.numbers), len(second.numbers)) < _LEAST_SHARED:
        return None
    half, a, b = evens(), unit(first.numbers), unit(second.numbers)
    even, odd = b[:, :half] @ a[:, :half].T, b[:, half:] @ a[:, half:].T
    ways = [(sign, *_distinct(even + sign * odd)) for sign in (1, -1)]
    sign, rows, columns = max(ways, key=lambda way: len(way[1]))
    if len(rows) < _LEAST_SHARED:
        return None
    way, shared = cv2.estimateAffine2D(second.places[rows], first.places[columns], ransacReprojThreshold=_TOLERANCE)
    if way is None or shared.sum() < _LEAST_SHARED or np.linalg.det(way[:, :2]) * sign <= 0:
        return None
    long, short = np.linalg.svd(way[:, :2])[1]
    stretched = max(long, 1 / short) > _MOST_SCALE or long > _MOST_SQUEEZE * short
    return None if stretched else way.astype(np.float32)


def _distinct(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose nearest column is much nearer than the second, and those columns."""
    best, rows = cosines.argmax(axis=1), np.arange(len(cosines))
    nearest = cosines[rows, best]
    cosines[rows, best] = -1
    keep = 1 - nearest < _RATIO**2 * (1 - cosines.max(axis=1))
    return rows[keep], best[keep]


def _voted(voters: Sequence[Keypoints], others: Sequence[Keypoints], within: bool = False) -> np.ndarray:
    """Rows `[k, 2]` of a voter and another picture that gets three votes or more."""
    found, index = [np.empty((0, 2), np.int64)], _stacked(others)
    if len(index.owner):
        centres = _evenly(index.numbers)
        home = np.concatenate([cells[:, 0] for cells in _nearest(index.numbers, centres, 1)])
        order = np.argsort(home, kind="stable")
        index = _Stack(*(part[order] for part in index))
        starts = np.searchsorted(home[order], np.arange(len(centres) + 1))
        for top in range(0, len(voters), _BLOCK):
            asking = _stacked(voters[top : top + _BLOCK], top)
            if len(asking.owner):
                cells = np.concatenate([*_nearest(asking.numbers, centres, _CELLS)])
                found.append(_elected(asking, index, *_neighbours(asking, index, starts, cells, within)))
    return np.concatenate(found)


def _neighbours(
    asking: _Stack, index: _Stack, starts: np.ndarray, cells: np.ndarray, within: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 16 nearest keypoints of other pictures: rows of `asking`, rows of `index`, and whether they are mirrored.

    `starts`: where each cell begins in `index`. `cells`: int64 `[k, 4]`, those in which each of `asking` seeks.
    """
    half, by_cell = evens(), np.argsort(cells.ravel(), kind="stable")
    ends = np.searchsorted(cells.ravel()[by_cell], np.arange(len(starts)))

    def nearest(cell: int) -> list[tuple[np.ndarray, ...]]:
        there, here = np.arange(*starts[cell : cell + 2]), by_cell[slice(*ends[cell : cell + 2])] // cells.shape[1]
        parts = np.array_split(here, -(-len(here) * len(there) // _PRODUCTS))
        return [nearest_of(part, there) for part in parts]

    def nearest_of(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, ...]:
        a, b = unit(asking.numbers[here]), unit(index.numbers[there])
        odd = a[:, half:] @ b[:, half:].T
        alike = a[:, :half] @ b[:, :half].T + np.abs(odd)
        if within:
            alike[asking.owner[here, None] == index.owner[there][None]] = -1
        count = min(_NEIGHBOURS, len(b))
        best = np.argpartition(alike, len(b) - count, axis=1)[:, len(b) - count :]
        cosine = np.take_along_axis(alike, best, 1)
        row, place = np.nonzero(cosine > _LEAST_ALIKE)
        best = best[row, place]
        return here[row], there[best], cosine[row, place], odd[row, best] < 0

    with ThreadPoolExecutor(cores()) as threads:
        filled = np.flatnonzero((np.diff(starts) > 0) & (np.diff(ends) > 0))
        parts = [part for parts in threads.map(nearest, filled) for part in parts]
    here, there, cosine, mirrored = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((-cosine, here))
    here, there, mirrored = here[order], there[order], mirrored[order]
    keep = np.arange(len(here)) - np.searchsorted(here, here) < _NEIGHBOURS
    return here[keep], there[keep], mirrored[keep]


def _elected(asking: _Stack, index: _Stack, here: np.ndarray, there: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Rows `[k, 2]` of pictures between which enough votes agree in turn and size."""
    ours, theirs = asking.poses[here], index.poses[there]
    turn = np.where(mirrored, ours[:, 0] + theirs[:, 0], ours[:, 0] - theirs[:, 0]) % 1 * _TURNS
    size = ours[:, 1] - theirs[:, 1] + _SIZES / 2
    first, second = asking.owner[here], index.owner[there]
    pair, pictures = np.unique(first * (index.owner.max() + 1) + second, return_inverse=True)
    found = np.zeros(len(pair), bool)
    for more_turn in (0, 0.5):
        for more_size in (0, 0.5):
            bins = np.floor(turn + more_turn) % _TURNS * _SIZES + np.floor(size + more_size)
            votes = (pictures * 2 + mirrored) * _TURNS * _SIZES + bins.astype(np.int64)
            vote, count = np.unique(votes, return_counts=True)
            found[vote[count >= _VOTES] // (2 * _TURNS * _SIZES)] = True
    return np.column_stack(np.divmod(pair[found], index.owner.max() + 1))


def _stacked(pictures: Sequence[Keypoints], first: int = 0) -> _Stack:
    """The keypoints of all pictures, of which the first is number `first`."""
    numbers = np.concatenate([*(picture.numbers for picture in pictures), np.empty((0, NUMBERS), np.int8)])
    poses = np.concatenate([*(picture.poses for picture in pictures), np.empty((0, 2), np.float32)])
    owner = np.repeat(np.arange(first, first + len(pictures)), [len(picture.numbers) for picture in pictures])
    return _Stack(numbers, poses, owner)


def _evenly(numbers: np.ndarray) -> np.ndarray:
    """Centres of cells: as many as one and a half times the root of the number of keypoints, taken evenly."""
    count = min(len(numbers), round(1.5 * len(numbers) ** 0.5))
    return unit(numbers[np.linspace(0, len(numbers) - 1, count).astype(int), : evens()])


def _nearest(numbers: np.ndarray, centres: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield the nearest cells, int64 `[k, count]`, of blocks of keypoints; mirroring changes none of them."""
    for start in range(0, len(numbers), _ROWS):
        alike = unit(numbers[start : start + _ROWS, : evens()]) @ centres.T
        cells = []
        for _ in range(min(count, len(centres))):
            cells.append(alike.argmax(axis=1))
            alike[np.arange(len(alike)), cells[-1]] = -2
        yield np.column_stack(cells)
