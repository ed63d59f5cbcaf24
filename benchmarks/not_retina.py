"""Count how many pictures that do not show one retina get the flag not-a-retina, and how many real photographs.

    python benchmarks/not_retina.py SHARED_DATA [--cifar cifar10.npz] [--count 200] [--seed 0] [--size 224]

SHARED_DATA has folders of real photographs, from which contact sheets, pairs of eyes, report pages and windows of
viewers are composed. Blank pages, charts, screenshots, external eyes and balls are drawn, each with random variations.
CIFAR-10 has everyday pictures, which are also shown in a circle. Use even seeds to choose the rules and odd seeds to
test them: the two use different real photographs, pictures of CIFAR-10 and drawings.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from foveal.errors import FovealError
from foveal.fundus.preparation import Preparation, Prepared, prepare_file, prepare_pixels

SOURCES = {
    "Messidor-2": "messidor2/images", "APTOS": "aptos224/train_images", "Malaysia": "malaysia/images",
    "EyePACS": "eyepacs256/train", "ungraded": "fundus_unlabelled", "EyePACS originals": "eyepacs_fullres/train",
    "other cameras": "fundus_samples_fullres",
}  # fmt: skip
ENDINGS = (".jpg", ".jpeg", ".png", ".tif")
Random = np.random.Generator
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)


def shrunk(photograph: np.ndarray, side: int) -> np.ndarray:
    """The photograph, resized to this long side."""
    scale = side / max(photograph.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=way)


def paste(page: np.ndarray, picture: np.ndarray, top: int, left: int) -> None:
    part = picture[: page.shape[0] - top, : page.shape[1] - left]
    page[top : top + part.shape[0], left : left + part.shape[1]] = part


def text(page: np.ndarray, random: Random, top: int, bottom: int, left: int, right: int, colour: int) -> None:
    """Lines of random words."""
    size, font = random.uniform(0.35, 0.7), FONTS[random.integers(len(FONTS))]
    for y in range(top, bottom, round(random.uniform(24, 44) * size) + 4):
        words = "".join(random.choice(list("abcdefghiklmnorstuv   "), random.integers(8, 60)))
        cv2.putText(page[:, left:right], words, (0, y), font, size, (colour,) * 3, 1, cv2.LINE_AA)


def blank(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    """One colour, noise, or a gradient of brightness."""
    colour = random.integers(0, 256, 3) if random.random() < 0.7 else np.full(3, random.choice([0, 255, 128]))
    slope = np.linspace(-1, 1, 400)[:, None, None] * random.choice([0, 40])
    page = np.ones((400, int(random.integers(300, 700)), 3)) * colour + slope
    return np.clip(page + random.normal(0, random.choice([0, 3]), page.shape), 0, 255).astype(np.uint8)


def contact_sheet(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    rows, columns = (int(number) for number in random.choice([(1, 3), (2, 2), (2, 3), (3, 3), (3, 4), (5, 5)]))
    tile, gap = int(random.integers(120, 300)), int(random.integers(0, 20))
    side = tile + gap
    page = np.full((rows * side + gap, columns * side + gap, 3), random.choice([0, 30, 128, 255]), np.uint8)
    for row in range(rows):
        for column in range(columns):
            picture = shrunk(photographs[random.integers(len(photographs))], tile)
            paste(page, picture, gap + row * side + (tile - picture.shape[0]) // 2, gap + column * side)
    return page


def two_eyes(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    tile, gap = int(random.integers(250, 600)), int(random.integers(0, 40))
    smaller = round(tile * random.choice([1, 1, random.uniform(0.3, 0.9)]))
    picture, other = (shrunk(photographs[random.integers(len(photographs))], side) for side in (tile, smaller))
    other = shrunk(picture[:, ::-1], smaller) if random.random() < 0.4 else other
    height, width = max(picture.shape[0], other.shape[0]), picture.shape[1] + other.shape[1]
    page = np.full((height + 2 * gap, width + 3 * gap, 3), random.choice([0, 0, 128, 255]), np.uint8)
    paste(page, picture, gap, gap)
    paste(page, other, gap, 2 * gap + picture.shape[1])
    return page if random.random() < 0.8 else np.ascontiguousarray(page.transpose(1, 0, 2))


def report_page(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    height, width = (1100, 800) if random.random() < 0.7 else (750, 1100)
    light = random.random() < 0.8
    page = np.full((height, width, 3), random.integers(235, 256) if light else random.integers(10, 50), np.uint8)
    ink = int(random.integers(0, 90)) if light else 220
    text(page, random, 40, height - 20, 40, width - 40, ink)
    side = int(random.uniform(0.2, 0.45) * width)
    top = int(random.integers(60, height - side - 40))
    for number in range(int(random.integers(1, 3))):
        picture = shrunk(photographs[random.integers(len(photographs))], side)
        left = int(random.integers(30, width // 2 - side // 2)) if not number else width // 2 + 10
        page[max(0, top - 20) : top + picture.shape[0] + 20, max(0, left - 20) : left + side + 20] = page[0, 0]
        paste(page, picture, top, left)
    if random.random() < 0.5:
        cv2.rectangle(page, (0, 0), (width, 50), tuple(int(v) for v in random.integers(0, 200, 3)), -1)
    return page


def external_eye(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    """Skin, white of the eye, iris with rays, pupil, reflection, lids with lashes."""
    height, width = 400, int(random.integers(450, 640))
    skin = np.array([[224, 180, 150], [190, 140, 110], [120, 80, 60], [240, 205, 185]])[random.integers(4)]
    page = np.clip(skin + cv2.GaussianBlur(random.normal(0, 60, (height, width, 1)), (0, 0), 6)[..., None], 0, 255)
    page = np.ascontiguousarray(page).astype(np.uint8)
    centre = (width // 2 + int(random.integers(-50, 50)), height // 2 + int(random.integers(-30, 30)))
    axes = (int(random.uniform(0.32, 0.46) * width), int(random.uniform(0.18, 0.34) * height))
    inside = cv2.ellipse(np.zeros((height, width), np.uint8), centre, axes, 0, 0, 360, 255, -1)
    eye = np.full_like(page, random.integers(200, 245, 3) - np.array([0, 15, 15]))
    for _ in range(int(random.integers(2, 12))):  # vessels of the white
        start = (int(random.integers(0, width)), int(random.integers(0, height)))
        end = (start[0] + int(random.integers(-70, 70)), start[1] + int(random.integers(-30, 30)))
        cv2.line(eye, start, end, (210, 110, 110), 1, cv2.LINE_AA)
    iris = np.array([[90, 60, 30], [70, 110, 150], [90, 120, 70], [50, 35, 25]])[random.integers(4)]
    radius = int(random.uniform(0.75, 1.15) * axes[1])
    cv2.circle(eye, centre, radius, tuple(int(v) for v in iris), -1, cv2.LINE_AA)
    for angle in random.uniform(0, 2 * np.pi, 90):
        ray = (int(centre[0] + radius * np.cos(angle)), int(centre[1] + radius * np.sin(angle)))
        cv2.line(eye, centre, ray, tuple(int(v) for v in np.clip(iris + random.integers(-30, 40), 0, 255)), 1)
    cv2.circle(eye, centre, int(radius * random.uniform(0.3, 0.6)), (8, 6, 6), -1, cv2.LINE_AA)
    cv2.circle(eye, (centre[0] - radius // 4, centre[1] - radius // 4), max(3, radius // 9), (255, 255, 255), -1)
    page[inside > 0] = eye[inside > 0]
    cv2.ellipse(page, centre, axes, 0, 180, 360, tuple(int(v) for v in skin // 3), 4, cv2.LINE_AA)
    for angle in np.linspace(np.pi * 1.1, np.pi * 1.9, int(random.integers(0, 40))):
        foot = np.array([centre[0] + axes[0] * np.cos(angle), centre[1] + axes[1] * np.sin(angle)])
        tip = foot + np.array([30 * np.cos(angle), 30 * np.sin(angle)])
        cv2.line(page, foot.astype(int).tolist(), tip.astype(int).tolist(), (20, 15, 15), 2, cv2.LINE_AA)
    return cv2.GaussianBlur(page, (0, 0), random.uniform(0.6, 2))


def chart(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    """Axes with lines, bars or points on white or on dark grey."""
    dark = random.random() < 0.3
    page = np.full((450, int(random.integers(500, 800)), 3), 30 if dark else 255, np.uint8)
    ink, width = 220 if dark else 30, page.shape[1]
    cv2.line(page, (60, 30), (60, 400), (ink,) * 3, 2)
    cv2.line(page, (60, 400), (width - 30, 400), (ink,) * 3, 2)
    kind = random.integers(3)
    for _ in range(int(random.integers(1, 4))):
        colour = tuple(int(value) for value in random.integers(0, 230, 3))
        across, height = np.linspace(70, width - 40, 20), 380 - np.abs(np.cumsum(random.normal(8, 25, 20))) % 330
        points = np.column_stack([across, height]).astype(np.int32)
        if kind == 0:
            cv2.polylines(page, [points], False, colour, 2, cv2.LINE_AA)
        for x, y in points.tolist() if kind else []:
            cv2.rectangle(page, (x, y), (x + 12, 400 if kind == 1 else y + 6), colour, -1)
    text(page, random, 20, 28, 100, width - 40, ink)
    text(page, random, 425, 445, 60, width - 40, ink)
    return page


def screenshot(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    """Windows with bars, buttons and text."""
    page = np.full((600, 960, 3), random.integers(0, 256, 3), np.uint8)
    for _ in range(int(random.integers(1, 5))):
        top, left = int(random.integers(0, 300)), int(random.integers(0, 500))
        bottom, right = top + int(random.integers(150, 300)), left + int(random.integers(250, 460))
        light = int(random.choice([245, 255, 40]))
        cv2.rectangle(page, (left, top), (right, bottom), (light,) * 3, -1)
        cv2.rectangle(page, (left, top), (right, top + 22), tuple(int(v) for v in random.integers(0, 230, 3)), -1)
        text(page, random, top + 50, bottom - 5, left + 10, right - 10, 20 if light > 100 else 220)
    return page


def viewer(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    """One large photograph in a dark window: a bar, a panel with thumbnails or text, and text over the photograph."""
    height, width, grey = 700, int(random.choice([420, 900, 1100])), int(random.integers(0, 60))
    page = np.full((height, width, 3), grey, np.uint8)
    top, left = int(random.integers(25, 70)), int(random.choice([0, random.uniform(0.1, 0.22) * width]))
    page[:top], page[:, :left] = grey + random.integers(8, 40), grey + random.integers(8, 30)
    text(page, random, top // 2, top // 2 + 1, 10, width, 210)
    if random.random() < 0.5 and left:
        for y in range(top + 10, height - left, left):
            paste(page, shrunk(photographs[random.integers(len(photographs))], left - 20), y, 10)
    elif left:
        text(page, random, top + 30, height - 20, 10, left - 5, 210)
    room = (height - top, width - left)
    photograph = photographs[random.integers(len(photographs))]
    scale = min(room[0] / photograph.shape[0], room[1] / photograph.shape[1]) * random.uniform(0.8, 1)
    photograph = shrunk(photograph, int(scale * max(photograph.shape[:2])))
    if random.random() < 0.5:
        page[top:, left:] = 0
    paste(page, photograph, top + (room[0] - photograph.shape[0]) // 2, left + (room[1] - photograph.shape[1]) // 2)
    text(page, random, top + 20, top + int(random.integers(21, 90)), left + 10, left + room[1] // 2, 230)
    return page


def ball(random: Random, photographs: list[np.ndarray]) -> np.ndarray:
    """A lit ball with a mottled surface: a fruit, a planet, a lamp."""
    y, x = np.mgrid[-1.1:1.1:400j, -1.1:1.1:400j]
    towards = random.uniform(-0.6, 0.6, 2)
    light = 0.2 + 0.8 * np.sqrt(np.clip(1 - x**2 - y**2, 0, 1)) + 0.5 * (towards[0] * x + towards[1] * y)
    spots = cv2.GaussianBlur(random.normal(0, 1, x.shape), (0, 0), random.uniform(1, 8))
    light = light * (1 + spots * random.uniform(0, 0.2) / spots.std())
    colours = np.array([[230, 120, 40], [200, 60, 40], [220, 170, 60], [150, 150, 150], [240, 150, 90], [120, 60, 30]])
    surface = light[..., None] * colours[random.integers(len(colours))]
    page = np.where((x**2 + y**2 < 1)[..., None], surface, float(random.choice([0, 0, 255])))
    return np.clip(page + random.normal(0, random.uniform(0.5, 3), page.shape), 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[Random, list[np.ndarray]], np.ndarray]] = {
    "blank": blank, "contact sheet": contact_sheet, "two eyes": two_eyes, "report page": report_page,
    "external eye": external_eye, "chart": chart, "screenshot": screenshot, "viewer": viewer, "ball": ball,
}  # fmt: skip


def everyday(file: Path, random: Random, count: int, odd: bool) -> list[np.ndarray]:
    """CIFAR-10 test images, enlarged to 256 px."""
    with np.load(file) as arrays:
        images = arrays["x_test"][int(odd) :: 2]
    chosen = random.permutation(len(images))[:count]
    return [cv2.resize(images[number], (256, 256), interpolation=cv2.INTER_CUBIC) for number in chosen]


def in_circle(random: Random, picture: np.ndarray) -> np.ndarray:
    """The part of a picture in a circle on black or white; half of the pictures are grey or sepia."""
    y, x = np.mgrid[-1 : 1 : picture.shape[0] * 1j, -1 : 1 : picture.shape[1] * 1j]
    outside = (x**2 + y**2 > random.uniform(0.8, 1))[..., None]
    tints = ([1, 1, 1], [1.1, 0.85, 0.6], [1.2, 0.6, 0.3])
    tinted = picture.mean(axis=2, keepdims=True) * tints[random.integers(3)] if random.random() < 0.5 else picture
    return np.where(outside, random.choice([0, 0, 255]), tinted).clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--save", type=Path, help="folder for the pictures with a wrong result")
    asked = parser.parse_args()
    preparation, random, rows, some = (
        Preparation(size=asked.size, crop="ellipse"),
        np.random.default_rng(asked.seed),
        [],
        [],
    )

    def add(kind: str, name: str, prepared: Prepared) -> None:
        wrong = "not-a-retina" in prepared.flags
        rows.append({"kind": kind, "flagged": wrong, "retina": prepared.measures["retina"]})
        if asked.save and wrong == (kind in SOURCES):
            asked.save.mkdir(exist_ok=True)
            cv2.imwrite(str(asked.save / f"{kind.replace(' ', '_')}_{name}.png"), prepared.square[..., ::-1])

    for source, folder in SOURCES.items():
        files = sorted(file for file in (asked.data / folder).rglob("*") if file.suffix.lower() in ENDINGS)
        files = files[asked.seed % 2 :: 2] if len(files) > 100 else files
        for number in sorted(random.permutation(len(files))[: 2 * asked.count]):
            try:
                add(source, files[number].stem, prepare_file(files[number], preparation, measure=True))
            except FovealError:
                continue
            if len(some) < 400 and number % 5 == 0 and len(files) > 100:
                some.append(shrunk(cv2.imread(str(files[number]))[..., ::-1], 600))
    for kind, draw in KINDS.items():
        for number in range(asked.count):
            add(kind, str(number), prepare_pixels(np.ascontiguousarray(draw(random, some)), preparation, measure=True))
    odd = asked.seed % 2 == 1
    for number, image in enumerate(everyday(asked.cifar, random, asked.count, odd) if asked.cifar else []):
        add("everyday", str(number), prepare_pixels(image, preparation, measure=True))
        add("in a circle", str(number), prepare_pixels(in_circle(random, image), preparation, measure=True))
    table = pd.DataFrame(rows).groupby("kind", sort=False)["flagged"].agg(["size", "sum"])
    table["flagged %"] = (100 * table["sum"] / table["size"]).round(1)
    real = table.index.isin(list(SOURCES))
    print(table.rename(columns={"size": "n", "sum": "flagged"}).to_string())
    for name, part in (("real photographs", table[real]), ("other pictures", table[~real])):
        flagged, n = part["sum"].sum(), part["size"].sum()
        print(f"{name}: {flagged} of {n} flagged, {100 * flagged / max(1, n):.2f} %")


if __name__ == "__main__":
    main()
