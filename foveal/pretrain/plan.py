"""Estimate how long a run takes, from real steps on real images, for `--plan` and `--budget`. Nothing is changed.

Where a step of a whole batch would take long, fewer images are measured, and what a step takes besides them is timed by
itself, so that a plan takes some twenty seconds on any machine. A GPU takes whole batches from the start: its first
step of each size takes seconds, which the run needs as well.
"""

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
import torch

from foveal.budget import MOST_MEASURED, SHARE_MEASURED, most_epochs, seconds_of
from foveal.console import Bar, duration, is_first_process, progress_bar, say
from foveal.distributed import from_first_process
from foveal.errors import FovealError
from foveal.hardware import free_on, give_back_memory, held_on, in_precision, peak_memory, reset_peak_memory, wait_for
from foveal.nets.encoder import create_encoder, feature_size
from foveal.page.render import print_template
from foveal.page.words import counted
from foveal.predict.features import seconds_of_pass
from foveal.pretrain import probe as probing
from foveal.pretrain.auto import step_memory
from foveal.pretrain.feed import Feed, MicroBatches
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.outcome import HEALTH_IMAGES, LOOKED_AT_ONCE, examine
from foveal.pretrain.step import Built, build, gradients
from foveal.schedule import set_learning_rate
from foveal.sets.loader import prefetch

STEPS = 5  # so many should fit into that time, some of them to warm up
GROWTH = 1.5  # from one number of images to the next: an image takes less time in larger steps
ENOUGH = 6  # more images in the larger of two steps, from whose peaks of memory the need of an image follows
JUDGED = 1000  # features that a probe is timed with
FORWARD_SECONDS = 2.0


@dataclass(frozen=True)
class Rehearsal:
    """Measured: images/s, share of time spent waiting, peak memory in bytes, seconds of a look and of all else."""

    images_per_second: float
    data_wait: float
    memory: float
    look: float = 0.0
    besides: float = 0.0  # before the first step, and for probes that are not part of a look


def rehearsed(feed: Feed, why: dict[str, str], probe: probing.Probe | None, began: float) -> Feed:
    """The feed with the number of epochs that --budget allows since `began`; prints the plan where it is asked for."""
    config, channels, start = feed.config, feed.store.image_shape[2], time.monotonic() - began
    encoder = create_encoder(config.encoder, channels, config.image_size)
    rehearsal = rehearse(build(config, channels, encoder, feed.device, feed.world), feed, probe)
    if config.budget is not None:
        spent, images = from_first_process(time.monotonic() - began), feed.steps * config.batch_size
        epochs = epochs_within(seconds_of(config.budget) - spent, rehearsal, images, config.probe_every)
        say(f"--budget {config.budget} allows {counted(epochs, 'epoch')}, in place of --epochs {config.epochs}")
        feed = replace(feed, config=replace(config, epochs=epochs))
    if config.plan:
        show_plan(feed, why, replace(rehearsal, besides=rehearsal.besides + start))
    return feed


def rehearse(built: Built, feed: Feed, probe: probing.Probe | None = None) -> Rehearsal:
    """Take real steps for some seconds, at most a fiftieth of a budget, without learning; all processes do the same."""
    config, share = feed.config, feed.config.batch_size // feed.world
    seconds = min(MOST_MEASURED, SHARE_MEASURED * (math.inf if config.budget is None else seconds_of(config.budget)))
    give_back_memory()  # what was tried before must not count
    on_gpu, held = feed.device.type == "cuda", held_on(feed.device)
    began = time.monotonic()
    with progress_bar("measuring", 2 * seconds, "s") as bar:
        images = share if on_gpu or config.compile == "yes" else min(share, 2)  # another size would be compiled again
        reset_peak_memory()
        taken, *_ = _steps(built, _of_size(feed, images), 0.0, bar)
        peaks = {images: peak_memory()}
        began = time.monotonic() if on_gpu else began
        while (more := _in_parts(config, _as_many(images, share, began + 2 * seconds, taken))) >= GROWTH * images:
            images = more
            taken, *_ = _steps(built, _of_size(feed, images), 0.0, bar)
            peaks[_at_once(_of_size(feed, images))] = peak_memory()
        give_back_memory()  # as after a look at the embeddings
        left = from_first_process(min(seconds, began + 2 * seconds - time.monotonic()))
        taken, besides, waited, refilled = _steps(built, _of_size(feed, images), left, bar)
    a_batch = from_first_process(besides + (taken - besides) * share / images)
    memory = held + step_memory(feed)(_at_once(feed), share)
    (few, least), (many, most) = min(peaks.items()), max(peaks.items())
    if many >= few + ENOUGH and most > least and not on_gpu:  # what was seen is surer than what was counted
        memory = most + (most - least) / (many - few) * (_at_once(feed) - many)
    look, probed = map(from_first_process, _seconds_of_look(built, feed, probe, taken / images))
    both = (look + probed, probed) if config.probe is not None else (look, 2 * probed)
    looked, ends = (each + refilled * share / images for each in both)
    return Rehearsal(config.batch_size / a_batch, waited, memory, looked, ends)


def _as_many(images: int, share: int, until: float, taken: float) -> int:
    """Images of a step, of which some fit into the time that is left, if `images` take so long."""
    return min(share, int(images * from_first_process(until - time.monotonic()) / STEPS / taken))


def _at_once(feed: Feed) -> int:
    """Images of a process that are in memory together."""
    config = feed.config
    return config.batch_size // feed.world if config.micro_batch == "whole" else int(config.micro_batch)


def _in_parts(config: PretrainConfig, images: int) -> int:
    """So many images or a few less, which micro-batches divide."""
    if config.micro_batch == "whole":
        return images
    micro = int(config.micro_batch)
    return images - images % (micro if images >= 2 * micro else 2)


def _of_size(feed: Feed, images: int) -> Feed:
    """The feed with so many images in a step, in two micro-batches at least where there are any."""
    config = replace(feed.config, batch_size=images * feed.world)
    if config.micro_batch != "whole":
        config = replace(config, micro_batch="whole" if images < 4 else str(min(int(config.micro_batch), images // 2)))
    return replace(feed, config=config)


def _steps(built: Built, feed: Feed, seconds: float, bar: Bar) -> tuple[float, float, float, float]:
    """Seconds of a step, of what does not depend on the images, the share of waiting, and by how many seconds the first
    step is slower than the others, because memory is new to it; at least two steps."""
    device, autocast = feed.device, in_precision(feed.config.precision, feed.device)
    views, rows, more = prefetch(chain.from_iterable(map(feed.epoch, count()))), [], True
    built.training_mode()
    while more:
        asked = time.perf_counter()
        batch, identity = next(views)
        waited = time.perf_counter() - asked
        gradients(built.trained, built.method, batch, identity, autocast, seed=0)
        waited += batch.waited if isinstance(batch, MicroBatches) else 0.0
        wait_for(device)
        graded = time.perf_counter()
        set_learning_rate(built.optimiser, 0.0)
        built.optimiser.step()
        built.optimiser.zero_grad(set_to_none=True)
        wait_for(device)
        now = time.perf_counter()
        rows.append((now - asked, now - graded, waited))
        bar.advance(now - asked)
        more = from_first_process(len(rows) < 2 or sum(row[0] for row in rows) + rows[-1][0] < seconds)
    views.close()  # type: ignore[attr-defined]
    total, besides, waited = (float(column) for column in np.mean(rows[1:], axis=0))
    total = from_first_process(total)
    return total, besides, waited / total, from_first_process(max(0.0, rows[0][0] - total))


def _seconds_of_look(built: Built, feed: Feed, probe: probing.Probe | None, learning: float) -> tuple[float, float]:
    """Seconds of a look, and of a probe. learning: those of an image in a step, longer than a look at it."""
    images = min(HEALTH_IMAGES, len(feed.store))
    few = max(2, min(images, int(FORWARD_SECONDS / learning), LOOKED_AT_ONCE))
    for _ in range(2):  # the first one is slow
        began = time.perf_counter()
        examine(built, feed, few)
        looking = (time.perf_counter() - began) * images / few
    if probe is None or not is_first_process():
        return looking, 0.0
    encoder = built.method.encoder.eval()
    each = seconds_of_pass(encoder, probe.store, feed.spec, feed.device, few)
    fewer = replace(probe, labels=probe.labels[:JUDGED], folds=probe.folds[:JUDGED], units=probe.units[:JUDGED])
    features = torch.randn(len(fewer.labels), feature_size(encoder), device=feed.device)
    began = time.perf_counter()
    probing.rows_of(fewer, probing.judge(fewer, features), None)
    return looking, len(probe.labels) * (each + (time.perf_counter() - began) / len(fewer.labels))


def epochs_between_looks(epochs: int, asked: int) -> int:
    """As asked; for 0, enough for at most ten looks."""
    return asked or max(1, math.ceil(epochs / 10))


def looks_in(epochs: int, every: int) -> int:
    """Looks in a run: one every `every` epochs, and one at its end."""
    return math.ceil(epochs / epochs_between_looks(epochs, every))


def seconds_of_run(epochs: int, images: int, every: int, rehearsal: Rehearsal) -> float:
    """Seconds of a run of so many epochs of the pool, with its looks."""
    return epochs * images / rehearsal.images_per_second + looks_in(epochs, every) * rehearsal.look + rehearsal.besides


def epochs_within(seconds: float, rehearsal: Rehearsal, images: int, every: int = 0) -> int:
    """Epochs that a budget allows; FovealError if it is less than one. every: epochs between two looks, as asked."""
    looked = " and a health check" if rehearsal.look > 0.1 * seconds_of_run(1, images, every, rehearsal) else ""
    shortest, words = images / rehearsal.images_per_second, f"one epoch of {images:,} images{looked}"
    return most_epochs(seconds, lambda epochs: seconds_of_run(epochs, images, every, rehearsal), shortest, words)


def show_plan(feed: Feed, why: dict[str, str], rehearsal: Rehearsal) -> None:
    """Print what was chosen, and the time and memory that the run will take."""
    config, every, images, fitting = feed.config, feed.config.probe_every, feed.steps * feed.config.batch_size, {}
    available = free_on(feed.device) + held_on(feed.device)  # in this order: the first gives back what is only kept
    for label, seconds in (("1 hour", 3600), ("8 hours", 28800)):
        with suppress(FovealError):  # less than one
            fitting[label] = epochs_within(seconds, rehearsal, images, every)
    looks, needed = looks_in(config.epochs, every), seconds_of_run(config.epochs, images, every, rehearsal)
    print_template("plan.txt", config=config, why=why, rehearsal=rehearsal, images=images, available=available,
                   fitting=fitting, looks=looks, seconds=needed, duration=duration)  # fmt: skip
