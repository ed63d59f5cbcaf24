"""Runs the stages of a GPU program: each has a time limit and writes a JSON line. Stages that are done are skipped.

Time is measured from the start of the program. A stage that was stopped resumes at the next call, because Foveal's
verbs resume from the last epoch.
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()  # before the import of torch, which takes seconds

import argparse  # noqa: E402
import json  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import statistics  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from foveal.files import json_ready  # noqa: E402
from foveal.nets.encoder import create_encoder  # noqa: E402
from foveal.runs import read_metrics  # noqa: E402

# Dense bf16 from the vendor's data sheets, by the name of the device; the longest name that fits is used.
PEAKS = {"H200": 989e12, "H100": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "A100": 312e12, "L40S": 362e12}
LEAST = 5.0  # seconds: a stage does not begin if fewer are left


class TimeUp(KeyboardInterrupt):  # the verbs then clean up as after Ctrl-C
    """The time of a stage, or of the program, is over."""


class Stages:
    """Runs stages in turn. `done` has the last line of each finished stage."""

    def __init__(self, results: Path, copies: Path | None, program: str, minutes: float) -> None:
        self.results, self.copies, self.until = results, copies, BEGAN + 60 * minutes
        self.file, self.failed = results / f"{program}.jsonl", 0
        results.mkdir(parents=True, exist_ok=True)
        lines = [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []
        self.done: dict[str, dict[str, Any]] = {line["stage"]: line for line in lines if line["done"]}

    @property
    def left(self) -> float:
        """Seconds that the program still has."""
        return self.until - time.monotonic()

    def run(self, stage: str, limit: float, work: Callable[[], Mapping[str, Any]]) -> bool:
        """Run a stage with a time limit, unless it is done or no time is left. Returns True if it is now done."""
        if stage in self.done:
            return True
        if self.left < LEAST:
            print(f"{stage}: no time is left; call again", flush=True)
            return False
        began, allowed = time.monotonic(), min(limit, self.left)
        print(f"{stage}: begins, at most {allowed:.0f} s", flush=True)
        found: dict[str, Any] = {}
        before = signal.signal(signal.SIGALRM, _stop)
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, allowed)
                found = {"done": True, **work()}
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeUp:
            found = {"done": False, "stopped": f"after {allowed:.0f} s; call again to continue"}
        except Exception as error:  # noqa: BLE001 - the other stages may still work
            self.failed += 1
            where = traceback.format_exc().splitlines()[-3:]
            found = {"done": False, "error": f"{type(error).__name__}: {error}"[:500], "where": where}
        finally:
            signal.signal(signal.SIGALRM, before)
        self.write({"stage": stage, **found, "seconds": round(time.monotonic() - began, 2)})
        return bool(found["done"])

    def write(self, line: dict[str, Any]) -> None:
        """Append a line to the file of results at once, and print it."""
        text = json.dumps(json_ready(line))  # a difference may have no interval
        if line["done"]:
            self.done[line["stage"]] = line
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")
        print(text, flush=True)
        self.copy(self.file)

    def copy(self, file: Path) -> None:
        """Copy a file of results to the second folder, if there is one."""
        if self.copies is not None:
            self.copies.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, self.copies / file.name)

    def finish(self, wanted: list[str]) -> int:
        """Print what is left to do. Returns the exit code: 1 if a stage failed."""
        left = [stage for stage in wanted if stage not in self.done]
        print(
            f"{len(wanted) - len(left)} of {len(wanted)} stages are done"
            + (f"; left: {', '.join(left)}" if left else "")
        )
        return 1 if self.failed else 0


def _stop(*_: object) -> None:
    raise TimeUp


def options(text: str) -> argparse.ArgumentParser:
    """The options of both programs."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, default=Path("build/gpu"), help="folder of the packs")
    parser.add_argument("--work", type=Path, default=Path("build/gpu/work"), help="folder of sets and runs")
    parser.add_argument("--out", type=Path, default=Path("build/gpu/results"), help="folder of the JSON lines")
    parser.add_argument("--copy", type=Path, help="folder for a copy of all results, such as $OUT")
    parser.add_argument("--minutes", type=float, default=7.5, help="time limit of this call")
    parser.add_argument("--toy", action="store_true", help="tiny networks and few steps, for a test on a CPU")
    return parser


def machine() -> dict[str, Any]:
    """The machine on which the results were measured."""
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cuda": torch.version.cuda}
    return facts | {"device": device_name(), "peak_bf16": peak()}


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def peak() -> float | None:
    """The published dense bf16 FLOP/s of this device; None if unknown."""
    fitting = [name for name in PEAKS if name in device_name()]
    return PEAKS[max(fitting, key=len)] if fitting else None


def training_flops(encoder: str, side: int) -> float:
    """FLOPs of an encoder's forward and backward pass over one picture; a multiplication and an addition count as two.

    The heads and the loss, which take less than 1 %, are not counted.
    """
    network, pictures = create_encoder(encoder, 3, side), torch.randn(2, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        network(pictures).square().sum().backward()
    return counter.get_total_flops() / 2


def speed_of(run: Path, flops: float) -> dict[str, Any]:
    """Median images/s of a run without its first row, and shares of waiting and of the peak. flops: per image."""
    rows = read_metrics(run)[1:] or read_metrics(run)
    rate = statistics.median(row["images_per_second"] for row in rows)
    wait = statistics.median(row["data_wait"] for row in rows)
    return speed(rate, wait, flops)


def speed(rate: float, wait: float, flops: float) -> dict[str, Any]:
    """The same from a measured rate in images/s and the share of time spent waiting for data."""
    top = peak()
    return {
        "images_per_second": round(rate, 1), "data_wait": round(wait, 4),
        "tflop_per_second": round(rate * flops / 1e12, 3),
        "share_of_peak": None if top is None else round(rate * flops / top, 4),
    }  # fmt: skip
