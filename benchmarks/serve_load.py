"""The server under load: many clients at once, against the same model without a server, and beyond its capacity.

    python benchmarks/serve_load.py RUN_OR_FILE FOLDER_OF_PHOTOGRAPHS [--clients 64] [--seconds 60]

1. The bare model: `foveal predict` over the photographs in one process, before and after the load.
2. `--clients` clients, each sending one photograph after the other for `--seconds`: throughput, latencies, errors, and
   the answers against the rows of `foveal predict`. The clients share the machine's cores with the server.
3. As many clients at a server that takes 8 photographs at a time: 503 with Retry-After, and nothing else, beyond that.

The memory of the server is read before, during and after.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

import foveal
from foveal.console import set_quiet
from foveal.data.source import list_pictures

PORT = 8971


@dataclass
class Load:
    """What the clients saw."""

    statuses: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    answers: dict[str, dict] = field(default_factory=dict)
    without_retry: int = 0


def client(number: int, files: list[tuple[str, bytes]], until: float, load: Load, lock: threading.Lock) -> None:
    """Send one photograph after the other over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    turn = number
    while time.monotonic() < until:
        name, data = files[turn % len(files)]
        turn += 1
        began = time.perf_counter()
        try:
            connection.request("POST", "/v1/grade", data, {"Content-Type": "image/jpeg", "X-Name": name})
            answer = connection.getresponse()
            body = answer.read()
            status: int | str = answer.status
        except OSError as error:
            connection.close()
            status = type(error).__name__
        with lock:
            load.statuses[status] += 1
            if status == 200:
                load.seconds.append(time.perf_counter() - began)
                load.answers.setdefault(name, json.loads(body)["answers"][0])
            if status == 503 and not answer.headers.get("Retry-After"):
                load.without_retry += 1
        if status == 503:
            time.sleep(0.05)


def put_under_load(files: list[tuple[str, bytes]], clients: int, seconds: float) -> tuple[Load, float]:
    """(what the clients saw, seconds it took)."""
    load, lock = Load(), threading.Lock()
    began = time.monotonic()
    threads = [
        threading.Thread(target=client, args=(number, files, began + seconds, load, lock)) for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load, time.monotonic() - began


def started(model: Path, folder: Path, *more: str) -> subprocess.Popen:
    """A server that is ready."""
    command = [sys.executable, "-m", "foveal", "serve", str(model), "--port", str(PORT), "--quiet"]
    server = subprocess.Popen([*command, "--reviews", str(folder / "reviews.sqlite"), *more])
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return server
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server did not become ready")


def memory(server: subprocess.Popen) -> float:
    """Resident MB of the server."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def bare(model: Path, files: list[Path], out: Path) -> float:
    """Images per second of `foveal predict`."""
    began = time.perf_counter()
    foveal.predict(model, *files, out=out)
    return len(files) / (time.perf_counter() - began)


def show(load: Load, took: float) -> float:
    """Print, and return images per second."""
    rate = len(load.seconds) / took
    places = statistics.quantiles(load.seconds, n=100) if len(load.seconds) > 1 else [0.0] * 99
    print(f"  answers by status: {dict(load.statuses)}; 503 without Retry-After: {load.without_retry}")
    print(f"  {rate:.1f} images/s; p50 {places[49]:.2f} s, p99 {places[98]:.2f} s, n = {len(load.seconds)}")
    return rate


def main() -> None:
    """Measure, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    set_quiet(True)
    files = list_pictures(options.photographs)[: options.images]
    sent = [(f"{number}.jpg", file.read_bytes()) for number, file in enumerate(files)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare(options.model, files, folder / "p.csv")  # warms up
        before = bare(options.model, files, folder / "p.csv")
        server = started(options.model, folder)
        idle = memory(server)
        load, took = put_under_load(sent, options.clients, options.seconds)
        print(f"{options.clients} clients for {options.seconds:g} s")
        rate = show(load, took)
        print(f"  memory of the server: {idle:.0f} MB idle, {memory(server):.0f} MB after the load")
        server.terminate()
        server.wait()
        after = bare(options.model, files, folder / "p.csv")
        model = statistics.mean([before, after])
        print(f"  bare model {before:.1f} before, {after:.1f} after: ratio {rate / model:.2f}")
        _compare(load, files, folder / "p.csv")
        server = started(options.model, folder, "--queue", "8", "--most-images", "8")
        beyond, took = put_under_load(sent, options.clients, min(options.seconds, 20))
        print(f"{options.clients} clients at a server that takes 8 photographs at a time")
        show(beyond, took)
        print(f"  memory of the server: {memory(server):.0f} MB; alive: {server.poll() is None}")
        server.terminate()
        print(f"  exit code when told to stop: {server.wait()}")


def _compare(load: Load, files: list[Path], out: Path) -> None:
    table = pd.read_csv(out).set_index("id")
    worst, unequal = 0.0, 0
    for number, file in enumerate(files):
        answer, row = load.answers.get(f"{number}.jpg"), table.loc[file.as_posix()]
        if answer is None or row["answer"] == "unreadable":
            continue
        unequal += answer["answer"] != row["answer"] or (
            answer["grade"] is not None and answer["grade"] != row["grade"]
        )
        worst = max(worst, *(abs(share - row[f"p{k}"]) for k, share in enumerate(answer["probabilities"])))
    print(f"  against foveal predict: {unequal} unequal answers of {len(load.answers)}, largest difference {worst:.1e}")


if __name__ == "__main__":
    main()
