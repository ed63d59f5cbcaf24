"""Time the preparation of photographs with Foveal and with Pillow, and loading with Foveal and with DataLoader.

    python benchmarks/prepare_speed.py FOLDER_OF_PHOTOGRAPHS [--repeats 8]

1. Large photographs (EyePACS originals), one thread each. Pillow decodes all pixels, crops the bright part and resizes.
   Foveal decodes at a reduced size, finds the disc, crops, resizes, measures quality and computes a fingerprint, so it
   does more. Both run in turn over all photographs, `--repeats` times.
2. An epoch at 224 px. torch's DataLoader with 2 workers reads JPEG files of 512 px, decodes, resizes and stacks them.
   Foveal reads the prepared set, from memory and memory-mapped. Both give pixels without augmentation.

The machine may be busy, so read the ratio of the medians, which is printed with n.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import foveal
from foveal.console import set_quiet
from foveal.fundus.fingerprint import fingerprint
from foveal.fundus.preparation import Preparation, prepare_file
from foveal.sets import loader
from foveal.sets.loader import ImageStore, epoch_batches, prefetch
from foveal.sets.records import open_prepared
from foveal.sources.source import list_pictures

SIZE, LOADED_SIZE, BATCH = 256, 224, 64


def with_pillow(file: Path) -> np.ndarray:
    """Decode, crop to the part that is brighter than the background, resize: the usual script."""
    image = Image.open(file).convert("RGB")
    box = image.convert("L").point(lambda value: 255 * (value > 12)).getbbox()
    return np.asarray(image.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def with_foveal(file: Path) -> np.ndarray:
    """What `foveal prepare` does with a photograph."""
    prepared = prepare_file(file, Preparation(size=SIZE, crop="ellipse"), measure=True)
    fingerprint(prepared.square)
    return prepared.pixels


def seconds(work: Callable[[], object]) -> float:
    since = time.perf_counter()
    work()
    return time.perf_counter() - since


def compare(title: str, count: int, repeats: int, **ways: Callable[[], object]) -> None:
    """Run all ways in turn, `repeats` times; print images per second, and the ratio to the first."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # a first pass, so that files and libraries are in memory
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(seconds(way))
    first = next(iter(ways))
    print(f"\n{title} (n = {repeats} runs of {count} images)")
    for name, values in times.items():
        ratios = sorted(a / b for a, b in zip(times[first], values, strict=True))
        print(
            f"  {name.replace('_', ' '):<34} {count / statistics.median(values):9.1f} images/s"
            f"   ratio {statistics.median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


class JpegFiles(Dataset):
    """Files, read as by a Dataset of a folder of images."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> torch.Tensor:
        image = Image.open(self.files[number]).convert("RGB")
        image = image.resize((LOADED_SIZE, LOADED_SIZE), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image))


def write_files(photographs: list[Path], folder: Path, count: int) -> list[Path]:
    """JPEG files of 512 px, a usual size of published sets, with different pixels."""
    folder.mkdir()
    squares = [prepare_file(file, Preparation(size=512, crop="ellipse")).pixels[..., ::-1] for file in photographs]
    files = [folder / f"{n:04d}.jpg" for n in range(count)]
    for n, file in enumerate(files):
        cv2.imwrite(str(file), np.roll(squares[n % len(squares)], n, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--loaded", type=int, default=1024, help="number of files to load")
    options = parser.parse_args()
    set_quiet(True)
    photographs = list_pictures(options.photographs)
    cv2.setNumThreads(1)
    compare(
        f"photographs to {SIZE} px, one thread", len(photographs), options.repeats,
        Pillow=lambda: [with_pillow(file) for file in photographs],
        Foveal=lambda: [with_foveal(file) for file in photographs],
    )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        files = write_files(photographs, Path(folder) / "files", options.loaded)
        prepared = open_prepared(foveal.prepare(Path(folder) / "files", out=Path(folder) / "set", size=LOADED_SIZE))
        peer = DataLoader(JpegFiles(files), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
        resident = ImageStore([(prepared, prepared.records)])
        loader.free_memory = lambda: 0  # type: ignore[assignment]
        mapped = ImageStore([(prepared, prepared.records)])

        def epoch(store: ImageStore) -> None:
            batches = epoch_batches(len(store), BATCH, 0, 0, drop_last=False)
            for _ in prefetch(torch.from_numpy(store.gather(batch)) for batch in batches):
                pass

        def peer_epoch() -> None:
            for _ in peer:
                pass

        compare(
            f"an epoch of uint8 batches at {LOADED_SIZE} px", len(prepared.records), options.repeats,
            DataLoader_2_workers_JPEG=peer_epoch, Foveal_in_memory=lambda: epoch(resident),
            Foveal_memory_mapped=lambda: epoch(mapped),
        )  # fmt: skip


if __name__ == "__main__":
    main()
