"""What the `auto` values of `foveal pretrain` become by rule, and the methods by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from foveal.augment.recipes import RECIPES
from foveal.config import read_toml
from foveal.errors import FovealError
from foveal.nets.encoder import create_encoder, feature_size
from foveal.pretrain.barlow_twins import BarlowTwins
from foveal.pretrain.byol import BYOL
from foveal.pretrain.dino import DINO
from foveal.pretrain.mocov3 import MoCoV3
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.simclr import SimCLR
from foveal.pretrain.simsiam import SimSiam
from foveal.pretrain.supcon import SupCon
from foveal.pretrain.vicreg import VICReg
from foveal.sets.records import PreparedSet

METHODS: dict[str, Any] = {
    "simclr": SimCLR, "supcon": SupCon, "byol": BYOL, "simsiam": SimSiam, "mocov3": MoCoV3,
    "barlow_twins": BarlowTwins, "vicreg": VICReg, "dino": DINO,
}  # fmt: skip


def resolve(config: PretrainConfig, sets: list[PreparedSet], world: int = 1) -> PretrainConfig:
    """Replace every open value that need not be measured; values that a run in `--out` has measured are kept."""
    config = _remember(config, world)
    channels, size = sets[0].channels, config.image_size or sets[0].size
    views = config.views
    if views == "auto":
        plain = "digits" if channels == 1 else ("cifar" if size <= 64 else "simclr")
        views = "fundus" if all(s.card["fundus"] for s in sets) else plain
    assert views in RECIPES
    simclr = config.simclr
    if config.method == "simclr" and not simclr.projection_hidden:
        simclr = replace(simclr, projection_hidden=feature_size(create_encoder(config.encoder, channels, size)))
    scale = config.batch_size / 256
    rates = {"adamw": 1e-3 * math.sqrt(scale), "sgd": 0.12 * scale, "lars": 0.6 * scale}
    decays = {"adamw": 0.01, "sgd": 5e-4, "lars": 1e-6}
    return replace(
        config, views=views, image_size=size, simclr=simclr,
        learning_rate=rates[config.optimiser] if config.learning_rate is None else config.learning_rate,
        weight_decay=decays[config.optimiser] if config.weight_decay is None else config.weight_decay,
    )  # fmt: skip


def _remember(config: PretrainConfig, world: int) -> PretrainConfig:
    """The config with what was measured when the run in `--out` began.

    A micro-batch only where it divides the share of a process; whether whole shares fit is measured again.
    """
    file = config.out / "config.toml"
    if not file.is_file():
        return config
    try:
        saved = read_toml(file, "pretrain")
    except FovealError:  # a run of another verb, which `check_out` refuses
        return config
    known: dict[str, Any] = {
        name: saved[name] for name in ("precision", "compile") if name in saved and getattr(config, name) == "auto"
    }
    micro = str(saved.get("micro_batch"))
    if config.micro_batch == "auto" and micro.isdigit() and config.batch_size // world % int(micro) == 0:
        known["micro_batch"] = micro
    if config.budget is not None and saved.get("budget"):  # another budget is refused by its name alone
        known["epochs"] = saved["epochs"]
    return replace(config, **known)
