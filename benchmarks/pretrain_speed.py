"""Images per second of SimCLR pre-training with Foveal and with lightly's standard loop, in turn on one machine.

    uv pip install lightly
    python benchmarks/pretrain_speed.py [--encoder resnet18 --size 128 --batch-size 64] [--rounds 3] [--seconds 20]

Without --encoder, it runs the settings of the table in docs/results.md: resnet18 and efficientnet_b0 at 128 px, and
small_conv and strided_conv at 32 px, the last one both with a projection as wide as its features and with that of
recipes/cifar10_cpu.toml. Both programs use the same pictures at the same size, and the same encoder, batch, views and
projection. lightly runs its documented loop: LightlyDataset of a folder of JPEG files (of the prepared size, so that
decoding is fast), SimCLRTransform, a DataLoader with two workers, NTXentLoss, one forward pass per view. Foveal runs
`foveal pretrain` with everything on auto. Whole steps are timed after a warm-up, in a process of its own.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

SETTINGS = (  # encoder, pixels, batch, hidden width of the projection (0: width of the features)
    ("resnet18", 128, 64, 0), ("efficientnet_b0", 128, 64, 0), ("small_conv", 32, 256, 0), ("strided_conv", 32, 256, 0),
    ("strided_conv", 32, 256, 512),
)  # fmt: skip
COUNT = 2048

OURS = """
import json, sys, torch
from dataclasses import replace
from pathlib import Path
from foveal.augment.recipes import RECIPES
from foveal.augment.views import NetworkInput
from foveal.sets.leaks import pool_of
from foveal.sets.loader import ImageStore
from foveal.sets.records import open_prepared
from foveal.distributed import choose_device
from foveal.nets.encoder import create_encoder, normalisation_of
from foveal.pretrain import plan
from foveal.pretrain.auto import resolve, settle
from foveal.pretrain.step import build
from foveal.pretrain.feed import Feed
from foveal.pretrain.options import PretrainConfig, SimCLROptions

folder, encoder = Path(sys.argv[1]), sys.argv[2]
size, batch, hidden, seconds = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
device = choose_device("cpu")
RECIPES["simclr"] = replace(RECIPES["simclr"], blur_sigma=(0.1 / size, 2 / size))  # as lightly: pixels, not shares
prepared = open_prepared(folder / "set")
config = resolve(PretrainConfig(
    data=(prepared.path,), out=folder / "none", encoder=encoder, batch_size=batch, views="simclr", epochs=1000,
    optimiser="sgd", simclr=SimCLROptions(projection_hidden=hidden),
), [prepared])
store = ImageStore([(prepared, pool_of(prepared))], device)
feed, _ = settle(Feed(config, store, NetworkInput(size, *normalisation_of(encoder, 3)), device, None))
built = build(feed.config, 3, create_encoder(encoder, 3, size), device, 1)
plan.MOST_MEASURED = seconds
rehearsal = plan.rehearse(built, feed)
print(json.dumps({"rate": rehearsal.images_per_second, "wait": rehearsal.data_wait, "chosen": feed.config.precision}))
"""

LIGHTLY = """
import json, sys, time, torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from foveal.nets.encoder import create_encoder, feature_size

folder, encoder, size, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
hidden, seconds = int(sys.argv[5]), float(sys.argv[6])
backbone = create_encoder(encoder, 3, size).to(memory_format=torch.contiguous_format)
features = feature_size(backbone)
model = torch.nn.Sequential(backbone, SimCLRProjectionHead(features, hidden or features, 128))
dataset = LightlyDataset(folder + "/files", transform=SimCLRTransform(input_size=size))
loader = torch.utils.data.DataLoader(dataset, batch_size=batch, shuffle=True, drop_last=True, num_workers=2)
criterion, optimizer = NTXentLoss(temperature=0.2), torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

def batches():
    while True:
        yield from loader

began, steps = None, 0
for (view1, view2), _, _ in batches():
    if steps == 3:
        began = time.perf_counter()
    loss = criterion(model(view1), model(view2))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    steps += 1
    if began and time.perf_counter() - began > seconds:
        break
print(json.dumps({"rate": (steps - 3) * batch / (time.perf_counter() - began)}))
"""


def write_data(folder: Path, size: int) -> None:
    """The same pictures as a folder of JPEG files and as a prepared set."""
    import foveal

    random = np.random.default_rng(0)
    (folder / "files").mkdir()
    for number in range(COUNT):  # clouds of colour: all different, with JPEG files as large as those of photographs
        clouds = sum(cv2.resize(random.normal(0, 30, (n, n, 3)), (size, size)) for n in (4, 16, size // 2))
        cv2.imwrite(str(folder / "files" / f"{number:05d}.jpg"), np.clip(128 + clouds, 0, 255).astype(np.uint8))
    foveal.prepare(folder / "files", out=folder / "set", size=size, fundus="no")


def measure(program: str, folder: Path, setting: tuple, seconds: float) -> dict:
    """The result of one of the two programs, run in a process of its own."""
    arguments = [sys.executable, "-W", "ignore", "-c", program, str(folder), *map(str, (*setting, seconds))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run both in turn for each setting and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--projection-hidden", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    asked = (options.encoder, options.size, options.batch_size, options.projection_hidden)
    settings = (asked,) if options.encoder else SETTINGS
    peer = importlib.util.find_spec("lightly") is not None
    if not peer:
        print("lightly is not installed (uv pip install lightly): only Foveal is measured")
    for setting in settings:
        encoder, size, batch, hidden = setting
        with tempfile.TemporaryDirectory() as name:
            write_data(Path(name), size)
            ours, theirs = [], []
            for _ in range(options.rounds):
                ours.append(measure(OURS, Path(name), setting, options.seconds))
                if peer:
                    theirs.append(measure(LIGHTLY, Path(name), setting, options.seconds)["rate"])
        rates = [found["rate"] for found in ours]
        line = (
            f"{encoder} {size} px, batch {batch}{f', hidden {hidden}' if hidden else ''}, n = {options.rounds}: Foveal "
            f"{statistics.median(rates):,.1f} images/s "
        )
        line += f"({ours[-1]['chosen']}; waiting {ours[-1]['wait']:.0%})"
        if peer:
            ratios = sorted(a / b for a, b in zip(rates, theirs, strict=True))
            line += f", lightly {statistics.median(theirs):,.1f}; ratio {statistics.median(ratios):.2f} "
            line += f"({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
