"""Measure how much faster training steps on a CPU are if freed memory is kept.

    python benchmarks/allocator.py [--encoder tf_efficientnet_lite0] [--rounds 3]

Runs fine-tuning steps with and without kept memory in turn. Prints the median images per second of each, and the
median of the ratios.
"""

import argparse
import statistics
import subprocess
import sys

STEPS = """
import sys, time, torch
from foveal.hardware import keep_freed_memory
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.heads import Grader
if sys.argv[1] == "keep":
    assert keep_freed_memory()
encoder = create_encoder(sys.argv[2], 3, 224)
grader = Grader(encoder, feature_size(encoder), 5).to(memory_format=torch.channels_last)
images = torch.randn(32, 3, 224, 224).to(memory_format=torch.channels_last)
optimiser = torch.optim.AdamW(grader.parameters())
times = []
for step in range(8):
    start = time.perf_counter()
    loss = torch.nn.functional.cross_entropy(grader(images), torch.arange(32) % 5)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    times.append(time.perf_counter() - start)
print(32 / sorted(times[2:])[3])
"""


def measure(mode: str, encoder: str) -> float:
    """Images per second of fine-tuning steps, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", STEPS, mode, encoder], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Run both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pairs = [(measure("keep", options.encoder), measure("give", options.encoder)) for _ in range(options.rounds)]
    kept, given = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{options.encoder}, 224 px, batch 32, {options.rounds} rounds, median images per second:")
    print(f"freed memory kept {kept:.1f}, returned {given:.1f}; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
