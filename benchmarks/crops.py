"""Count which crop photographs get (circle, ellipse or whole picture), and measure how well drawn discs are found.

    python benchmarks/crops.py DATA_FOLDER [--cifar cifar10.npz] [--drawn 2000] [--large FOLDER]

1. For each folder of DATA_FOLDER with photographs: how many have a circle, an ellipse, no disc although they look like
   a retina (`whole`), and no disc. "Before" is `--crop disc`, which finds only circles; "after" is `--crop ellipse`.
   Also prints how the quality flags change, which are measured on the crop, and the CPU time of both searches.
2. The same for pictures that show no retina: blanks, noise and, with --cifar, the 10,000 test pictures of CIFAR-10.
3. Drawn photographs with a known disc: squeezed or not, off-centre, cut off, on black or white, with noise, a notch and
   a shadow. The overlap is the intersection over the union of the found and the true disc, also outside the picture.
4. With --large: photographs per second of CPU time, from the file to the prepared image, with quality.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.fundus.crop import Disc
from foveal.fundus.decode import decode
from foveal.fundus.preparation import Preparation, locate, prepare_file, prepare_pixels
from foveal.sources.phantom import draw_phantom
from foveal.sources.source import list_pictures

SIZE = 256
BEFORE, AFTER = (Preparation(size=SIZE, crop=crop) for crop in ("disc", "ellipse"))
COLUMNS = ("circle", "ellipse", "whole", "no disc")


def kind_of(disc: Disc, flags: Iterable[str]) -> str:
    """The column in which a picture is counted."""
    if disc.found:
        return "circle" if disc.width == disc.height else "ellipse"
    return "no disc" if "not-a-retina" in flags else "whole"


def count(pictures: Iterable[np.ndarray]) -> dict[str, Counter[str]]:
    """{crop: number of pictures of each kind and with each flag, and the CPU time of the search in microseconds}."""
    counts: dict[str, Counter[str]] = {"disc": Counter(), "ellipse": Counter()}
    for pixels in pictures:
        for way in (BEFORE, AFTER):
            since = time.thread_time()
            disc = locate(pixels, way)[1]
            spent = time.thread_time() - since
            flags = prepare_pixels(pixels, way, measure=True).flags
            counts[way.crop].update(["n", kind_of(disc, flags), *(f"flag {flag}" for flag in flags)])
            counts[way.crop]["microseconds"] += round(spent * 1e6)
    return counts


def report(name: str, counts: dict[str, Counter[str]]) -> None:
    """Print both rows of a source, and its flags."""
    for title, found in zip(("before", "after"), counts.values(), strict=True):
        cells = "".join(f"{found[column]:9}" for column in COLUMNS)
        share = (found["whole"] + found["no disc"]) / found["n"]
        spent = found["microseconds"] / found["n"] / 1000
        print(f"{name:24} {title:7}{found['n']:7}{cells}   {share:7.1%} not found   {spent:6.2f} ms")
    words = sorted({word for found in counts.values() for word in found if word.startswith("flag ")})
    changes = ", ".join(f"{word[5:]} {counts['disc'][word]} → {counts['ellipse'][word]}" for word in words)
    print(f"{'':24} flags: {changes or 'none'}")


def photographs(folder: Path) -> Iterator[np.ndarray]:
    for file in list_pictures(folder):
        yield decode(file, round(1.5 * SIZE)).pixels


def others(number: int) -> Iterator[np.ndarray]:
    """Blank pictures in many colours, noise of many grain sizes, and ramps."""
    random = np.random.default_rng(0)
    for k in range(number):
        shape = (int(random.integers(32, 400)), int(random.integers(32, 400)), 3)
        plain = np.broadcast_to(random.integers(0, 256, 3), shape).astype(np.float32)
        noise = random.normal(0, random.uniform(0, 80), shape)
        if k % 3 == 1:
            noise = cv2.GaussianBlur(noise, (0, 0), random.uniform(1, 30)) * random.uniform(1, 30)
        if k % 3 == 2:
            noise += np.linspace(-120, 120, shape[1])[:, None] * random.normal(size=3)
        yield (plain + noise).clip(0, 255).astype(np.uint8)


def drawn(random: np.random.Generator) -> tuple[np.ndarray, Disc]:
    """A photograph uint8 [h, w, 3], and its disc."""
    radius = float(random.uniform(100, 190))
    height, width = int(2 * radius * random.uniform(0.85, 1.2)), int(2 * radius * random.uniform(1.0, 1.6))
    cut = random.uniform(-0.06, 0.06, 2) if random.random() < 0.7 else random.uniform(-0.2, 0.2, 2)
    x, y = width / 2 + cut[0] * width, height / 2 + cut[1] * height
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    field = np.hypot(columns - x, rows - y) <= radius
    eye = draw_phantom(int(random.integers(5)), "left", 256, random).image[29:227, 29:227]  # inside its own rim
    across = 2 * radius + 2
    place = np.float32([[across / 198, 0, x - across / 2], [0, across / 198, y - across / 2]])
    retina = cv2.warpAffine(eye, place, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    shadow = np.hypot(columns - x - radius * random.uniform(-1, 1), rows - y - radius * random.uniform(-1, 1)) / radius
    light = 1 - random.uniform(0, 0.75) * np.exp(-2 * shadow**2) if random.random() < 0.5 else np.ones_like(shadow)
    pixels = np.where(field[..., None], np.maximum(retina, 30) * light[..., None], 0.0)
    white = random.random() < 0.15
    angle = random.uniform(0, 2 * np.pi)
    if not white and random.random() < 0.5:  # a notch
        at = round(x + 1.02 * radius * np.cos(angle)), round(y + 1.02 * radius * np.sin(angle))
        cv2.circle(pixels, at, round(0.05 * radius), (120.0, 70.0, 40.0), -1)
    surround = 255.0 if white else random.uniform(0, 10)
    pixels = np.where(field[..., None] | (pixels > 0), pixels, surround)
    pixels += random.normal(0, random.uniform(0, 4), pixels.shape)
    narrowed = width
    if random.random() < 0.65:  # squeezed to a square, or by some other factor
        narrowed = height if random.random() < 0.5 else round(width * random.uniform(0.65, 1.3))
    pixels = cv2.resize(pixels.clip(0, 255).astype(np.uint8), (narrowed, height), interpolation=cv2.INTER_AREA)
    ratio = narrowed / width
    return pixels, Disc((x - radius) * ratio, y - radius, 2 * radius * ratio, 2 * radius, found=True)


def overlap(first: Disc, second: Disc) -> float:
    """Intersection over union of the ellipses in two rectangles, counted on a grid of half pixels."""
    low = min(first.left, second.left), min(first.top, second.top)
    high = [max(a, b) for a, b in ((first.left + first.width, second.left + second.width),
                                   (first.top + first.height, second.top + second.height))]  # fmt: skip
    x, y = (np.arange(start, end, 0.5) for start, end in zip(low, high, strict=True))
    inside = [
        ((x - disc.left) / disc.width * 2 - 1) ** 2 + ((y[:, None] - disc.top) / disc.height * 2 - 1) ** 2 <= 1
        for disc in (first, second)
    ]
    return float((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum())


def speed(files: list[Path], repeats: int) -> None:
    """Measure both crops in turn; print the photographs per second of each, and the median of the ratios."""
    spent: dict[str, list[float]] = {"disc": [], "ellipse": []}
    for _ in range(repeats):
        for way in (BEFORE, AFTER):
            since = time.thread_time()
            for file in files:
                prepare_file(file, way, measure=True)
            spent[way.crop].append(time.thread_time() - since)
    ratio = statistics.median(a / b for a, b in zip(spent["disc"], spent["ellipse"], strict=True))
    rates = [len(files) / statistics.median(times) for times in spent.values()]
    print(f"{len(files)} large photographs, {repeats} runs: {rates[0]:.1f}/s, then {rates[1]:.1f}/s, ratio {ratio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--drawn", type=int, default=2000)
    parser.add_argument("--large", type=Path, help="folder of photographs in full resolution, to measure the speed on")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{'source':24} {'':7}{'n':>7}" + "".join(f"{column:>9}" for column in COLUMNS))
    for folder in sorted(path for path in options.data.iterdir() if path.is_dir()):
        with contextlib.suppress(FovealError):  # no pictures
            report(folder.name, count(photographs(folder)))
    report("blank, noise, ramps", count(others(1000)))
    if options.cifar:
        report("CIFAR-10", count(np.load(options.cifar)["x_test"]))
    random = np.random.default_rng(0)
    scenes = [drawn(random) for _ in range(options.drawn)]
    for title, way in (("before", BEFORE), ("after", AFTER)):
        discs = [locate(pixels, way)[1] for pixels, _ in scenes]
        shares = [overlap(disc, true) for disc, (_, true) in zip(discs, scenes, strict=True) if disc.found]
        low = np.percentile(shares, [1, 5])
        print(
            f"{'drawn':24} {title:7}{len(scenes):7}   found {len(shares)}, overlap of these: mean "
            f"{statistics.mean(shares):.4f}, 1 % below {low[0]:.4f}, 5 % below {low[1]:.4f}, "
            f"{np.mean(np.array(shares) >= 0.97):.1%} of them at least 0.97"
        )
    if options.large:
        speed(list_pictures(options.large), options.repeats)


if __name__ == "__main__":
    main()
