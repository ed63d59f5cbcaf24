"""Time the way from JPEG files to probabilities: an exported grader, and the same timm network in eager PyTorch.

    python benchmarks/predict_speed.py FOLDER_OF_PHOTOGRAPHS [--runs RUN…] [--images 96] [--repeats 5]

Runs two programs in turn, `--repeats` times, on the same files:

    timm          Pillow decodes, timm's own transform resizes and normalises, and the network grades batches of 16 in
                  eager mode, both in one process and with a DataLoader of 2 workers; the faster of the two counts
    model.onnx    what `foveal predict FILE.onnx` does: finds the disc, crops, measures quality, grades, writes a row

Foveal does more with every photograph than timm. Without --runs, untrained graders with two encoders are made, which
are as fast as trained ones. The machine may be busy, so read the ratio and n.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch.utils.data import DataLoader, Dataset

import foveal
from foveal.console import set_quiet
from foveal.runs import read_model
from foveal.sources.source import list_pictures

ENCODERS, SIDE, BATCH, CLASSES = ("tf_efficientnet_lite0", "efficientnet_b0"), 224, 16, 5


class Photographs(Dataset):
    """Files, decoded and transformed in the usual way of timm."""

    def __init__(self, files: list[Path], transform: Callable) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[place]).convert("RGB"))


def peer(name: str, side: int, files: list[Path]) -> Callable[[int], float]:
    """Images per second of timm's network, by the number of DataLoader workers."""
    model = timm.create_model(name, num_classes=CLASSES).eval()
    config = resolve_data_config({"input_size": (3, side, side)}, model=model)
    transform = create_transform(**config, is_training=False)

    def run(workers: int) -> float:
        began, done = time.perf_counter(), 0
        with torch.inference_mode():
            for batch in DataLoader(Photographs(files, transform), BATCH, num_workers=workers):
                done += len(model(batch).softmax(1))
        return done / (time.perf_counter() - began)

    return run


def ours(file: Path, files: list[Path], out: Path) -> float:
    """Images per second of `foveal predict FILE`; as for timm, the start of the program is not timed."""
    began = time.perf_counter()
    foveal.predict(file, *files, out=out)
    return len(files) / (time.perf_counter() - began)


def untrained(encoder: str, folder: Path) -> Path:
    """A grader that was trained for one step on drawn photographs."""
    data = folder / "phantoms"
    if not data.exists():
        foveal.prepare("phantom:40", out=data, size=256)
    return foveal.train(
        data, out=folder / encoder, encoder=encoder, init="random", image_size=SIDE, epochs=1, batch_size=16, tta="none"
    )


def main() -> None:
    """Measure, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    set_quiet(True)
    files = list_pictures(options.photographs)[: options.images]
    megapixels = statistics.median(np.prod(Image.open(file).size) / 1e6 for file in files)
    print(f"{len(files)} files of {megapixels:.1f} megapixels (median), {torch.get_num_threads()} threads of torch, "
          f"repeats n = {options.repeats}")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for run in options.runs or [untrained(encoder, folder) for encoder in ENCODERS]:
            model = read_model(run)
            exported = foveal.export(run, out=folder / f"{run.name}.export", formats=["onnx"], tta="none")
            theirs = peer(model["encoder"], model["image_size"], files)
            rates: dict[str, list[float]] = {"timm": [], "model.onnx": []}
            for round_ in range(options.repeats + 1):
                measured = {"timm": max(theirs(0), theirs(2))}
                measured["model.onnx"] = ours(exported / "model.onnx", files, folder / "p.csv")
                if round_:  # the first one warms up
                    for way, rate in measured.items():
                        rates[way].append(rate)
            print(f"{model['encoder']} at {model['image_size']} px")
            for way, found in rates.items():
                ratios = [ours_ / theirs_ for ours_, theirs_ in zip(found, rates["timm"], strict=True)]
                print(f"  {way:<16} {statistics.median(found):7.1f} images/s   ratio {statistics.median(ratios):.2f} "
                      f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
