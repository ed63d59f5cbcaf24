"""Candidates: the pairs of photographs whose fingerprints agree, as they are or mirrored.

All pairs are compared, as matrix products, since a missed copy is a leak. Fingerprints find copies that lie on their
originals; matches.py finds the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from foveal.fundus.fingerprint import even_count, unit

# 2 in 100,000 pairs of strangers agree by 0.66, less than 1 in 1,000,000 by 0.7. Copies agree by at least 0.92 (200
# saved again, shrunk and cropped at once); of 54 second photographs of an eye 47 do by 0.7, and others share keypoints.
CANDIDATE = 0.7
_BLOCK = 1024  # rows: two blocks of products fill 8 MiB, small enough to stay in the processor's cache
AT_ONCE = 128  # pictures of which the pixels are held in memory


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
    ours, even = unit(fingerprints), even_count()
    theirs = ours if others is None else unit(others)
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


def read_rows(pictures: Pictures, rows: np.ndarray) -> list[np.ndarray]:
    """The pixels of `rows` in their order; each row is read once."""
    needed, place = np.unique(rows, return_inverse=True)
    images = pictures.read(needed)
    return [images[position] for position in place]
