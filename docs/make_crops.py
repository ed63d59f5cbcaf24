"""Draw the discs that are found in a folder of photographs: `python docs/make_crops.py DATA_FOLDER`.

Writes docs/crops.png (each picture as a grey rectangle with its circle or ellipse) and prints the table of
docs/ideas/crops.md. `--photographs OUT.png` also draws them over the photographs. Do not share that file: the licences
of most data sets forbid it.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.fundus.crop import Disc
from foveal.fundus.decode import decode
from foveal.fundus.disc import find_disc

SIDE, GAP, COLUMNS = 150, 10, 9  # px of a tile's picture, px around it, tiles in a row
ENDINGS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".dcm"}
GREY, WHITE, GREEN, RED = (205, 205, 205), (255, 255, 255), (0, 120, 60), (200, 40, 40)


class Found(NamedTuple):
    """One photograph: its name in the folder, its size, the pixels that were searched, and the disc in them."""

    name: str
    width: int
    height: int
    pixels: np.ndarray
    disc: Disc


def look(folder: Path) -> list[Found]:
    """Find the disc of every picture below a folder; pictures that cannot be read are listed and left out."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS):
        try:
            decoded = decode(path, 384)
        except FovealError as error:
            print(f"{path}: {error}")  # noqa: T201
            continue
        name = path.relative_to(folder).as_posix()
        found.append(Found(name, decoded.width, decoded.height, decoded.pixels, find_disc(decoded.pixels)))
    return found


def table_row(found: Found) -> str:
    """| file | size | x, y of the centre and radius, as shares of the frame's width, height and short side | |.

    An ellipse has two radii, half its width and half its height.
    """
    rows, columns = found.pixels.shape[:2]
    disc = found.disc
    x, y = (disc.left + disc.width / 2) / columns, (disc.top + disc.height / 2) / rows
    radii = dict.fromkeys(f"{side / 2 / min(rows, columns):.3f}" for side in (disc.width, disc.height))
    place = f"{x:.3f} | {y:.3f} | {' × '.join(radii)}" if disc.found else "– | – | –"
    size, result = f"{found.width}\u00a0×\u00a0{found.height}", "found" if disc.found else "no-disc"
    return f"| `{found.name}` | {size} | {place} | {result} |"


def tile(found: Found, number: int, with_photograph: bool) -> np.ndarray:
    """A square with the frame, its circle or ellipse (green; red: not found) and its number in the table."""
    rows, columns = found.pixels.shape[:2]
    scale = SIDE / max(rows, columns)
    size = (round(columns * scale), round(rows * scale))
    frame = cv2.resize(found.pixels, size, interpolation=cv2.INTER_AREA)
    canvas = np.full((SIDE + 4 * GAP, SIDE + 4 * GAP, 3), WHITE, np.uint8)
    left, top = (canvas.shape[1] - size[0]) // 2, (canvas.shape[0] - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = frame if with_photograph else GREY
    a, b = found.disc.width / 2, found.disc.height / 2
    centre = (round(left + (found.disc.left + a) * scale), round(top + (found.disc.top + b) * scale))
    axes = (round(a * scale), round(b * scale))
    cv2.ellipse(canvas, centre, axes, 0, 0, 360, GREEN if found.disc.found else RED, 1, cv2.LINE_AA)
    cv2.putText(canvas, str(number), (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def sheet(found: list[Found], with_photographs: bool) -> np.ndarray:
    """All tiles in rows, in the order of the table."""
    tiles = [tile(one, number, with_photographs) for number, one in enumerate(found, 1)]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    return np.vstack([np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)])


def main() -> None:
    """Read the arguments, write the drawing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DATA_FOLDER", help="folder of photographs, with its subfolders")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("crops.png"), help="the drawing")
    parser.add_argument("--photographs", type=Path, metavar="OUT.png", help="also the sheet over the photographs")
    arguments = parser.parse_args()
    found = look(arguments.folder)
    if not found:
        parser.error(f"no picture that can be read in {arguments.folder}")
    cv2.imwrite(str(arguments.out), sheet(found, False)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if arguments.photographs:
        cv2.imwrite(str(arguments.photographs), sheet(found, True)[..., ::-1])
    for number, one in enumerate(found, 1):
        print(f"| {number} {table_row(one)}")  # noqa: T201


if __name__ == "__main__":
    main()
