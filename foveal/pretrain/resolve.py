"""What the `auto` values of `foveal pretrain` become by rule, and the methods by name."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, replace
from typing import Any

from foveal.augment.recipes import RECIPES
from foveal.config import field_names, read_toml
from foveal.nets.encoder import create_encoder, feature_size
from foveal.pretrain.barlow_twins import BarlowTwins, BarlowTwinsConfig
from foveal.pretrain.byol import BYOL, BYOLConfig
from foveal.pretrain.dino import DINO, DINOConfig
from foveal.pretrain.mocov3 import MoCoV3, MoCoV3Config
from foveal.pretrain.options import MEASURED, PretrainConfig
from foveal.pretrain.simclr import SimCLR, SimCLRConfig
from foveal.pretrain.simsiam import SimSiam, SimSiamConfig
from foveal.pretrain.supcon import SupCon, SupConConfig
from foveal.pretrain.vicreg import VICReg, VICRegConfig
from foveal.sets.records import PreparedSet

METHODS: dict[str, tuple[Any, Any]] = {
    "simclr": (SimCLR, SimCLRConfig),
    "supcon": (SupCon, SupConConfig),
    "byol": (BYOL, BYOLConfig),
    "simsiam": (SimSiam, SimSiamConfig),
    "mocov3": (MoCoV3, MoCoV3Config),
    "barlow_twins": (BarlowTwins, BarlowTwinsConfig),
    "vicreg": (VICReg, VICRegConfig),
    "dino": (DINO, DINOConfig),
}


def resolve(config: PretrainConfig, sets: list[PreparedSet], world: int = 1) -> PretrainConfig:
    """Replace every value that is left open and need not be measured; an earlier run in `--out` gives the others.

    Raises ValueError for an option that the method does not know.
    """
    config = _remember(config, world)
    channels, size = sets[0].channels, config.image_size or sets[0].size
    views = config.views
    if views == "auto":
        plain = "digits" if channels == 1 else ("cifar" if size <= 64 else "simclr")
        views = "fundus" if all(s.card["fundus"] for s in sets) else plain
    assert views in RECIPES
    scale = config.batch_size / 256
    rates = {"adamw": 1e-3 * math.sqrt(scale), "sgd": 0.12 * scale, "lars": 0.6 * scale}
    decays = {"adamw": 0.01, "sgd": 5e-4, "lars": 1e-6}
    return replace(
        config, views=views, image_size=size, **_method_options(config, channels, size),
        learning_rate=rates[config.optimiser] if config.learning_rate is None else config.learning_rate,
        weight_decay=decays[config.optimiser] if config.weight_decay is None else config.weight_decay,
    )  # fmt: skip


def _remember(config: PretrainConfig, world: int) -> PretrainConfig:
    """What was measured when the run in `--out` began stays so when it goes on.

    A micro-batch as well, where it divides the share of a process; whether whole shares fit is asked again.
    """
    file = config.out / "config.toml"
    if not file.is_file():
        return config
    try:
        saved = read_toml(file, "pretrain")
    except ValueError:  # another verb's run, which `check_out` refuses
        return config
    known: dict[str, Any] = {
        name: saved[name] for name in MEASURED[:-1] if name in saved and getattr(config, name) == "auto"
    }
    micro = str(saved.get("micro_batch"))
    if config.micro_batch == "auto" and micro.isdigit() and config.batch_size // world % int(micro) == 0:
        known["micro_batch"] = micro
    if config.budget is not None and saved.get("budget"):  # another one is refused, by its name alone
        known["epochs"] = saved["epochs"]
    return replace(config, **known)


def _method_options(config: PretrainConfig, channels: int, size: int) -> dict[str, Any]:
    """The options of the method with its defaults; ValueError for one that another method has and this one lacks."""
    own = {field.name: field.default for field in fields(METHODS[config.method][1])}
    others = {name for _, options in METHODS.values() for name in field_names(options)} - set(own)
    for name in sorted(others):
        if getattr(config, name) is not None and getattr(config, name) is not False:  # 0 is a value
            raise ValueError(f"--{name.replace('_', '-')} means nothing to {config.method}; leave it out")
    values = {
        name: default if getattr(config, name) is None else getattr(config, name) for name, default in own.items()
    }
    assert MISSING not in values.values()
    if values.get("projection_hidden") == 0:
        values["projection_hidden"] = feature_size(create_encoder(config.encoder, channels, size))
    METHODS[config.method][1](**values)  # what does not go together is told before long work starts
    return values
