"""Pack the data of the GPU programs into files below 60 MB, for a machine without a network.

    python benchmarks/gpu_pack.py fundus DATA --out build/gpu        fundus.zip: photographs, table, ImageNet weights
    python benchmarks/gpu_pack.py cifar10 CIFAR10 --out build/gpu    cifar10-0.zip and cifar10-1.zip, lossless

DATA has the folders messidor2, aptos224, malaysia, eyepacs256, fundus_unlabelled and weights. Photographs are cropped
and resized by `foveal prepare` and stored as WebP, at the highest quality that fits. table.csv has a row for each
photograph: source, image, label, patient, split. This program decides the splits: graders learn from the sources
`home`, and are tested on the test parts of these and on all of `away`; `pool` has no grades. --toy packs drawn
photographs, or coloured noise, and needs no data.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.torch import load_file, save

import foveal
from foveal.nets.encoder import create_encoder
from foveal.sets.records import open_prepared

SOURCES = {
    "messidor2": "home", "aptos224": "home", "malaysia": "away", "eyepacs256": "away", "fundus_unlabelled": "pool",
}  # fmt: skip
ENCODER, TOY_ENCODER, SIDE, TOY_SIDE = "tf_efficientnet_lite0", "test_resnet", 224, 32
MOST_BYTES = 59e6  # in a file
QUALITIES = (92, 88, 84, 80, 75, 70, 65, 60, 50, 40)
SAMPLE = 300  # photographs that decide the quality
STRIP = 50  # CIFAR-10 images above each other in one lossless WebP; larger strips do not get smaller
PARTS = 2


def webp(pixels: np.ndarray, quality: int | None) -> bytes:
    """The picture [h, w, 3] as WebP; quality None: lossless."""
    stream, lossless = io.BytesIO(), quality is None
    Image.fromarray(pixels).save(stream, "WEBP", lossless=lossless, quality=75 if lossless else quality, method=4)
    return stream.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def prepare_source(name: str, data: Path, folder: Path, toy: bool) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of the table and pixels [n, S, S, 3] of one source."""
    seed = 3 + list(SOURCES).index(name) if toy else 0  # with these seeds, every source has all grades
    source, side = ("phantom:40", TOY_SIDE) if toy else (data / name, SIDE)
    prepared = open_prepared(foveal.prepare(source, out=folder / name, size=side, fundus="yes", seed=seed))
    records = prepared.records
    table = pd.DataFrame({
        "source": name, "image": [f"images/{id_.replace('/', '_')}.webp" for id_ in records["id"]],
        "label": records["label"], "patient": [f"{name}-{group}" if group else "" for group in records["group"]],
        "split": records["split"].replace("unlabelled", ""),
    })  # fmt: skip
    if SOURCES[name] == "away":
        table["split"] = np.where(table["label"].notna(), "test", "")
    elif SOURCES[name] == "pool":
        table["label"], table["split"] = pd.NA, ""
    if SOURCES[name] != "pool" and table["label"].nunique() != 5:  # the scale of a table is recognised by its grades
        raise SystemExit(f"{name} has photographs of {table['label'].nunique()} grades, and needs some of all five")
    return table, prepared.pixels(records)


def pack_fundus(data: Path, out: Path, toy: bool) -> Path:
    """Write fundus.zip."""
    with tempfile.TemporaryDirectory() as folder:
        found = [prepare_source(name, data, Path(folder), toy) for name in SOURCES]
    table, pixels = pd.concat([rows for rows, _ in found], ignore_index=True), [p for _, part in found for p in part]
    encoder = TOY_ENCODER if toy else ENCODER
    weights = create_encoder(encoder, 3, TOY_SIDE if toy else SIDE).state_dict()
    if not toy:
        stored = load_file(data / "weights" / f"{encoder}.safetensors")
        weights = {name: stored[name] for name in weights}
    start = save({name: tensor.contiguous() for name, tensor in weights.items()})
    chosen = np.random.default_rng(0).permutation(len(pixels))[:SAMPLE]
    file, room = out / "fundus.zip", MOST_BYTES - len(start) - 400 * len(pixels)  # 400 bytes per row and index
    with ThreadPoolExecutor() as threads:
        for quality in QUALITIES:
            sizes = list(threads.map(lambda place, q=quality: len(webp(pixels[place], q)), chosen))
            if np.mean(sizes) * len(pixels) < room:
                break
        encoded = list(threads.map(lambda picture: webp(picture, quality), pixels))
    facts = {"encoder": encoder, "side": len(pixels[0]), "quality": quality, "sources": SOURCES}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("facts.json", json.dumps(facts))
        archive.writestr("table.csv", table.to_csv(index=False), zipfile.ZIP_DEFLATED)
        archive.writestr("imagenet.safetensors", start)
        for source, image, data_ in zip(table["source"], table["image"], encoded, strict=True):
            archive.writestr(f"{source}/{image}", data_)
    counts = ", ".join(f"{source} {count:,}" for source, count in table["source"].value_counts().items())
    print(f"{len(pixels):,} photographs of {len(pixels[0])} px ({counts}), WebP quality {quality}")
    return file


def unpack_fundus(file: Path, folder: Path) -> dict:
    """A folder for each source with images/ and labels.csv, and imagenet.safetensors; returns the facts of the pack.

    Existing files are kept, because files with other times would be prepared again.
    """
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(partial)
        table = pd.read_csv(partial / "table.csv", dtype=str, keep_default_na=False)
        for source, rows in table.groupby("source"):
            rows.drop(columns="source").to_csv(partial / str(source) / "labels.csv", index=False)
        partial.rename(folder)
    return json.loads((folder / "facts.json").read_text())


def toy_cifar10() -> dict[str, np.ndarray]:
    """Noise around one colour for each class."""
    random, arrays = np.random.default_rng(0), {}
    colours = random.integers(40, 216, (10, 1, 1, 3))
    for part, count in (("train", 200), ("test", 100)):
        labels = np.arange(count) % 10
        pictures = colours[labels] + random.normal(0, 30, (count, 32, 32, 3))
        arrays |= {f"x_{part}": np.clip(pictures, 0, 255).astype(np.uint8), f"y_{part}": labels.astype(np.uint8)}
    return arrays


def pack_cifar10(data: Path, out: Path, toy: bool) -> list[Path]:
    """Write cifar10-0.zip and cifar10-1.zip: each has every second strip of images, and both have the labels."""
    if toy:
        arrays = toy_cifar10()
    else:
        with np.load(data / "cifar10.npz" if data.is_dir() else data) as stored:
            arrays = dict(stored)
    files = [out / f"cifar10-{part}.zip" for part in range(PARTS)]
    strips = [
        (f"{part}/{start:05d}.webp", images[start : start + STRIP].reshape(-1, 32, 3))
        for part in ("train", "test") for images in [arrays[f"x_{part}"]] for start in range(0, len(images), STRIP)
    ]  # fmt: skip
    with ThreadPoolExecutor() as threads:
        encoded = list(threads.map(lambda strip: webp(strip[1], None), strips))
    for number, file in enumerate(files):
        with zipfile.ZipFile(file, "w") as archive:
            labels = {part: arrays[f"y_{part}"].reshape(-1).tolist() for part in ("train", "test")}
            archive.writestr("labels.json", json.dumps(labels), zipfile.ZIP_DEFLATED)
            for (name, _), data_ in list(zip(strips, encoded, strict=True))[number::PARTS]:
                archive.writestr(name, data_)
    packed = read_cifar10(files)
    if not all(np.array_equal(packed[name], array.reshape(packed[name].shape)) for name, array in arrays.items()):
        raise SystemExit("the packed images differ from the originals")
    return files


def read_cifar10(files: list[Path]) -> dict[str, np.ndarray]:
    """x_train, y_train, x_test, y_test from the packs."""
    strips: dict[str, np.ndarray] = {}
    for file in files:
        with zipfile.ZipFile(file) as archive, ThreadPoolExecutor() as threads:
            labels = json.loads(archive.read("labels.json"))
            names = [name for name in archive.namelist() if name.endswith(".webp")]
            data = [archive.read(name) for name in names]  # one thread reads an archive
            strips |= dict(zip(names, threads.map(pixels_of, data), strict=True))
    arrays = {}
    for part, numbers in labels.items():
        rows = np.concatenate([strips[name] for name in sorted(strips) if name.startswith(part)])
        images = rows.reshape(-1, 32, 32, 3)
        if len(images) != len(numbers):
            raise SystemExit(f"{len(images)} images for {len(numbers)} labels: a pack is missing beside {files[0]}")
        arrays |= {f"x_{part}": images, f"y_{part}": np.array(numbers, np.uint8)}
    return arrays


def main() -> None:
    """Write the packs and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fundus", "cifar10"))
    parser.add_argument("data", type=Path, nargs="?", default=Path())
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--toy", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    pack = pack_fundus if asked.what == "fundus" else pack_cifar10
    files = pack(asked.data, asked.out, asked.toy)
    for file in files if isinstance(files, list) else [files]:
        size = file.stat().st_size
        print(f"{file}: {size / 1e6:.1f} MB{'' if size < 60e6 else ', which is TOO LARGE for one upload of 60 MB'}")


if __name__ == "__main__":
    main()
