"""Resolve `auto`: bf16 if the hardware supports it, and batches that fit into memory; RUN/auto.json has the reasons."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from foveal.config import read_toml
from foveal.distributed import from_first_process
from foveal.errors import FovealError
from foveal.hardware import bf16_support, free_on, in_precision
from foveal.losses.ntxent import TILE
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.memory import PEAK, bytes_of_learning, kept_bytes
from foveal.nets.weights import fitting_name
from foveal.pretrain.feed import Feed
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.step import build_method
from foveal.sets.records import PreparedSet

VIEWS_AHEAD = 3  # batches of views that are ready or being made beside the one in use


def settle(feed: Feed) -> tuple[Feed, dict[str, str]]:
    """The feed without `auto`, and each decision with its reason; all processes use those of the first one."""
    config, why = feed.config, {}
    if config.precision == "auto":
        able = bf16_support(feed.device) != "none"
        config = replace(config, precision="bf16" if able else "fp32")
        why["precision"] = f"{config.precision}: this hardware {'supports' if able else 'does not support'} bf16"
    if config.micro_batch == "auto":
        micro_batch, reason = _micro_batch(replace(feed, config=config))
        config = replace(config, micro_batch=micro_batch)
        why["memory"] = f"{'whole batches' if micro_batch == 'whole' else f'{micro_batch} images at a time'}: {reason}"
    config, why = from_first_process((config, why))
    return replace(feed, config=config), why


def step_memory(feed: Feed) -> Callable[[int, int], float]:
    """(images, share) -> bytes of a step in which a process takes `share` images of the batch, `images` at a time.

    Counted on two images: for each at its peak, for its two views, for similarities, for gradients and means.
    """
    config, channels, device = feed.config, feed.store.image_shape[2], feed.device
    method = build_method(config, channels).to(device)
    pair = torch.randn(2, 2, channels, config.image_size, config.image_size, device=device)
    inputs = tuple(view.to(memory_format=torch.channels_last) for view in pair)
    kept = kept_bytes(method, inputs, in_precision(config.precision, device))
    views = 8 * channels * config.image_size**2
    fixed = matrix_bytes(config, config.batch_size // feed.world) + bytes_of_learning(method)

    def needs(images: int, share: int) -> float:
        ahead = VIEWS_AHEAD * views * images if images == share else share * views / 4  # uint8 is a quarter
        return images * (PEAK * kept + views) + ahead + fixed

    return needs


def matrix_bytes(config: PretrainConfig, share: int) -> float:
    """Bytes of the similarities of a process's vectors with all others, their gradient and workspace; in tiles."""
    contrastive = config.method in ("simclr", "supcon")
    return 3 * 4 * min(2 * share, TILE) * min(2 * config.batch_size, TILE) if contrastive else 0.0


def _micro_batch(feed: Feed) -> tuple[str, str]:
    """The whole share of a process if it fits into memory, else the largest part of it that does; and why."""
    share = feed.config.batch_size // feed.world
    needs, free = step_memory(feed), 0.9 * free_on(feed.device)
    why = f"a whole batch needs about {needs(share, share) / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
    fitting = [size for size in range(share, min(1, share - 1), -1) if needs(size, share) <= free]
    for size in fitting:
        if share % size == 0:
            return "whole" if size == share else str(size), why
    if fitting:
        what = f"only {fitting[0]} images fit into memory, and the {share} of a process cannot be divided equally"
        fix = f"choose a --batch-size with small divisors, such as {feed.world * (share - share % 2)}"
        raise FovealError("memory.exhausted", what, fix=fix)
    what = f"a step of two images needs {needs(2, share) / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
    raise FovealError("memory.exhausted", what, fix="choose a smaller --image-size, --encoder or --batch-size")


def resolve(config: PretrainConfig, sets: list[PreparedSet], world: int = 1) -> PretrainConfig:
    """Replace every open value that does not depend on the machine; those that do are kept by a run in `--out`."""
    config = replace(_remember(config, world), encoder=fitting_name(config.encoder, config.init))
    channels, size = sets[0].channels, config.image_size or sets[0].size
    simclr, views = config.simclr, config.views
    if views == "auto":
        plain = "digits" if channels == 1 else ("cifar" if size <= 64 else "simclr")
        views = "fundus" if all(prepared.card["fundus"] for prepared in sets) else plain
    if config.method == "simclr" and not simclr.projection_hidden:
        simclr = replace(simclr, projection_hidden=feature_size(create_encoder(config.encoder, channels, size)))
    scale = config.batch_size / 256
    rates = {"adamw": 1e-3 * math.sqrt(scale), "sgd": 0.12 * scale, "lars": 0.6 * scale}
    decays = {"adamw": 0.01, "sgd": 5e-4, "lars": 1e-6}
    rate = rates[config.optimiser] if config.learning_rate is None else config.learning_rate
    decay = decays[config.optimiser] if config.weight_decay is None else config.weight_decay
    return replace(config, views=views, image_size=size, simclr=simclr, learning_rate=rate, weight_decay=decay)


def _remember(config: PretrainConfig, world: int) -> PretrainConfig:
    """The config with what was chosen when the run in `--out` began; whether whole batches fit is decided again."""
    try:
        saved = read_toml(config.out / "config.toml", "pretrain")
    except FovealError:  # no run yet, or one of another verb, which `check_out` refuses
        return config
    chosen = ("precision", "micro_batch")
    known = {name: saved[name] for name in chosen if name in saved and getattr(config, name) == "auto"}
    micro = str(known.pop("micro_batch", ""))
    if micro.isdigit() and config.batch_size // world % int(micro) == 0:
        known["micro_batch"] = micro
    if config.budget is not None and saved.get("budget"):  # another budget is refused by its name alone
        known["epochs"] = saved["epochs"]
    return replace(config, **known)
