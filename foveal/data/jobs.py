"""Jobs: what of a source is still to be decoded, and who decodes it: this machine's threads, or a Ray cluster."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from foveal.console import Bar, progress_bar, say
from foveal.data.shards import ShardJob, read_facts, rows_per_shard, write_shard
from foveal.data.source import Source
from foveal.fundus.preparation import Preparation


def file_sizes(source: Source) -> np.ndarray:
    """int64 [n]: size of each file of the source in bytes, -1 where it cannot be seen, 0 for arrays."""
    if source.images is not None:
        return np.zeros(len(source.table), np.int64)
    return np.array([_size(source.root / file) for file in source.table["file"]], np.int64)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def plan_jobs(
    source: Source, sizes: np.ndarray, folder: Path, preparation: Preparation, photographs: bool
) -> list[ShardJob]:
    """The parts of the source that no finished shard in `folder` holds, in the order of the source.

    A file counts as new when its size has changed. Free shard numbers are used in order, so that work which was
    killed goes on to the same shards that it would have made.
    """
    facts = read_facts(folder)
    done = set(zip(facts["file"], facts["bytes"], strict=True))
    table = source.table.assign(bytes=sizes, position=np.arange(len(sizes))).drop_duplicates("file")
    places = zip(table["file"], table["bytes"], table["position"], strict=True)
    left = [place for place in places if place[:2] not in done]
    used = set(facts["shard"])
    free = (number for number in range(len(used) + len(left)) if number not in used)
    rows = rows_per_shard(preparation)
    return [
        ShardJob(
            number=next(free), folder=folder.absolute(), preparation=preparation, root=source.root.absolute(),
            files=tuple(place[0] for place in part), sizes=tuple(int(place[1]) for place in part),
            positions=tuple(int(place[2]) for place in part), photographs=photographs,
        )
        for part in (left[start : start + rows] for start in range(0, len(left), rows))
    ]  # fmt: skip


def check_space(jobs: list[ShardJob], folder: Path) -> None:
    """Raise ValueError before any work when the disk has no room for the arrays of `jobs`."""
    images = sum(len(job.files) for job in jobs)
    side, channels = jobs[0].preparation.size, jobs[0].preparation.channels
    needed, free = images * side**2 * channels, shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder} has {free / 2**30:.1f} GiB free; {images:,} images at {side} px need {needed / 2**30:.1f} GiB. "
            "Choose another disk with --out, or a smaller --size"
        )


def run_jobs(jobs: list[ShardJob], source: Source, address: str) -> None:
    """Write all shards, here or, with an `address`, on a Ray cluster."""
    left, total = sum(len(job.files) for job in jobs), source.table["file"].nunique()
    if left < total:
        say(f"{total - left:,} of {total:,} images are there already; {left:,} to go")
    with progress_bar("prepare", total, done=total - left) as bar:
        if address:
            _on_ray(jobs, source, address, bar)
        else:
            for job in jobs:
                write_shard(with_images(job, source), bar.advance)
    for unfinished in jobs[0].folder.glob(".*"):  # of a process that was killed
        unfinished.unlink()


def with_images(job: ShardJob, source: Source) -> ShardJob:
    """The job with its part of a source's arrays, taken only when its turn comes."""
    return job if source.images is None else replace(job, images=source.images[list(job.positions)])


def _on_ray(jobs: list[ShardJob], source: Source, address: str, bar: Bar) -> None:
    """The same function as tasks of a Ray cluster, which runs a task again when its worker dies.

    All machines must see the source and --out under the same paths. `address`: of a running cluster, "auto" for
    the one of this machine, "local" for one that is started for this work only.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("--ray needs Ray: pip install 'foveal[ray]'") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ValueError(f"--ray {address}: no Ray cluster answers there ({error})") from error
    try:
        task = ray.remote(write_shard).options(num_cpus=1, max_retries=5)
        waiting = {task.remote(with_images(job, source)): job for job in jobs}
        while waiting:
            finished, _ = ray.wait(list(waiting), num_returns=1)
            ray.get(finished)
            bar.advance(len(waiting.pop(finished[0]).files))
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, ValueError) else error) from None
    finally:
        ray.shutdown()


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the folder for one writing process; ValueError when another has it. The lock dies with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such lock on this system
        yield
        return
    stream = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(stream)
        raise ValueError(f"another foveal prepare is writing to {folder}; let it finish, or stop it") from None
    try:
        yield
    finally:
        (folder / ".lock").unlink(missing_ok=True)
        os.close(stream)
