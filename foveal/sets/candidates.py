"""Candidates: the pairs of photographs whose fingerprints agree, as they are or in one of their views.

All pairs are compared, as matrix products, since a missed copy is a leak. The fingerprints of prepared sets find copies
that lie on their originals. Those of views (foveal/fundus/views.py) find turned and cropped ones; they are taken from
the pixels whenever they are needed, so sets of every version are searched alike and no set becomes larger.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd

from foveal.fundus.fingerprint import even_count, parities
from foveal.fundus.views import AS_IT_IS, TURNED, VIEWS, view_fingerprints
from foveal.sets.shards import cores

# Of 1,520,000 pairs of Messidor-2 photographs, 86 agree this well, and 58 of them show the same eye. Copies of all 547
# photographs that this was chosen on agree as well (JPEG quality 60, shrunk to 70 %, cropped by 3 %, or mirrored).
CANDIDATE = 0.66
_BLOCK = 1024  # rows: two blocks of products fill 8 MiB, small enough to stay in the processor's cache
AT_ONCE = 128  # pictures of which the pixels are held in memory
# Rows and columns in steps of these: as it is, half a turn, mirrored, upside down.
FLIPS = ((1, 1), (-1, -1), (1, -1), (-1, 1))


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A collection to search.

    `fingerprints`: int8 `[n, 254]`. `hashes`: str `[n]`, sha256 of the pixels. `read`: called from one thread with
    rows, int `[k]`, ascending, k <= 128; returns their k pictures, uint8 `[S, S, C]` of any sides.
    """

    fingerprints: np.ndarray
    hashes: np.ndarray
    read: Callable[[np.ndarray], Sequence[np.ndarray] | np.ndarray]


def candidates(
    fingerprints: np.ndarray, others: np.ndarray | None = None, threshold: float = CANDIDATE
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs whose fingerprints agree, either directly or with one of them mirrored.

    `fingerprints`: int8 `[n, 254]`; `others`: int8 `[m, 254]`, or None for the pairs i < j within one collection;
    `threshold`: of the cosine of the angle between two fingerprints, above 0. Returns rows i, rows j (int64), their
    cosine (float32) and whether it is that with a mirrored one (bool), each `[k]`, ordered by i and j.
    Takes n x m x 254 multiplications, and memory for n + m fingerprints and the pairs found.
    """
    ours, even = _unit(fingerprints), even_count()
    theirs = ours if others is None else _unit(others)
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, bool))]
    for top in range(0, len(ours), _BLOCK):
        upper = ours[top : top + _BLOCK]
        for left in range(top if others is None else 0, len(theirs), _BLOCK):
            lower = theirs[left : left + _BLOCK]
            plain, odd = upper[:, :even] @ lower[:, :even].T, upper[:, even:] @ lower[:, even:].T
            cosine = np.abs(odd)
            cosine += plain
            i, j = np.divmod(np.flatnonzero(cosine.ravel() > threshold), len(lower))
            keep = i + top < j + left if others is None else np.ones(len(i), bool)
            i, j = i[keep], j[keep]
            found.append((i + top, j + left, cosine[i, j], odd[i, j] < 0))
    i, j, cosine, flipped = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((j, i))
    return i[order], j[order], cosine[order], flipped[order]


def view_candidates(pictures: Pictures, others: Pictures | None, threshold: float) -> pd.DataFrame:
    """Find all pairs of which one picture agrees with a view of the other.

    Returns columns `first`, `second` (rows, as in `candidates`), `cosine`, `view` (place in `VIEWS`), `flip` (in
    `FLIPS`) and `swapped` (the view is that of `second`): of each pair the best turned view and the best crop. Takes 48
    times the multiplications of `candidates`, and memory for two fingerprints of a picture.
    """
    ours = _view_prints(pictures, AS_IT_IS)
    theirs = ours if others is None else _view_prints(others, AS_IT_IS)
    found = list(_agreeing_views(pictures, theirs, 0, threshold, within=others is None))
    if others is not None:  # an angle is found from either side, a crop only from the side of the whole picture
        back = _agreeing_views(others, ours, len(TURNED), threshold, within=False)
        found += [part.rename(columns={"first": "second", "second": "first"}).assign(swapped=True) for part in back]
    table = pd.concat(found, ignore_index=True)
    table = table.assign(crop=table["view"] >= len(TURNED)).sort_values("cosine", ascending=False, kind="stable")
    table = table.drop_duplicates(["first", "second", "crop"]).drop(columns="crop")
    return table.sort_values(["first", "second", "view"], ignore_index=True)


def _agreeing_views(
    pictures: Pictures, theirs: np.ndarray, first_view: int, threshold: float, within: bool
) -> Iterator[pd.DataFrame]:
    """Yield the agreeing pairs of each block of pictures, seen in `VIEWS` from `first_view`, with all of `theirs`."""
    yield pd.DataFrame(np.empty((0, 6), int), columns=["first", "second", "cosine", "view", "flip", "swapped"])
    views = tuple(range(first_view, len(VIEWS)))
    for top in range(0, len(pictures.hashes), _BLOCK):
        upper = _view_prints(pictures, views, slice(top, top + _BLOCK))
        for place, view in enumerate(views):
            crop = int(view >= len(TURNED))
            for left in range(top if within and not crop else 0, len(theirs), _BLOCK):
                i, j, cosine, flip = _best_flips(upper[:, place], theirs[left : left + _BLOCK, crop], threshold)
                i, j = i + top, j + left
                keep = (i != j if crop else i < j) if within else np.ones(len(i), bool)
                first, second = (np.minimum(i, j), np.maximum(i, j)) if within else (i, j)
                table = pd.DataFrame({"first": first, "second": second, "cosine": cosine, "view": view, "flip": flip})
                yield table.assign(swapped=first != i)[keep]


def _best_flips(ours: np.ndarray, theirs: np.ndarray, threshold: float) -> tuple[np.ndarray, ...]:
    """Rows i and j, cosine and place in `FLIPS` of the pairs that agree; of each pair the best flip."""
    neither, column, row, both = (ours[:, part] @ theirs[:, part].T for part in _quarters()[1])
    turned, mirrored = np.abs(column + row), np.abs(row - column)
    turned += neither + both
    mirrored += neither - both
    cosine = np.maximum(turned, mirrored)
    i, j = np.divmod(np.flatnonzero(cosine.ravel() > threshold), len(theirs))
    half = np.where(turned[i, j] >= mirrored[i, j], column[i, j] + row[i, j] < 0, 2 + (row[i, j] < column[i, j]))
    return i, j, cosine[i, j], half


def _view_prints(pictures: Pictures, views: tuple[int, ...], part: slice = slice(None)) -> np.ndarray:
    """float32 `[n, k, 254]` of length 1, of k views, numbers in the order of `_quarters`; 0 for small and flat ones."""
    rows = np.arange(len(pictures.hashes))[part]
    prints = np.zeros((len(rows), len(views), pictures.fingerprints.shape[1]), np.float32)
    known = np.flatnonzero(pictures.fingerprints[rows].any(axis=1))
    with ThreadPoolExecutor(cores()) as threads:
        for start in range(0, len(known), AT_ONCE):
            now = known[start : start + AT_ONCE]
            found = list(threads.map(lambda image: view_fingerprints(image, views), pictures.read(rows[now])))
            prints[now] = _unit(np.stack(found)[..., _quarters()[0]])
    return prints


@cache
def _quarters() -> tuple[np.ndarray, list[slice]]:
    """Places of the numbers of a fingerprint by what changes their sign (nothing, mirroring, upside down, both), and
    the parts of fingerprints in that order."""
    down, across = parities()
    counts = [int(((down == d) & (across == a)).sum()) for d in (1, -1) for a in (1, -1)]
    return np.lexsort((-across, -down)), [slice(*ends) for ends in pairwise(accumulate(counts, initial=0))]


def read_rows(pictures: Pictures, rows: np.ndarray) -> list[np.ndarray]:
    """The pixels of `rows` in their order; each row is read once."""
    needed, place = np.unique(rows, return_inverse=True)
    images = pictures.read(needed)
    return [images[position] for position in place]


def _unit(fingerprints: np.ndarray) -> np.ndarray:
    """float32 `[n, 254]` of length 1; a fingerprint of 0 stays 0 and agrees with no other."""
    numbers = fingerprints.astype(np.float32)
    length = np.sqrt(np.einsum("...d,...d->...", numbers, numbers))[..., None]
    return np.divide(numbers, length, out=numbers, where=length > 0)
