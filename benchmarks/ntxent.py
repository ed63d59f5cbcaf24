"""Time and peak memory of NT-Xent, forward and backward, compared with other libraries.

    pip install lightly pytorch-metric-learning          # libraries that are not installed are left out
    python benchmarks/ntxent.py [--device cpu] [--pairs 256 512 1024 2048 4096 8192] [--large 32768] [--repeats 3]

Prints seconds (the median of the repeats, after a first one that is not counted) and the peak memory on top of that of
the process before the loss: resident memory on a CPU, allocated memory on a GPU. Each measurement runs in a process of
its own. A loss that would not fit is not run; the table says so.
"""

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

DIMENSIONS, TEMPERATURE = 128, 0.2
LOSSES = ("foveal", "foveal chunked", "lightly", "pytorch-metric-learning")
MODULES = {"lightly": "lightly", "pytorch-metric-learning": "pytorch_metric_learning"}


def loss_function(name, chunk):
    """A function of two tensors [n, D]. Only the library of this loss is imported."""
    if name == "lightly":
        from lightly.loss import NTXentLoss

        return NTXentLoss(temperature=TEMPERATURE)
    if name == "pytorch-metric-learning":
        import torch
        from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss

        theirs = SelfSupervisedLoss(NTXentLoss(temperature=TEMPERATURE))
        return lambda a, b: theirs(torch.nn.functional.normalize(a), torch.nn.functional.normalize(b))
    from foveal.losses.ntxent import ntxent

    return lambda a, b: ntxent(a, b, TEMPERATURE, tile=chunk if name == "foveal chunked" else 2 * len(a))


def bytes_expected(name, pairs, chunk):
    """Bytes that a loss will need at least: copies of its largest matrix in float32."""
    matrix = 4 * (2 * pairs) ** 2
    if name == "pytorch-metric-learning":
        return 4 * matrix * (2 * pairs - 2)  # every positive pair beside all negatives of its anchor, four times
    return {"foveal": 4 * matrix, "lightly": 5 * matrix}.get(name, 16 * chunk**2 + 40 * pairs * DIMENSIONS)


def bytes_free(device):
    """Half of the free memory of the device, because others may use it too."""
    if device == "cuda":
        import torch

        return 0.5 * torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 0.5 * 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))


def peak(device):
    """Peak memory so far, in bytes."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(name, pairs, device, repeats, chunk):
    """Seconds and bytes of one loss in this process, printed as JSON."""
    import torch

    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(n, DIMENSIONS, generator=generator) for n in (pairs, pairs)]
    z1, z2 = (view.to(device).requires_grad_() for view in views)
    function = loss_function(name, chunk)
    small = torch.randn(2, 8, DIMENSIONS, device=device, requires_grad=True)
    function(small[0], small[1]).backward()  # starts libraries and threads before the baseline is measured
    before, times = peak(device), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        loss = function(z1, z2)
        loss.backward()
        value = loss.item()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times[1:] or times)
    print(json.dumps({"seconds": seconds, "bytes": peak(device) - before, "loss": value}))


def row(name, pairs, options):
    """One measurement in a process of its own, as a line of text."""
    label = f"{pairs:>7,}  {name:<24}"
    need, free = bytes_expected(name, pairs, options.chunk), bytes_free(options.device)
    if need > free:
        return f"{label} left out: needs about {need / 2**30:,.1f} GiB, half of what is free is {free / 2**30:,.1f}"
    if name in MODULES and importlib.util.find_spec(MODULES[name]) is None:
        return f"{label} not installed: pip install {name}"
    arguments = [name, str(pairs), options.device, str(options.repeats), str(options.chunk)]
    done = subprocess.run([sys.executable, __file__, "--one", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{label} failed ({done.returncode}): {(done.stderr.strip().splitlines() or ['killed'])[-1][:120]}"
    found = json.loads(done.stdout.splitlines()[-1])
    return (
        f"{label} {1000 * found['seconds']:>10,.1f} ms {found['bytes'] / 2**20:>10,.1f} MiB   loss {found['loss']:.5f}"
    )


def main() -> None:
    """Measure every loss for every number of pairs, then the loss in tiles for the largest."""
    if sys.argv[1:2] == ["--one"]:
        name, pairs, device, repeats, chunk = sys.argv[2:]
        measure(name, int(pairs), device, int(repeats), int(chunk))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, nargs="*", default=[256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--large", type=int, default=32768)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=1024)
    options = parser.parse_args()
    print(f"{options.device}, D = {DIMENSIONS}, float32, chunk {options.chunk}, median of {options.repeats}")
    print(f"{'pairs':>7}  {'loss':<24} {'time':>13} {'peak':>14}")
    for pairs in options.pairs:
        for name in LOSSES:
            print(row(name, pairs, options), flush=True)
    if options.large:
        options.repeats = 1
        print(f"N = {options.large:,}, in tiles: minutes on a CPU", flush=True)
        print(row("foveal chunked", options.large, options))


if __name__ == "__main__":
    main()
