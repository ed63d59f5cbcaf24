"""Time training steps when waiting threads spin for a short or a long time, alone and beside other work.

    python benchmarks/waiting.py [--encoder resnet18] [--size 128] [--batch-size 16] [--rounds 3] [--busy 4]

Spinning long is the default of OpenMP in torch; `import foveal` shortens it. The other work is --busy processes that
count. Both are run in turn. Prints the median seconds of a step of each, and the ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys

STEPS = """
import sys, time, torch, timm
network = timm.create_model(sys.argv[1], num_classes=5).to(memory_format=torch.channels_last)
size, batch = int(sys.argv[2]), int(sys.argv[3])
images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
seconds = []
for _ in range(8):
    began = time.perf_counter()
    network(images).sum().backward()
    seconds.append(time.perf_counter() - began)
print(sorted(seconds[1:])[3])
"""


def measure(policy: str, options: argparse.Namespace) -> float:
    """Median seconds of a step, in a process of its own."""
    command = [sys.executable, "-c", STEPS, options.encoder, str(options.size), str(options.batch_size)]
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {"GOMP_SPINCOUNT": "20000"} if policy == "short" else {}
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def compare(options: argparse.Namespace) -> str:
    """Run both in turn; return the medians and the ratio."""
    pairs = [(measure("spin", options), measure("short", options)) for _ in range(options.rounds)]
    spinning, short = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(spin / wait for spin, wait in pairs)
    return f"long {spinning:.3f} s, short {short:.3f} s; spinning long takes {ratio:.2f} times as long"


def main() -> None:
    """Compare both alone, then beside other work."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="resnet18")
    for name, usual in (("size", 128), ("batch-size", 16), ("rounds", 3), ("busy", 4)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    options = parser.parse_args()
    print(f"{options.encoder}, {options.size} px, batch {options.batch_size}, n = {options.rounds}")
    print(f"alone: {compare(options)}")
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        print(f"beside {options.busy} busy processes: {compare(options)}")
    finally:
        for other in others:
            other.kill()


if __name__ == "__main__":
    main()
