"""What suits this machine: precision, compiling and the micro-batch, found by measuring.

A few steps on random pixels are timed for each choice; speed does not depend on what a picture shows. A run that is too
short to pay for that takes the usual choice. The choice is printed and recorded in the run's config.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foveal.console import say
from foveal.distributed import apart, from_first_process, processes_here
from foveal.errors import FovealError
from foveal.pretrain.built import build_method
from foveal.pretrain.options import MEASURED, PretrainConfig, seconds_of
from foveal.pretrain.step import gradients
from foveal.sets.loader import RESIDENT_SHARE, free_memory

TIMED_STEPS, ROUNDS = 2, 2
PAYS_BACK = 100  # a run must have this many times the images that a choice is measured with
COMPILING_PAYS = 600  # seconds of a run below which compiling is not tried
BUDGET_SHARE = 0.05  # of a budget, after which nothing more is tried
VIEWS_AHEAD = 3  # batches of views that are ready or being made beside the one in use
PEAK = 1.6  # peak memory of a step over what is kept for its backward pass: gradients, workspace


@dataclass(frozen=True)
class Machine:
    """Where a run takes place: device, processes, and shape [S, S, C] and number of the pool's images."""

    device: torch.device
    world: int
    shape: tuple[int, ...]
    count: int


def settle(config: PretrainConfig, machine: Machine) -> tuple[PretrainConfig, dict[str, float]]:
    """The config without `auto`, and the images per second of everything that was tried.

    All processes measure at once, as they will work, each by itself; then all take the choice of the first one.
    """
    rates: dict[str, float] = {}
    chosen, sample = usual(config, machine.device), sample_size(config, machine)
    long = config.epochs * machine.count >= PAYS_BACK * sample or config.plan or config.budget is not None
    tried = MEASURED if machine.device.type == "cuda" else MEASURED[:1]  # compiling does not pay without a GPU
    with apart():
        if long and any(getattr(config, name) == "auto" for name in tried):
            say("measuring what suits this machine")
            chosen = _measured(config, chosen, machine, sample, rates)
        chosen = replace(chosen, micro_batch=_micro_batch(chosen, machine))
    return from_first_process((chosen, rates))


def usual(config: PretrainConfig, device: torch.device) -> PretrainConfig:
    """The choice without measuring: not compiled, bf16 on a GPU that has it, else fp32."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    precision = ("bf16" if bf16 else "fp32") if config.precision == "auto" else config.precision
    return replace(config, precision=precision, compile="no" if config.compile == "auto" else config.compile)


def sample_size(config: PretrainConfig, machine: Machine) -> int:
    """Images of a measured step: enough to be typical, few enough to be quick."""
    pixels = 2**23 if machine.device.type == "cuda" else 2**19
    return min(config.batch_size // machine.world, max(8, pixels // config.image_size**2))


def _measured(
    asked: PretrainConfig, chosen: PretrainConfig, machine: Machine, sample: int, rates: dict[str, float]
) -> PretrainConfig:
    """Try one choice after the other, each on top of the best so far, for as long as a budget has time for it."""
    budget = None if asked.budget is None else seconds_of(asked.budget)
    until = math.inf if budget is None else time.monotonic() + BUDGET_SHARE * budget

    def better(option: str, value: str) -> PretrainConfig:
        other = replace(chosen, **{option: value})  # type: ignore[arg-type]
        if getattr(asked, option) != "auto" or time.monotonic() > until:
            return chosen
        for _ in range(ROUNDS):  # in turn, and the best of each counts: other work on the machine comes and goes
            for config in (chosen, other):
                rates[_name(config)] = max(rates.get(_name(config), 0.0), step_rate(config, machine, sample))
            if time.monotonic() > until:
                break
        return other if rates[_name(other)] > rates[_name(chosen)] else chosen

    chosen = better("precision", "fp32" if chosen.precision == "bf16" else "bf16")
    if machine.device.type == "cuda" and machine.world == 1:
        if _name(chosen) not in rates:
            rates[_name(chosen)] = step_rate(chosen, machine, sample)
        if (budget or asked.epochs * machine.count / rates[_name(chosen)]) > COMPILING_PAYS:
            chosen = better("compile", "yes")
    return chosen


def _name(config: PretrainConfig) -> str:
    return config.precision + (" compiled" if config.compile == "yes" else "")


def _random_views(config: PretrainConfig, machine: Machine, images: int) -> tuple[Tensor, ...]:
    size = (images, machine.shape[2], config.image_size, config.image_size)
    views = (torch.randn(size, device=machine.device) for _ in range(2))
    return tuple(view.contiguous(memory_format=torch.channels_last) for view in views)


def step_rate(config: PretrainConfig, machine: Machine, sample: int) -> float:
    """Images per second of forward and backward passes on random pixels, the faster of two steps."""
    device = machine.device
    method = build_method(config, machine.shape[2]).to(device)
    if config.compile == "yes":
        method.encoder.compile()
    views, identity = [_random_views(config, machine, sample)], torch.arange(sample, device=device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        gradients(method, method, views, identity, autocast, seed=0)  # type: ignore[arg-type]
        wait_for(device)
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > 30 and len(seconds) > 1:  # on a slow machine two steps are enough
            break
    return sample / min(seconds[1:])


def kept_bytes(config: PretrainConfig, machine: Machine, images: int = 4) -> float:
    """Bytes per image (two views) that a step keeps for its backward pass, counted on a few images."""
    method = build_method(config, machine.shape[2]).to(machine.device)
    own = {parameter.untyped_storage().data_ptr() for parameter in method.parameters()}
    storages: dict[int, int] = {}

    def count(kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return kept

    autocast = torch.autocast(machine.device.type, torch.bfloat16, enabled=config.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(count, lambda kept: kept), autocast:
        method(*_random_views(config, machine, images))
    return sum(storages.values()) / images


def check_micro_batch(config: PretrainConfig, world: int) -> None:
    """FovealError for a number of images that does not divide the share of a process."""
    share, asked = config.batch_size // world, config.micro_batch
    if asked.isdigit() and (share % int(asked) or int(asked) < 2):
        expected = f"at least 2, and a divisor of the {share} images of a batch that each process takes"
        raise FovealError("option.value", f"--micro-batch is {asked}", expected=expected)


def _micro_batch(config: PretrainConfig, machine: Machine) -> str:
    """The whole share of a process where it fits into memory, else the largest part of it that does."""
    share = config.batch_size // machine.world
    if config.micro_batch != "auto":
        return config.micro_batch
    views = 8 * machine.shape[2] * config.image_size**2  # two, float32
    each, free = PEAK * kept_bytes(config, machine) + views, free_bytes(machine)
    room = free - matrix_bytes(config, share)
    if share * (each + VIEWS_AHEAD * views) <= room:
        return "whole"
    room -= share * math.prod(machine.shape)  # micro-batches: the images of the step, as bytes, and one part's views
    fitting = [size for size in range(2, share) if share % size == 0 and size * each <= room]
    if fitting:
        return str(fitting[-1])
    if room >= 2 * each:
        raise FovealError(
            "memory.exhausted",
            f"there is memory for {int(room / each)} images at a time, and the {share} of a batch that each process "
            "takes cannot be cut into equal parts that small",
            fix=f"choose a --batch-size with smaller divisors, such as {machine.world * (share - share % 2)}",
        )
    raise FovealError(
        "memory.exhausted",
        f"two images of a step need {(free - room + 2 * each) / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free",
        fix="choose a smaller --image-size, --encoder or --batch-size"
        + (", or --simclr.chunk 4096 for a smaller loss" if config.method == "simclr" else ""),
    )


def matrix_bytes(config: PretrainConfig, share: int) -> float:
    """Bytes of the similarities of a process's vectors with all others, their gradient and workspace; 0 in tiles."""
    whole = config.method == "supcon" or (config.method == "simclr" and not config.simclr.chunk)
    return 3 * 4 * (2 * share) * (2 * config.batch_size) if whole else 0.0


def free_bytes(machine: Machine) -> float:
    """Memory that a process can use for its steps, beside the pool."""
    pool = machine.count * math.prod(machine.shape)
    on_gpu = machine.device.type == "cuda"
    free = float(torch.cuda.mem_get_info(machine.device)[0]) if on_gpu else free_memory() / processes_here()
    return 0.9 * free - (pool if pool <= RESIDENT_SHARE * free else 0)


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all work; times mean nothing before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def describe(config: PretrainConfig) -> str:
    """The choices in a few words."""
    parts = [config.precision] + (["compiled"] if config.compile == "yes" else [])
    return ", ".join(
        [*parts, "whole batches" if config.micro_batch == "whole" else f"micro-batches of {config.micro_batch}"]
    )
