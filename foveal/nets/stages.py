"""Stages of an encoder, from input to output: freeze the first ones, or train them with a lower learning rate.

timm defines the stages of its networks; stage 0 is the stem. Foveal's own networks have one stage per layer.
"""

from __future__ import annotations

from typing import Any

from timm.models import group_parameters
from torch import nn

from foveal.errors import FovealError
from foveal.nets.encoder import OWN


def stage_of_parameters(encoder: nn.Module) -> dict[str, int]:
    """Parameter name -> number of its stage, 0 for the stem."""
    if isinstance(encoder, tuple(OWN.values())):
        layers = list(encoder._modules)
        return {name: layers.index(name.partition(".")[0]) for name, _ in encoder.named_parameters()}
    grouped: Any = encoder
    try:
        stages: dict[str, int] = group_parameters(encoder, grouped.group_matcher(coarse=True), reverse=True)
    except (AttributeError, AssertionError) as error:
        what = f"--freeze-stages and --layer-decay need stages, but timm defines none for {type(encoder).__name__}"
        raise FovealError("option.conflict", what, fix="leave them out, or choose another --encoder") from error
    return stages


def freeze_stages(encoder: nn.Module, count: int) -> list[nn.Module]:
    """Freeze the first `count` stages; returns their normalisation layers, to be kept in evaluation mode.

    FovealError if that would freeze the whole encoder.
    """
    if not count:
        return []
    stages = stage_of_parameters(encoder)
    total = max(stages.values()) + 1
    if not 0 <= count < total:
        what = f"--freeze-stages {count}, but this encoder has {total} stages, including the stem"
        raise FovealError("option.value", what, expected=f"0 to {total - 1}")
    frozen = {name for name, stage in stages.items() if stage < count}
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name not in frozen and parameter.requires_grad)
    return [
        module
        for name, module in encoder.named_modules()
        if any(True for _ in module.buffers(recurse=False))
        and any(f"{name}.{own}" in frozen for own, _ in module.named_parameters(recurse=False))
    ]


def learning_rate_scales(encoder: nn.Module, decay: float, prefix: str = "") -> dict[str, float]:
    """Parameter name (after `prefix`) -> share of the learning rate: `decay` to the power of the stages above it.

    Layer-wise decay as in Clark et al. 2020 (ELECTRA); the last stage learns at the full rate.
    """
    stages = stage_of_parameters(encoder)
    last = max(stages.values())
    return {prefix + name: decay ** (last - stage) for name, stage in stages.items()}
