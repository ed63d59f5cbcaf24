"""Time and peak memory with 1,000, 10,000 and 100,000 images: prepare, leak check, one epoch of pre-training, predict.

    python benchmarks/scaling.py [--counts 1000 10000 100000] [--folder DIR]

The photographs are 200 phantoms, drawn at 64 px and repeated with different noise, so that none is a copy of another.
The network is small_conv. Each measurement runs in a process of its own; memory is the most that this process used,
including Python and torch. The last column has the time per image relative to the smallest count: 1.0 is linear.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from own_process import result_of

from foveal.sources.phantom import draw_phantom

SIDE, DRAWN = 64, 200

STEPS = {
    "prepare": "foveal.prepare(folder / 'files', out=folder / 'set', size=64)",
    "leak check": """
from foveal.sets.leaks import pool_of, refuse_seen, seen_of
from foveal.sets.records import open_prepared
prepared = open_prepared(folder / 'set')
refuse_seen(prepared, seen_of([(prepared, pool_of(prepared))]), 'itself', False)
""",
    "pretrain, one epoch": """
foveal.pretrain(folder / 'set', out=folder / 'encoder', encoder='small_conv', epochs=1, batch_size=128, views='simclr')
""",
    "predict": "foveal.predict(folder / 'grader', folder / 'files', out=folder / 'predictions.csv')",
}
GRADER = """
drawn = foveal.prepare('phantom:60', out=folder / 'labelled', size=64)
foveal.train(drawn, out=folder / 'grader', encoder='small_conv', epochs=1, batch_size=16)
"""
PROGRAM = """
import sys, time, foveal
from pathlib import Path
folder = Path(sys.argv[1])
began = time.perf_counter()
{step}
result = {{"seconds": time.perf_counter() - began}}
"""


def draw(folder: Path, count: int) -> None:
    """Write `count` photographs as JPEG files."""
    generator = np.random.default_rng(0)
    drawn = [draw_phantom(number % 5, "left", SIDE, generator).image for number in range(DRAWN)]
    folder.mkdir(parents=True)
    for number in range(count):
        noise = generator.normal(0, 12, (8, 8, 3)).astype(np.float32)
        picture = drawn[number % DRAWN] + cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        file = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), np.clip(picture, 0, 255).astype(np.uint8)[..., ::-1])


def main() -> None:
    """Measure all steps for all counts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    first: dict[str, float] = {}
    print(f"{'images':>8}  {'step':22}{'seconds':>9}{'GiB':>7}{'time per image':>17}")
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        for count in options.counts:
            folder = Path(temporary) / str(count)
            draw(folder / "files", count)
            result_of(PROGRAM.format(step=GRADER), folder)
            for name, step in STEPS.items():
                found = result_of(PROGRAM.format(step=step), folder, seconds=4 * 3600)
                each = found["seconds"] / count
                relative = each / first.setdefault(name, each)
                print(f"{count:8,}  {name:22}{found['seconds']:9.1f}{found['gib']:7.2f}{relative:17.2f}", flush=True)


if __name__ == "__main__":
    main()
