"""Time two random views of each image with Foveal, lightly, torchvision, albumentations and kornia.

    python benchmarks/views_speed.py [--rounds 7]                  on one CPU core, then Foveal on all cores
    python benchmarks/views_speed.py --device cuda [--rounds 20]   on a GPU: 2 x 256 views at 224 px

All make the same operations with the same ranges: SimCLR's crop and resize, flip, jitter, grey and blur (sigma 0.1 to
2 px), then normalised floats. Pictures are already decoded, in the form that each library needs. The process uses one
core and each library one thread. All libraries run in turn in every round; read the ratio of the medians. Libraries
that are not installed are left out: `uv pip install lightly albumentations kornia`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import torch
from PIL import Image

from foveal.augment import opencv, tensor
from foveal.augment.draw import draw
from foveal.augment.recipes import get_recipe
from foveal.augment.views import NetworkInput, normalise, random_views

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
CASES = ((32, 32), (160, 128), (256, 224))  # side of the pictures, side of the views
OURS, PEERS = 256, 32  # pictures per turn
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIGMA, KERNEL = (0.1, 2.0), 13
JITTER = (0.8, 0.8, 0.8, 0.2)
Turn = tuple[int, Callable[[], object]]  # views made, and how


def pictures(side: int, count: int) -> np.ndarray:
    """Smooth random colours, uint8 [count, side, side, 3]."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC) for picture in small])


def with_foveal(images: np.ndarray, size: int) -> Turn:
    recipe = replace(get_recipe("simclr"), blur_sigma=(SIGMA[0] / size, SIGMA[1] / size))
    spec, generator = NetworkInput(size, MEAN, STD), torch.Generator().manual_seed(0)

    def turn() -> None:
        for _ in range(2):
            table = draw(recipe, len(images), images.shape[1], size, generator)
            random_views(images, table, spec, torch.device("cpu"))

    return 2 * len(images), turn


def with_lightly(images: np.ndarray, size: int) -> Turn:
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=size, sigmas=SIGMA, normalize={"mean": list(MEAN), "std": list(STD)})
    listed = [Image.fromarray(image) for image in images[:PEERS]]
    return 2 * PEERS, lambda: [transform(image) for image in listed]


def with_torchvision(images: np.ndarray, size: int, form: str) -> Turn:
    from torchvision.transforms import v2

    steps = [
        v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(*JITTER)], 0.8), v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(KERNEL, SIGMA)], 0.5), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]  # fmt: skip
    transform = v2.Compose(steps)
    tensors = torch.from_numpy(images[:PEERS]).permute(0, 3, 1, 2).contiguous().unbind()
    listed = [Image.fromarray(image) for image in images[:PEERS]] if form == "PIL" else tensors
    return 2 * PEERS, lambda: [(transform(image), transform(image)) for image in listed]


def with_albumentations(images: np.ndarray, size: int) -> Turn:
    import albumentations
    from albumentations.pytorch import ToTensorV2

    transform = albumentations.Compose([
        albumentations.RandomResizedCrop((size, size)), albumentations.HorizontalFlip(),
        albumentations.ColorJitter(*JITTER, p=0.8), albumentations.ToGray(p=0.2),
        albumentations.GaussianBlur(blur_limit=0, sigma_limit=SIGMA, p=0.5), albumentations.Normalize(MEAN, STD),
        ToTensorV2(),
    ])  # fmt: skip
    return 2 * PEERS, lambda: [(transform(image=image), transform(image=image)) for image in images[:PEERS]]


def kornia_chain(size: int) -> torch.nn.Module:
    import kornia.augmentation as kornia

    return torch.nn.Sequential(
        kornia.RandomResizedCrop((size, size)), kornia.RandomHorizontalFlip(), kornia.ColorJitter(*JITTER, p=0.8),
        kornia.RandomGrayscale(p=0.2), kornia.RandomGaussianBlur((KERNEL, KERNEL), SIGMA, p=0.5),
        kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )  # fmt: skip


def with_kornia(images: np.ndarray, size: int) -> Turn:
    chain, batch = kornia_chain(size), torch.from_numpy(images[:PEERS])

    def turn() -> None:
        for _ in range(2):
            chain(batch.permute(0, 3, 1, 2).float() / 255)

    return 2 * PEERS, turn


CONTENDERS: dict[str, Callable[[np.ndarray, int], Turn]] = {
    "foveal": with_foveal,
    "lightly": with_lightly,
    "torchvision v2, PIL": lambda images, size: with_torchvision(images, size, "PIL"),
    "torchvision v2, tensor": lambda images, size: with_torchvision(images, size, "tensor"),
    "albumentations": with_albumentations,
    "kornia": with_kornia,
}


def turns(images: np.ndarray, size: int) -> dict[str, Turn]:
    """The installed libraries, ready to run."""
    ready = {}
    for name, make in CONTENDERS.items():
        try:
            ready[name] = make(images, size)
            ready[name][1]()
        except ImportError as error:
            print(f"  {name} is left out ({error}): uv pip install lightly albumentations kornia")
    return ready


def rate(turn: Turn) -> float:
    """Views per second."""
    since = time.perf_counter()
    turn[1]()
    return turn[0] / (time.perf_counter() - since)


def on_cpu(rounds: int) -> None:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    held = "on one core" if cores else "on all cores, because this system cannot choose one"
    print(f"one thread, {held}; {rounds} rounds in turn; views/s: median (lowest to highest), foveal / peer")
    for side, size in CASES:
        print(f"{side} -> {size} px")
        ready = turns(pictures(side, OURS), size)
        rates: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(rounds):
            for name, turn in ready.items():
                rates[name].append(rate(turn))
        ours = statistics.median(rates["foveal"])
        for name, values in rates.items():
            median = statistics.median(values)
            print(f"  {name:24}{median:9,.0f} ({min(values):,.0f} to {max(values):,.0f}){ours / median:8.1f}x")
    if cores:
        os.sched_setaffinity(0, cores)
        opencv._pool.cache_clear()
        torch.set_num_threads(len(cores))
        print(f"foveal on all {len(cores)} cores; views/s: median of {rounds}")
        for side, size in CASES:
            turn = with_foveal(pictures(side, OURS), size)
            turn[1]()
            print(f"  {side} -> {size} px{statistics.median(rate(turn) for _ in range(rounds)):11,.0f}")


def on_cuda(rounds: int) -> None:
    device, (side, size) = torch.device("cuda"), CASES[-1]
    images = torch.from_numpy(pictures(side, OURS)).to(device)
    spec = NetworkInput(size, MEAN, STD)
    compiled = torch.compile(tensor.render, fullgraph=True)

    def foveal(name: str, render: Callable[..., torch.Tensor], dtype: torch.dtype) -> Callable[[], None]:
        generator, tables = torch.Generator().manual_seed(0), tensor.jpeg_tables(device)

        def turn() -> None:
            for _ in range(2):
                table = draw(get_recipe(name), OURS, side, size, generator)
                views = render(images, tensor.send(table.values, device), tables, table.plan, size, torch.float32)
                normalise(views, spec).to(dtype)

        return turn

    work = {}
    for name in ("simclr", "fundus"):
        work[f"foveal {name}, eager"] = foveal(name, tensor.render, torch.float32)
        work[f"foveal {name}, eager, bf16"] = foveal(name, tensor.render, torch.bfloat16)
        work[f"foveal {name}, compiled"] = foveal(name, compiled, torch.float32)
    try:
        chain = kornia_chain(size).to(device)
        work["kornia simclr"] = lambda: [chain(images.permute(0, 3, 1, 2).float() / 255) for _ in range(2)] and None
    except ImportError as error:
        print(f"kornia is left out ({error}): uv pip install kornia")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: 2 x {OURS} views, {side} -> {size} px, resident")
    print(f"ms from drawing random numbers to the end on the device: median of {rounds} (lowest to highest), GiB above")
    measured: dict[str, list[float]] = {name: [] for name in work}
    for turn in work.values():
        for _ in range(3):
            turn()
    for _ in range(rounds):
        for name, turn in work.items():
            measured[name].append(milliseconds(turn))
    for name, values in measured.items():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        work[name]()
        peak = (torch.cuda.max_memory_allocated() - held) / 2**30
        print(f"  {name:32}{statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f}){peak:8.2f}")


def milliseconds(turn: Callable[[], None]) -> float:
    """From an idle device to an idle device, by the clock of the device."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    turn()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of the peers
    (on_cuda if options.device == "cuda" else on_cpu)(options.rounds)
