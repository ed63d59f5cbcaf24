"""What suits this machine: precision, memory format, compiling, the place of views and the micro-batch, by measuring.

A few steps on random pixels are timed for each choice; speed does not depend on what a picture shows. Where a run is
too short to pay for that, the usual choice is taken. What is chosen is printed and stands in the run's config.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.augment import opencv, tensor
from foveal.augment.draw import draw
from foveal.augment.recipes import recipe_pair
from foveal.console import say
from foveal.distributed import apart, from_first_process, processes_here
from foveal.pretrain.built import build_method
from foveal.pretrain.options import MEASURED, PretrainConfig, seconds_of
from foveal.pretrain.step import gradients
from foveal.sets.loader import RESIDENT_SHARE, free_memory

TIMED_STEPS, ROUNDS = 2, 2
PAYS_BACK = 100  # a run must have this many times the images that a choice is measured with
COMPILING_PAYS = 600  # seconds of a run below which compiling is not tried
BUDGET_SHARE = 0.05  # of a budget, after which no more is tried
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

    All processes measure at once, as they will work, each by itself; then all do as the first one says.
    """
    rates: dict[str, float] = {}
    chosen, sample = usual(config, machine.device), sample_size(config, machine)
    long = config.epochs * machine.count >= PAYS_BACK * sample or config.plan or config.budget is not None
    with apart():
        if long and any(getattr(config, name) == "auto" for name in compared(machine.device)):
            say("measuring what suits this machine")
            chosen = _measured(config, chosen, machine, sample, rates)
        chosen = replace(chosen, micro_batch=_micro_batch(chosen, machine))
    return from_first_process((chosen, rates))


def usual(config: PretrainConfig, device: torch.device) -> PretrainConfig:
    """What is right without measuring: bf16 and views on a GPU, fp32 and views by OpenCV on a CPU."""
    gpu = device.type == "cuda"
    defaults = {
        "precision": "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32",
        "memory_format": "channels_last",
        "compile": "no",
        "views_on": "cpu" if device.type == "cpu" else "device",
    }
    return replace(config, **{name: value for name, value in defaults.items() if getattr(config, name) == "auto"})  # type: ignore[arg-type]


def compared(device: torch.device) -> tuple[str, ...]:
    """The options whose values are tried: compiling and views are not where there is no GPU."""
    return MEASURED[:4] if device.type == "cuda" else MEASURED[:2]


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
        for _ in range(ROUNDS):  # in turn, and the best of each counts: what else the machine does comes and goes
            for config in (chosen, other):
                rates[_name(config)] = max(rates.get(_name(config), 0.0), step_rate(config, machine, sample))
            if time.monotonic() > until:
                break
        return other if rates[_name(other)] > rates[_name(chosen)] else chosen

    chosen = better("precision", "fp32" if chosen.precision == "bf16" else "bf16")
    chosen = better("memory_format", "contiguous")
    if _name(chosen) not in rates:
        rates[_name(chosen)] = step_rate(chosen, machine, sample)
    gpu, step = machine.device.type == "cuda", rates[_name(chosen)]
    seconds = asked.epochs * machine.count / step if budget is None else budget
    if gpu and machine.world == 1 and seconds > COMPILING_PAYS:
        chosen = better("compile", "yes")
    if gpu and asked.views_on == "auto":
        rates["views on cpu"], rates["views on device"] = view_rates(chosen, machine, sample)
        step = rates[_name(chosen)]
        on_cpu = min(step, rates["views on cpu"])  # threads of the CPU work while the device learns
        on_device = 1 / (1 / step + 1 / rates["views on device"])
        chosen = replace(chosen, views_on="cpu" if on_cpu > on_device else "device")
    return chosen


def _name(config: PretrainConfig) -> str:
    compiled = " compiled" if config.compile == "yes" else ""
    return f"{config.precision} {config.memory_format.replace('_', ' ')}{compiled}"


def step_rate(config: PretrainConfig, machine: Machine, sample: int) -> float:
    """Images per second of forward and backward passes on random pixels, the faster of two steps."""
    device = machine.device
    method = build_method(config, machine.shape[2]).to(device)
    if config.compile == "yes":
        method.encoder.compile()
    size = (sample, machine.shape[2], config.image_size, config.image_size)
    last = torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format
    views = [tuple(torch.randn(size, device=device).contiguous(memory_format=last) for _ in range(2))]
    identity = torch.arange(sample, device=device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        gradients(method, method, views, identity, autocast, seed=0)  # type: ignore[arg-type]
        wait_for(device)
        seconds.append(time.perf_counter() - began)
        if sum(seconds) > 30 and len(seconds) > 1:  # a slow machine: two steps tell enough
            break
    return sample / min(seconds[1:])


def view_rates(config: PretrainConfig, machine: Machine, sample: int) -> tuple[float, float]:
    """Images per second of making two views: by the CPU's threads, and on the device."""
    images = np.random.default_rng(0).integers(0, 256, (sample, *machine.shape), dtype=np.uint8)
    generator, size = torch.Generator().manual_seed(0), config.image_size
    tables = [draw(recipe, sample, machine.shape[0], size, generator) for recipe in recipe_pair(config.views)]
    resident = torch.from_numpy(images).to(machine.device)
    makers: list[Callable[[], Any]] = [
        lambda: [torch.from_numpy(opencv.apply(images, table, size)).to(machine.device) for table in tables],
        lambda: [tensor.apply(resident, table, size) for table in tables],
    ]
    rates = []
    for make in makers:
        seconds = []
        for _ in range(1 + TIMED_STEPS):
            began = time.perf_counter()
            make()
            wait_for(machine.device)
            seconds.append(time.perf_counter() - began)
        rates.append(sample / min(seconds[1:]))
    return rates[0], rates[1]


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

    size = (images, machine.shape[2], config.image_size, config.image_size)
    views = [torch.randn(size, device=machine.device).contiguous(memory_format=torch.channels_last) for _ in range(2)]
    autocast = torch.autocast(machine.device.type, torch.bfloat16, enabled=config.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(count, lambda kept: kept), autocast:
        method(*views)
    return sum(storages.values()) / images


def check_micro_batch(config: PretrainConfig, world: int) -> None:
    """ValueError for a number of images that does not divide the share of a process."""
    share, asked = config.batch_size // world, config.micro_batch
    if asked.isdigit() and (share % int(asked) or int(asked) < 2):
        raise ValueError(
            f"--micro-batch {asked} must be at least 2 and divide the {share} images that a process takes of each batch"
        )


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
    if not fitting:
        rest = "" if config.chunk != 0 else "; a --chunk of 4096 keeps the loss small"
        if room >= 2 * each:
            raise ValueError(
                f"a step has room for {int(room / each)} images at a time, and no such part divides the {share} that a "
                f"process takes of each batch: choose a --batch-size that can be cut, such as "
                f"{machine.world * (share - share % 2)}"
            )
        raise ValueError(
            f"two images of a step need {(free - room + 2 * each) / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are "
            f"free: choose a smaller --image-size, --encoder or --batch-size{rest}"
        )
    return str(fitting[-1])


def matrix_bytes(config: PretrainConfig, share: int) -> float:
    """Bytes of the similarities of a process's vectors with all others, their gradient and workspace; 0 in tiles."""
    return 0.0 if config.chunk != 0 else 3 * 4 * (2 * share) * (2 * config.batch_size)


def free_bytes(machine: Machine) -> float:
    """Memory that a process can use for its steps, beside the pool."""
    pool = machine.count * math.prod(machine.shape)
    if machine.device.type == "cuda":
        free = float(torch.cuda.mem_get_info(machine.device)[0])
        return 0.9 * free - (pool if pool <= RESIDENT_SHARE * free else 0)
    free = free_memory() / processes_here()
    return 0.9 * free - (pool if pool <= RESIDENT_SHARE * free else 0)


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all work; times mean nothing before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def describe(config: PretrainConfig) -> str:
    """The choices in a few words."""
    parts = [config.precision, config.memory_format.replace("_", " "), f"views on the {config.views_on}"]
    parts.append("whole batches" if config.micro_batch == "whole" else f"micro-batches of {config.micro_batch}")
    return ", ".join(parts + (["compiled"] if config.compile == "yes" else []))
