"""Measure a server with many clients at once, compare it with the model without a server, and exceed its capacity.

    python benchmarks/serve_load.py RUN_OR_FILE FOLDER_OF_PHOTOGRAPHS [--clients 64] [--seconds 60]

1. Without a server: `foveal.load` grades the photographs in one process, before and after the load. It has graded them
   once before the clock starts.
2. `--clients` clients send one photograph after the other for `--seconds`. Measures throughput, latencies and errors,
   and compares every answer with that of step 1. The clients use the same cores as the server.
3. The same clients and a server that accepts only 8 photographs at a time. Beyond this, it must answer 503 with
   Retry-After, and nothing else.

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
from foveal.predict.loaded import LoadedGrader
from foveal.sources.source import list_pictures

PORT = 8971
LEAST_SECONDS = 10  # of measurement without a server


@dataclass
class Load:
    """What the clients measured."""

    statuses: Counter = field(default_factory=Counter)  # status of HTTP, or the name of an error
    seconds: list[float] = field(default_factory=list)
    answers: list[dict] = field(default_factory=list)
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
            body = json.loads(answer.read())
            status: int | str = answer.status
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            status = type(error).__name__
        with lock:
            load.statuses[status] += 1
            if status == 200:
                load.seconds.append(time.perf_counter() - began)
                load.answers.append(body["answers"][0])
            if status == 503 and not answer.headers.get("Retry-After"):
                load.without_retry += 1
        if status == 503:
            time.sleep(0.05)
    connection.close()


def put_under_load(files: list[tuple[str, bytes]], clients: int, seconds: float) -> tuple[Load, float]:
    """(what the clients measured, seconds that it took)."""
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
    """Resident memory of the server in MB."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def bare(grader: LoadedGrader, files: list[Path]) -> float:
    """Images per second of the model without a server."""
    began, graded = time.perf_counter(), 0
    while time.perf_counter() - began < LEAST_SECONDS:
        graded += len(grader.predict(files))
    return graded / (time.perf_counter() - began)


def show(load: Load, took: float) -> float:
    """Print a result, and return its images per second."""
    rate = len(load.seconds) / took
    places = statistics.quantiles(load.seconds, n=100) if len(load.seconds) > 1 else [0.0] * 99
    errors = sum(count for status, count in load.statuses.items() if status not in (200, 503))
    print(
        f"  answers by status: {dict(load.statuses)}; errors: {errors}; 503 without Retry-After: {load.without_retry}"
    )
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
        grader = foveal.load(options.model)
        table = grader.predict(files)  # a first pass, which is not timed
        before = bare(grader, files)
        server = started(options.model, folder)
        idle = memory(server)
        load, took = put_under_load(sent, options.clients, options.seconds)
        print(f"{options.clients} clients for {options.seconds:g} s")
        rate = show(load, took)
        print(f"  memory of the server: {idle:.0f} MB idle, {memory(server):.0f} MB after the load")
        server.terminate()
        server.wait()
        after = bare(grader, files)
        model = statistics.mean([before, after])
        print(f"  bare model {before:.1f} before, {after:.1f} after: ratio {rate / model:.2f}")
        unequal, worst = compare(load.answers, table)
        print(
            f"  against foveal.load: {unequal} unequal answers of {len(load.answers)}, largest difference {worst:.1e}"
        )
        server = started(options.model, folder, "--queue", "8", "--most-images", "8")
        beyond, took = put_under_load(sent, options.clients, min(options.seconds, 20))
        print(f"{options.clients} clients at a server that takes 8 photographs at a time")
        show(beyond, took)
        print(f"  memory of the server: {memory(server):.0f} MB; alive: {server.poll() is None}")
        server.terminate()
        print(f"  exit code when told to stop: {server.wait()}")


def compare(answers: list[dict], table: pd.DataFrame) -> tuple[int, float]:
    """(answers that differ from the table, largest difference of a probability); photograph k.jpg is row k."""
    unequal, worst = 0, 0.0
    for answer in answers:
        row = table.iloc[int(answer["name"].removesuffix(".jpg"))]
        grade = None if pd.isna(row["grade"]) else row["grade"]
        unequal += (answer["answer"], answer["grade"]) != (row["answer"], grade)
        shares = answer["probabilities"] or []
        worst = max(worst, *(abs(share - row[f"p{k}"]) for k, share in enumerate(shares)), 0.0)
    return unequal, worst


if __name__ == "__main__":
    main()
