"""How long will it take? Real steps on the real pool, for `--plan` and `--budget`. They learn and write nothing."""

from __future__ import annotations

import copy
import math
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from foveal.console import is_first_process, show_table
from foveal.distributed import from_first_process
from foveal.errors import FovealError
from foveal.predict.features import encode
from foveal.pretrain import probe as probing
from foveal.pretrain.auto import Machine, describe, free_bytes, wait_for
from foveal.pretrain.built import Built
from foveal.pretrain.feed import Batch, Feed, MicroBatches
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.outcome import estimate_statistics, examine
from foveal.pretrain.step import gradients
from foveal.schedule import set_learning_rate
from foveal.sets.loader import prefetch

PLAN_SECONDS, BUDGET_SECONDS = 30.0, 10.0


@dataclass(frozen=True)
class Rehearsal:
    """What real work took: images/s, share of time spent waiting, peak memory in bytes, seconds of one look."""

    images_per_second: float
    data_wait: float
    memory: int
    look: float = 0.0


def rehearse(built: Built, feed: Feed, probe: probing.Probe | None, seconds: float) -> Rehearsal:
    """Real steps for about so many seconds, at a learning rate of zero, and one look; all processes do the same."""
    config, device = feed.config, feed.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    views = iter(prefetch(_endless(feed)))
    waited, began, steps, wanted = 0.0, 0.0, -2, 1
    while steps < wanted:
        if steps == 0:  # two steps to warm up
            if device.type == "cuda":  # what was tried before must not count
                torch.cuda.reset_peak_memory_stats(device)
            waited, began = 0.0, time.perf_counter()
        asked = time.perf_counter()
        batch, identity = next(views)
        waited += time.perf_counter() - asked
        gradients(built.trained, built.method, batch, identity, autocast, seed=0)
        waited += batch.waited if isinstance(batch, MicroBatches) else 0.0
        set_learning_rate(built.optimiser, 0.0)
        built.optimiser.step()
        built.optimiser.zero_grad(set_to_none=True)
        wait_for(device)
        steps += 1
        if steps == 1:
            one = from_first_process(time.perf_counter() - began)
            wanted = max(1, int(seconds / one))
    views.close()  # type: ignore[attr-defined]
    total = time.perf_counter() - began
    on_gpu = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory()
    look = _seconds_of_look(built, feed, probe)
    return Rehearsal(from_first_process(steps * config.batch_size / total), waited / total, memory, look)


def _seconds_of_look(built: Built, feed: Feed, probe: probing.Probe | None) -> float:
    encoder = copy.deepcopy(built.method.encoder) if feed.config.ema else built.method.encoder
    seconds, once = 0.0, feed.device.type == "cpu" and feed.config.compile == "no"
    for _ in range(1 if once else 2):  # on a GPU, or compiled, the first one is slow
        began = time.perf_counter()
        if feed.config.ema:
            estimate_statistics(encoder, feed)
        examine(built, encoder, feed)
        if probe is not None and is_first_process():
            probing.judge(probe, encode(encoder.eval(), probe.store, feed.spec, feed.device))
        seconds = from_first_process(time.perf_counter() - began)
    return seconds


def _endless(feed: Feed) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from feed.epoch(epoch)
        epoch += 1


def peak_memory() -> int:
    """The most bytes that this process has held at one time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def epochs_between_looks(epochs: int, asked: int) -> int:
    """Epochs between two looks: as asked, or for 0 so many that at most ten follow the one before the run."""
    return asked or max(1, math.ceil(epochs / 10))


def looks_in(epochs: int, every: int) -> int:
    """Looks in a run: one before it, one every `every` epochs (0: at most ten), and one at its end."""
    return 1 + math.ceil(epochs / epochs_between_looks(epochs, every))


def seconds_of_run(epochs: int, images: int, every: int, rehearsal: Rehearsal) -> float:
    """Seconds that a run of so many epochs of the pool takes, with its looks."""
    return epochs * images / rehearsal.images_per_second + looks_in(epochs, every) * rehearsal.look


def epochs_within(seconds: float, rehearsal: Rehearsal, images: int, every: int = 0) -> int:
    """Epochs that a budget allows; FovealError when it is less than one. every: epochs between two looks, as asked."""
    epochs = max(1, int(seconds * rehearsal.images_per_second / images))
    while epochs > 1 and seconds_of_run(epochs, images, every, rehearsal) > seconds:
        epochs -= 1
    if (needed := seconds_of_run(epochs, images, every, rehearsal)) > seconds:
        looked = f" and {looks_in(1, every)} looks at the features" if rehearsal.look > 0.1 * needed else ""
        what = f"--budget is too short: after measuring, {duration(max(0.0, seconds))} are left"
        expected = f"{duration(needed)} for one epoch of {images:,} images{looked}"
        raise FovealError("option.value", what, expected=expected)
    return epochs


def show_plan(
    config: PretrainConfig, machine: Machine, rates: dict[str, float], rehearsal: Rehearsal, images: int
) -> None:
    """Print what was tried, what is chosen, and what the run will take; images: those of an epoch's whole batches."""
    if rates:
        show_table(
            "Tried", ("steps alone, one process", "images/s"), [(name, f"{rate:,.1f}") for name, rate in rates.items()]
        )
    every, looks = config.probe_every, looks_in(config.epochs, config.probe_every)
    needed = seconds_of_run(config.epochs, images, every, rehearsal)
    free = free_bytes(replace(machine, count=0)) / 2**30  # the pool is loaded already
    rows = [
        ("chosen", describe(config)),
        ("images per second, all processes", f"{rehearsal.images_per_second:,.1f}"),
        ("waiting for views", f"{rehearsal.data_wait:.0%}"),
        ("peak memory of a process", f"{rehearsal.memory / 2**30:.1f} GiB (free: {free:.1f} GiB)"),
        ("a look at the features" + ("" if config.probe is None else " and the probe"), duration(rehearsal.look)),
        (f"{config.epochs} epochs of {images:,} images and {looks} looks", duration(needed)),
    ]
    for label, seconds in (("1 hour", 3600), ("8 hours", 28800)):
        try:
            epochs = f"{epochs_within(seconds, rehearsal, images, every):,}"
        except FovealError:
            epochs = "less than one"
        rows.append((f"epochs in {label}", epochs))
    show_table("Plan", ("", ""), rows)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if size == 3600 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"
