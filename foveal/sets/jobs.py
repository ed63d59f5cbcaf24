"""Jobs: the parts of a source that must still be decoded, by threads of this machine or by a Ray cluster."""

import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foveal.console import progress_bar, say
from foveal.errors import FovealError, check_packages
from foveal.fundus.preparation import Preparation
from foveal.page.words import counted
from foveal.sets.shards import ShardJob, read_facts, shard_numbers, write_shard
from foveal.sources.source import Source

SHARD_BYTES = 64 << 20  # about ten seconds of decoding on a laptop, the most that an interruption can lose


def file_stamps(source: Source) -> list[str]:
    """Size and modification time of each file, by which changed files are recognised; "array" for arrays."""
    stamps = ["array" if source.images is not None else "missing"] * len(source.table)
    for place, file in enumerate(source.table["file"] if source.images is None else ()):
        with suppress(OSError):
            status = (source.root / file).stat()
            stamps[place] = f"{status.st_size}@{status.st_mtime_ns}"
    return stamps


def plan_jobs(
    source: Source, stamps: list[str], folder: Path, preparation: Preparation, photographs: bool
) -> list[ShardJob]:
    """The parts that no finished shard holds; new files get the first free numbers, changed ones the last."""
    rows = int(np.clip(SHARD_BYTES // (preparation.size**2 * preparation.channels), 64, 4096))
    used = set(shard_numbers(folder))
    table = source.table.assign(stamp=stamps, position=np.arange(len(stamps))).drop_duplicates("file")
    before = table["file"].map(read_facts(folder).set_index("file")["stamp"])
    new, changed = table[before.isna()], table[before.notna() & (before != table["stamp"])]
    free = (number for number in range(len(used) + len(new)) if number not in used)
    parts = [(next(free), new[start : start + rows]) for start in range(0, len(new), rows)]
    behind = max([-1, *used, *(number for number, _ in parts)]) + 1
    parts += [(behind + start // rows, changed[start : start + rows]) for start in range(0, len(changed), rows)]
    return [ShardJob(number=number, folder=folder.absolute(), preparation=preparation, root=source.root.absolute(),
                     files=tuple(part["file"]), stamps=tuple(part["stamp"]), positions=tuple(part["position"].tolist()),
                     photographs=photographs) for number, part in parts]  # fmt: skip


def check_space(jobs: list[ShardJob], folder: Path) -> None:
    """FovealError, before any work, if the disk has no room for the arrays of `jobs`."""
    images = sum(stamp != "missing" for job in jobs for stamp in job.stamps)
    side, channels = jobs[0].preparation.size, jobs[0].preparation.channels
    needed, free = images * side**2 * channels, shutil.disk_usage(folder).free
    if needed > free:
        what = f"{folder} has {free / 2**20:,.1f} MiB free"
        expected = f"{needed / 2**20:,.1f} MiB for {counted(images, 'image')} at {side} px"
        raise FovealError("output.full", what, expected=expected, fix="give another --out or a smaller --size")


def run_jobs(jobs: list[ShardJob], source: Source, address: str) -> None:
    """Write all shards, here or, with an `address`, on a Ray cluster."""
    left, total = sum(len(job.files) for job in jobs), source.table["file"].nunique()
    if left < total:
        say(f"decoded already: {total - left:,} of {counted(total, 'image')}; {left:,} to go")
    filled = (job if source.images is None else replace(job, images=source.images[list(job.positions)]) for job in jobs)
    with progress_bar("prepare", total, done=total - left) as bar:
        if not address:
            for job in filled:
                write_shard(job, bar.advance)
            return
        with ray_cluster(address) as ray:  # repeats a task when its worker dies; all machines must see the same paths
            task = ray.remote(write_shard).options(num_cpus=1, max_retries=5)
            waiting = {task.remote(job): len(job.files) for job in filled}
            while waiting:
                finished, _ = ray.wait(list(waiting), num_returns=1)
                ray.get(finished)
                bar.advance(waiting.pop(finished[0]))


@contextmanager
def ray_cluster(address: str) -> Iterator[Any]:
    """The module ray, connected to "auto", "local" or another address; a FovealError in a task is raised as itself."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent that nobody asked for
    check_packages("--ray", "ray", "ray")
    import ray

    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "/" not in host:
            socket.create_connection((host, int(port)), timeout=5).close()  # Ray itself would keep trying for minutes
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError) as error:
        raise FovealError("server.unreachable", f"--ray {address}: no Ray cluster answers ({error})") from error
    try:
        yield ray
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, FovealError) else error) from None
    finally:
        ray.shutdown()
