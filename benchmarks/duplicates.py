"""Measure how many altered copies of real photographs are found, how many other pairs are called copies, and how fast.

    python benchmarks/duplicates.py FOLDER [--pattern '*'] [--count 500] [--seed 0] [--same PAIRS.csv] [--rows 100000]

Each of `count` photographs is altered in eleven ways, saved and prepared like any other file. Then all pairs of
originals and copies are searched. Pairs of the same photograph should be found, and no others. phash and dhash (from
the package imagehash) are measured on the same images, and also compare mirrored pictures.

Pairs in the table --same (columns first and second: file names without ending) are known to show the same eye. They
count neither as found nor as wrong. Wrong pairs are printed, so that you can look at them.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from foveal.fundus.fingerprint import fingerprint
from foveal.fundus.keypoints import keypoints
from foveal.fundus.preparation import Preparation, prepare_file
from foveal.sets.agreement import confirm
from foveal.sets.candidates import CANDIDATE, Pictures, candidates
from foveal.sets.duplicates import find_duplicates

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
PEERS: dict[str, Callable[[Image.Image], imagehash.ImageHash]] = {"phash": imagehash.phash, "dhash": imagehash.dhash}
DISTANCES = (4, 8, 10)  # of 64 bits, from strict to lenient
PEER_PAIRS = 300_000  # the time of imagehash is measured on this many pairs, and then scaled
PEER_ROWS = 20_000  # rows for the time of matrix products of its bits, which the package does not offer


def shrink(pixels: np.ndarray) -> np.ndarray:
    """70 % of each side."""
    return cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)


def crop(pixels: np.ndarray) -> np.ndarray:
    """3 % less on each of the four sides."""
    rows, columns = (round(0.03 * side) for side in pixels.shape[:2])
    return pixels[rows:-rows, columns:-columns]


def turn(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Turned by any angle, on a black canvas that holds all of it."""
    height, width = pixels.shape[:2]
    angle = np.random.default_rng([seed, height, width, int(pixels.sum())]).uniform(0, 360)
    way = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    cosine, sine = np.abs(way[0, :2])
    across, down = (int(np.ceil(side)) for side in (height * sine + width * cosine, height * cosine + width * sine))
    way[:, 2] += (across - width) / 2, (down - height) / 2
    return cv2.warpAffine(np.ascontiguousarray(pixels), way, (across, down))


def part(pixels: np.ndarray, down: float, across: float) -> np.ndarray:
    """70 % of each side, from these shares of the height and the width on."""
    (top, height), (left, width) = (
        (round(start * side), round(0.7 * side)) for start, side in zip((down, across), pixels.shape[:2], strict=True)
    )
    return pixels[top : top + height, left : left + width]


def anywhere(pixels: np.ndarray) -> np.ndarray:
    """70 % of each side, at any place."""
    return part(pixels, *np.random.default_rng([*pixels.shape, int(pixels.sum())]).uniform(0, 0.3, 2))


def squeeze(pixels: np.ndarray) -> np.ndarray:
    """Three quarters of the width."""
    return cv2.resize(pixels, None, fx=0.75, fy=1, interpolation=cv2.INTER_AREA)


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {  # the change of the picture, and JPEG quality
    "saved at quality 60": (lambda pixels: pixels, 60),
    "shrunk to 70 %": (shrink, 95),
    "cropped by 3 %": (crop, 95),
    "mirrored": (lambda pixels: pixels[:, ::-1], 95),
    "turned": (lambda pixels: turn(pixels, 0), 95),
    "mirrored and turned": (lambda pixels: turn(pixels[:, ::-1], 1), 95),
    "upside down": (lambda pixels: pixels[::-1], 95),
    "cropped to 70 %": (lambda pixels: part(pixels, 0.15, 0.15), 95),
    "cropped anywhere": (anywhere, 95),
    "turned and cropped": (lambda pixels: part(turn(pixels, 2), 0.15, 0.15), 95),
    "squeezed and turned": (lambda pixels: turn(squeeze(pixels), 3), 95),
}
EACH = 1 + len(CHANGES)  # prepared images of each photograph


def prepared_with_copies(file: Path, first: Preparation, second: Preparation) -> list[np.ndarray]:
    """The prepared image of a file, and those of its altered copies."""
    squares, pixels = [prepare_file(file, first).pixels], cv2.imread(str(file))
    with tempfile.TemporaryDirectory() as folder:
        for number, (change, quality) in enumerate(CHANGES.values()):
            copy = Path(folder) / f"{number}.jpg"
            cv2.imwrite(str(copy), change(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
            squares.append(prepare_file(copy, second).pixels)
    return squares


def wilson(hits: int, count: int) -> str:
    """A share with its 95 % interval (Wilson, 1927)."""
    share, z2 = hits / max(1, count), 1.96**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = 1.96 * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return f"{share:.4f} [{max(0.0, middle - half):.4f}, {min(1, middle + half):.4f}]"


def ours(squares: list[np.ndarray]) -> set[tuple[int, int]]:
    """Pairs of rows that Foveal lists."""
    prints = np.stack([fingerprint(square) for square in squares])
    hashes = np.arange(len(squares)).astype(str)  # all differ, so only the pixels decide
    pictures = Pictures(fingerprints=prints, hashes=hashes, read=lambda rows: [squares[row] for row in rows])
    table = find_duplicates(pictures)
    return set(zip(table["first"], table["second"], strict=True))


def peer(squares: list[np.ndarray], name: str) -> np.ndarray:
    """Hamming distances uint8 [n, n] of imagehash: the smaller of plain and mirrored."""

    def bits(mirror: bool) -> np.ndarray:
        images = (square[:, ::-1] if mirror else square for square in squares)
        return np.stack([PEERS[name](Image.fromarray(np.ascontiguousarray(image))).hash.ravel() for image in images])

    plain, mirrored = (2 * bits(mirror).astype(np.float32) - 1 for mirror in (False, True))
    return ((64 - np.maximum(plain @ plain.T, plain @ mirrored.T)) / 2).astype(np.uint8)


def methods(squares: list[np.ndarray]) -> Iterator[tuple[str, set[tuple[int, int]]]]:
    """Each method with the pairs that it lists."""
    yield "foveal", ours(squares)
    for name in PEERS:
        distances = peer(squares, name)
        for most in DISTANCES:
            first, second = np.nonzero(np.triu(distances <= most, 1))
            yield f"{name} <= {most}", set(zip(first.tolist(), second.tolist(), strict=True))


def score(found: set[tuple[int, int]], count: int, same: set[tuple[int, int]]) -> tuple[dict[str, str], list]:
    """A row of the table, and the wrong pairs. Image r is copy r % 12 of photograph r // 12, or itself (0)."""
    hits = {
        change: sum((r, r + k) in found for r in range(0, EACH * count, EACH)) for k, change in enumerate(CHANGES, 1)
    }
    right = sum(first // EACH == second // EACH for first, second in found)
    wrong = [pair for pair in found if pair[0] // EACH != pair[1] // EACH]
    wrong = [pair for pair in wrong if (pair[0] // EACH, pair[1] // EACH) not in same]
    row = {change: wilson(hit, count) for change, hit in hits.items()}
    row["precision"] = wilson(right, right + len(wrong))
    return row | {"wrong": f"{len(wrong)} of {(EACH * count) ** 2 // 2 - EACH * EACH * count // 2:,}"}, sorted(wrong)


def known(file: Path | None, files: list[Path]) -> set[tuple[int, int]]:
    """Pairs of indices into `files` that are known to show the same eye."""
    place = {path.stem: number for number, path in enumerate(files)}
    pairs = pd.read_csv(file, dtype=str).to_numpy().tolist() if file else []
    return {(*sorted((place[a], place[b])),) for a, b in pairs if a in place and b in place}  # type: ignore[misc]


def random_prints(prints: np.ndarray, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Fingerprints of `rows` random photographs, with the mean and covariance of the real ones."""
    mean, spread = prints.mean(0), np.linalg.cholesky(np.cov(prints.T) + 1e-3 * np.eye(prints.shape[1]))
    parts = [generator.standard_normal((1000, len(mean))) @ spread.T + mean for _ in range(0, rows, 1000)]
    return np.concatenate([np.clip(np.rint(part), -7, 7).astype(np.int8) for part in parts])[:rows]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timing(squares: list[np.ndarray], rows: int, seed: int) -> None:
    """Print the time of fingerprints, candidates and confirmations, and the time that imagehash would take."""
    prints, n = np.stack([fingerprint(square) for square in squares]), len(squares)
    pairs = rows * (rows - 1) / 2
    i, j, _, flipped = candidates(prints)
    strangers = [k for k in range(len(i)) if i[k] // EACH != j[k] // EACH] or [0]
    once = seconds(lambda: [fingerprint(square) for square in squares]) / n
    each = seconds(lambda: [confirm(squares[i[k]], squares[j[k]], bool(flipped[k])) for k in range(min(200, len(i)))])
    own = Pictures(
        fingerprints=prints[::EACH],
        hashes=np.arange(n // EACH),
        read=lambda rows: [squares[EACH * row] for row in rows],
    )
    sought = seconds(lambda: [keypoints(square) for square in squares[::EACH]]) / (n // EACH)
    whole = seconds(lambda: find_duplicates(own)) / (n // EACH)
    print(f"1,000 originals: search {1e3 * whole:.1f} s; their keypoints, on one thread, {1e3 * sought:.1f} s")
    imagined = random_prints(prints, rows, np.random.default_rng(seed))
    every = seconds(lambda: candidates(imagined))
    print(f"fingerprint {once * 1e3:.2f} ms (n = {n}); confirmation {each / min(200, len(i)) * 1e3:.1f} ms a pair")
    print(f"candidates at {CANDIDATE}: {len(strangers)} of {n * n // 2:,} pairs show different photographs")
    print(f"{rows:,} fingerprints compared with each other: {every:.1f} s")
    hashes = [imagehash.phash(Image.fromarray(square)) for square in squares]
    some = list(itertools.islice(itertools.cycle(itertools.combinations(hashes, 2)), PEER_PAIRS))
    theirs = 2 * seconds(lambda: [a - b for a, b in some]) / PEER_PAIRS * pairs  # twice, because of mirrored pictures
    own = seconds(lambda: [imagehash.phash(Image.fromarray(square)) for square in squares[:300]]) / min(300, n)
    print(f"phash {own * 1e3:.2f} ms; {rows:,} compared, scaled up from {PEER_PAIRS:,} pairs: {theirs:,.0f} s")
    signs = np.random.default_rng(seed).choice(np.float32([-1, 1]), (PEER_ROWS, 64))
    products = (
        2 * seconds(lambda: [(part @ signs.T).max() for part in np.array_split(signs, 40)]) / PEER_ROWS**2 * pairs
    )
    print(f"the same by matrix products, scaled up from {PEER_ROWS:,} rows: {products:.1f} s")
    print(f"ratio of the comparisons: {theirs / every:,.0f}; with matrix products {products / every:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", default="*")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--same", type=Path)
    parser.add_argument("--rows", type=int, default=100_000, help="number of fingerprints to time; 0 times none")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--crop", default="disc")
    parser.add_argument("--copy-size", type=int, help="size of the copies, if not that of the originals")
    parser.add_argument("--copy-crop", help="crop of the copies, if not that of the originals")
    asked = parser.parse_args()

    files = sorted(path for path in asked.folder.rglob(asked.pattern) if path.suffix.lower() in ENDINGS)
    chosen = np.random.default_rng(asked.seed).permutation(len(files))[: asked.count]
    files = [files[number] for number in sorted(chosen)]
    first = Preparation(size=asked.size, crop=asked.crop)
    second = Preparation(size=asked.copy_size or asked.size, crop=asked.copy_crop or asked.crop)
    with ThreadPoolExecutor() as threads:
        prepared = threads.map(lambda file: prepared_with_copies(file, first, second), files)
        squares = list(itertools.chain.from_iterable(prepared))
    same, rows = known(asked.same, files), {}
    for name, found in methods(squares):
        rows[name], wrong = score(found, len(files), same)
        if name == "foveal":
            for a, b in sorted({(files[a // EACH].stem, files[b // EACH].stem) for a, b in wrong}):
                print(f"listed, but not known to be the same: {a},{b}")
    print(f"n = {len(files)} photographs of {asked.folder}; share found [95 % interval]")
    print(pd.DataFrame(rows).T.to_string())
    if asked.rows:
        timing(squares, asked.rows, asked.seed)


if __name__ == "__main__":
    main()
