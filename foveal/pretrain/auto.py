"""What `auto` becomes: by rule where the hardware decides, by measuring only where a rule leaves it open.

Precision: bf16 where matrix units compute it (GPUs, AMX), fp32 where it is emulated. CPUs with bf16 only in their
vector units are measured, on random pixels: speed does not depend on what a picture shows. Measuring takes at most 20 s
or 2 % of the run. The choice, with its reason, is printed and saved in RUN/auto.json.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foveal.budget import seconds_of
from foveal.config import read_toml
from foveal.console import say
from foveal.distributed import apart, from_first_process
from foveal.errors import FovealError
from foveal.hardware import bf16_support, free_on, in_precision, wait_for
from foveal.nets.encoder import check_growth, create_encoder, feature_size
from foveal.nets.memory import PEAK, bytes_of_learning, kept_bytes
from foveal.nets.weights import fitting_name
from foveal.pretrain.built import build_method
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.step import gradients
from foveal.sets.loader import RESIDENT_SHARE
from foveal.sets.records import PreparedSet

MOST_SECONDS, SHARE_OF_RUN = 20.0, 0.02  # of measuring
GAIN = 1.15  # by which a measured choice must be faster than the rule: smaller differences are noise
TRIED_SECONDS = 1.0  # of a measured step: long enough to be typical, on as many images as fit into it
TIMED_STEPS = 2
VIEWS_AHEAD = 3  # batches of views that are ready or being made beside the one in use


@dataclass(frozen=True)
class Machine:
    """Where a run takes place: device, processes, and shape [S, S, C] and number of the pool's images."""

    device: torch.device
    world: int
    shape: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Choice:
    """What `auto` became, why, and the images per second of everything that was measured: the content of auto.json."""

    precision: str
    precision_because: str
    compile: str
    micro_batch: str
    micro_batch_because: str
    images_per_second: dict[str, float]

    def lines(self) -> list[tuple[str, str]]:
        """(option, value and reason) for people."""
        batches = "whole batches" if self.micro_batch == "whole" else f"micro-batches of {self.micro_batch} images"
        lines = [("precision", f"{self.precision}: {self.precision_because}")]
        lines += [("compile", "the encoder is compiled")] if self.compile == "yes" else []
        return [*lines, ("memory", f"{batches}: {self.micro_batch_because}")]


def settle(config: PretrainConfig, machine: Machine) -> tuple[PretrainConfig, Choice]:
    """The config without `auto`, and what was decided; all processes measure, and take the choice of the first one."""
    rates: dict[str, float] = {}
    compiled = "no" if config.compile == "auto" else config.compile  # compiling takes longer than it may be tried
    chosen = replace(config, precision="fp32" if config.precision == "auto" else config.precision, compile=compiled)
    with apart():
        precision, because = _precision(config, chosen, machine, rates)
        chosen = replace(chosen, precision=precision)  # type: ignore[arg-type]
        micro_batch, fits = _micro_batch(chosen, machine)
    choice = Choice(precision, because, compiled, micro_batch, fits, rates)
    return from_first_process((replace(chosen, micro_batch=micro_batch), choice))


def _precision(
    config: PretrainConfig, fp32: PretrainConfig, machine: Machine, rates: dict[str, float]
) -> tuple[str, str]:
    if config.precision != "auto":
        return config.precision, "as given"
    support = bf16_support(machine.device)
    if support == "matrix":
        return "bf16", "this device has matrix units for it"
    if support != "vector":
        return "fp32", "bf16 is not computed in hardware here"
    few = step_rate(fp32, machine, 2)
    run = config.epochs * machine.count / few  # two images at a time are slow: an upper bound
    run = run if config.budget is None else min(run, seconds_of(config.budget))
    until = time.monotonic() + min(MOST_SECONDS, SHARE_OF_RUN * run)
    sample = min(config.batch_size // machine.world, max(2, int(few * TRIED_SECONDS)))
    if (1 + TIMED_STEPS) * sample / few > until - time.monotonic():
        return "fp32", "the run is too short to measure whether bf16 is faster"
    say("measuring whether bf16 is faster than fp32 here")
    rates["fp32"] = step_rate(fp32, machine, sample)
    if 2 * sample / rates["fp32"] < until - time.monotonic():
        rates["bf16"] = step_rate(replace(fp32, precision="bf16"), machine, sample, to_beat=rates["fp32"])
        gain = rates["bf16"] / rates["fp32"]
        return "bf16" if gain >= GAIN else "fp32", f"bf16 is {gain:.2f} times as fast as fp32, measured"
    return "fp32", "there was no time to measure bf16"


def step_rate(config: PretrainConfig, machine: Machine, sample: int, to_beat: float = 0.0) -> float:
    """Images per second of forward and backward passes on random pixels; stops at half the speed of `to_beat`."""
    device = machine.device
    method = build_method(config, machine.shape[2]).to(device)
    views, identity = [_random_views(config, machine, sample)], torch.arange(sample, device=device)
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        gradients(method, method, views, identity, in_precision(config.precision, device), seed=0)
        wait_for(device)
        seconds.append(time.perf_counter() - began)
        if to_beat and sample / seconds[-1] < to_beat / 2:
            break
    return sample / min(seconds)


def _random_views(config: PretrainConfig, machine: Machine, images: int) -> tuple[Tensor, Tensor]:
    size = (images, machine.shape[2], config.image_size, config.image_size)
    first, second = (torch.randn(size, device=machine.device) for _ in range(2))
    return first.to(memory_format=torch.channels_last), second.to(memory_format=torch.channels_last)


def step_memory(config: PretrainConfig, machine: Machine) -> Callable[[int, int], float]:
    """(images, share) -> bytes of a step of a process that takes `share` images of the batch, `images` at a time.

    Counted on two images: for each at its peak, for its two views, for similarities, for gradients and means.
    """
    method = build_method(config, machine.shape[2]).to(machine.device)
    kept = kept_bytes(method, _random_views(config, machine, 2), in_precision(config.precision, machine.device))
    views = 8 * machine.shape[2] * config.image_size**2
    fixed = matrix_bytes(config, config.batch_size // machine.world) + bytes_of_learning(method)

    def needs(images: int, share: int) -> float:
        ahead = VIEWS_AHEAD * views * images if images == share else share * views / 4  # uint8 is a quarter
        return images * (PEAK * kept + views) + ahead + fixed

    return needs


def matrix_bytes(config: PretrainConfig, share: int) -> float:
    """Bytes of the similarities of a process's vectors with all others, their gradient and workspace; 0 in tiles."""
    whole = config.method == "simclr" and not config.simclr.chunk
    return 3 * 4 * (2 * share) * (2 * config.batch_size) if whole else 0.0


def free_bytes(machine: Machine) -> float:
    """Memory that a process can use for its steps, beside the pool."""
    free, pool = free_on(machine.device), machine.count * math.prod(machine.shape)
    return 0.9 * free - (pool if pool <= RESIDENT_SHARE * free else 0)


def _micro_batch(config: PretrainConfig, machine: Machine) -> tuple[str, str]:
    """The whole share of a process where it fits into memory, else the largest part of it that does; and why."""
    share = config.batch_size // machine.world
    if config.micro_batch != "auto":
        return config.micro_batch, "as given"
    needs, free = step_memory(config, machine), free_bytes(machine)
    why = f"a whole batch needs about {needs(share, share) / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
    if needs(share, share) <= free:
        return "whole", why
    fitting = [size for size in range(2, share) if needs(size, share) <= free]
    for size in reversed(fitting):
        if share % size == 0:
            return str(size), why
    if fitting:
        what = f"there is memory for {fitting[-1]} images at a time, and the {share} of a process cannot be cut equally"
        fix = f"choose a --batch-size with smaller divisors, such as {machine.world * (share - share % 2)}"
        raise FovealError("memory.exhausted", what, fix=fix)
    what = f"two images of a step need {needs(2, share) / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
    fix = "choose a smaller --image-size, --encoder or --batch-size"
    fix += ", or --simclr.chunk 4096 for a smaller loss" if config.method == "simclr" else ""
    raise FovealError("memory.exhausted", what, fix=fix)


def resolve(config: PretrainConfig, sets: list[PreparedSet], world: int = 1) -> PretrainConfig:
    """Replace every open value that need not be measured; values that a run in `--out` has measured are kept."""
    config = replace(_remember(config, world), encoder=fitting_name(config.encoder, config.init))
    channels, size = sets[0].channels, config.image_size or sets[0].size
    check_growth(config.grow_from, config.encoder, size)
    simclr, plain = config.simclr, "digits" if channels == 1 else ("cifar" if size <= 64 else "simclr")
    fitting = "fundus" if all(prepared.card["fundus"] for prepared in sets) else plain
    if config.method == "simclr" and not simclr.projection_hidden:
        simclr = replace(simclr, projection_hidden=feature_size(create_encoder(config.encoder, channels, size)))
    scale = config.batch_size / 256
    rates = {"adamw": 1e-3 * math.sqrt(scale), "sgd": 0.12 * scale, "lars": 0.6 * scale}
    decays = {"adamw": 0.01, "sgd": 5e-4, "lars": 1e-6}
    return replace(
        config, views=fitting if config.views == "auto" else config.views, image_size=size, simclr=simclr,
        learning_rate=rates[config.optimiser] if config.learning_rate is None else config.learning_rate,
        weight_decay=decays[config.optimiser] if config.weight_decay is None else config.weight_decay,
    )  # fmt: skip


def _remember(config: PretrainConfig, world: int) -> PretrainConfig:
    """The config with what was measured when the run in `--out` began; whether whole batches fit is measured again."""
    try:
        saved = read_toml(config.out / "config.toml", "pretrain")
    except FovealError:  # no run yet, or one of another verb, which `check_out` refuses
        return config
    measured = ("precision", "compile", "micro_batch")
    known = {name: saved[name] for name in measured if name in saved and getattr(config, name) == "auto"}
    micro = str(known.pop("micro_batch", ""))
    if micro.isdigit() and config.batch_size // world % int(micro) == 0:
        known["micro_batch"] = micro
    if config.budget is not None and saved.get("budget"):  # another budget is refused by its name alone
        known["epochs"] = saved["epochs"]
    return replace(config, **known)
