"""Several processes that act as one: set-up under torchrun, and a gather with gradients.

`foveal pretrain …` runs in one process; `torchrun --nproc-per-node 2 -m foveal pretrain …` runs the same code in two,
with gloo on CPUs and NCCL on GPUs; `train` likewise. `--batch-size` is always that of the whole run.
"""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from foveal.errors import FovealError
from foveal.hardware import keep_freed_memory

T = TypeVar("T")
_APART: ContextVar[bool] = ContextVar("apart", default=False)


def choose_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `mps`; under torchrun, the GPU of this process."""
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise FovealError("option.value", f"--device {name} is unknown", expected="auto, cpu, cuda or mps")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]:
        raise FovealError("device.missing", f"--device {name}: no such GPU is visible", fix="use --device auto or cpu")
    if name == "cpu":
        keep_freed_memory()
    if name != "cuda":
        return torch.device(name)
    device = torch.device(name, int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[int, int]]:
    """Join the other processes if torchrun started several; gives (rank, world size).

    They stay together for the next verb of a program: under torchrun they can join only once.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, 1
        return
    # The others wait while the first process validates, however long that takes; a lost process is noticed at once.
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=1))
        atexit.register(_leave)
    try:
        yield dist.get_rank(), dist.get_world_size()
    except BaseException:
        _leave()  # so that the others notice at once
        raise


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def lost_process_explained(out: Path) -> Iterator[None]:
    """Raise a FovealError in place of the connection error that a process gets when another one has died."""
    try:
        yield
    except RuntimeError as error:
        words, signs = str(error), ("Connection", "peer", "NCCL", "gloo", "timed out")
        if not dist.is_initialized() or not any(sign in words for sign in signs):
            raise
        what = f"another process of this run has ended ({words.splitlines()[0].rpartition('] ')[2][:160]})"
        resumes = f", which resumes from the checkpoint in {out}" if (out / "checkpoint.pt").is_file() else ""
        raise FovealError("training.process_lost", what, fix=f"run the same command again{resumes}") from error


def barrier() -> None:
    """Wait for all processes."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def apart() -> Iterator[None]:
    """Within the block, this process gathers nothing from the others; for measuring, which each does by itself."""
    before = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(before)


def together() -> bool:
    """Whether there are other processes that this one works with now."""
    return dist.is_initialized() and not _APART.get()


def place() -> tuple[int, int]:
    """The rank of this process, and the number of processes that work together."""
    return (dist.get_rank(), dist.get_world_size()) if together() else (0, 1)


class _Gather(torch.autograd.Function):
    """All-gather; the backward pass sums the gradients of all processes and gives each process those of its part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather(part: Tensor) -> Tensor:
    """[n, ...] of each process -> [world * n, ...] in rank order, with exact gradients; alone, the input itself.

    DistributedDataParallel averages gradients over processes. With the summing backward here, the average of
    per-process losses over gathered columns has the gradient of the loss of the whole batch.
    """
    return _Gather.apply(part) if together() else part


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a detached tensor over all processes."""
    return sum_over_processes(value) / dist.get_world_size() if together() else value


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a detached tensor over all processes."""
    if together():
        value = value.clone()
        dist.all_reduce(value)
    return value


def from_first_process(value: T) -> T:
    """The value of rank 0, in every process; for plain values."""
    if dist.is_initialized():
        held: list[Any] = [value]
        dist.broadcast_object_list(held)
        value = held[0]
    return value


def decided_by_first(decide: Callable[[], T]) -> T:
    """The value that `decide` returns in rank 0, given to every process; an error in rank 0 is raised in all.

    For values that are read from files, which only the first machine may have.
    """
    value: Any = None
    error: Exception | None = None
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            value = decide()
        except Exception as found:  # noqa: BLE001 - raised again below, in every process
            error = found
    value, error = from_first_process((value, error))
    if error is not None:
        raise error
    return value
