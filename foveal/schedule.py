"""Learning-rate schedule, parameter groups and optimisers, shared by pre-training and grading."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from foveal.errors import FovealError


def warm_up_cosine(step: int, total: int, warm_up: int, final: float = 0.0) -> float:
    """Share of the peak learning rate at `step` of `total`: linear to 1 over `warm_up` steps, then half a cosine.

    Ends at `final` (share of the peak, 0-1). Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, total - warm_up)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(
    module: nn.Module, weight_decay: float, scales: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups for the optimiser: matrices and kernels with weight decay; biases and normalisation without.

    scales: parameter name -> share of the learning rate, for those that learn more slowly than the rest.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            key = (weight_decay if parameter.ndim > 1 else 0.0, 1.0 if scales is None else scales.get(name, 1.0))
            groups.setdefault(key, []).append(parameter)
    return [{"params": found, "weight_decay": decay, "scale": scale} for (decay, scale), found in groups.items()]


def build_optimiser(name: str, groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """`adamw`, `adam`, `sgd` (Nesterov momentum 0.9) or `lars` (You et al. 2017, as SimCLR uses it, through timm)."""
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    if name == "adam":  # weight decay is added to the gradient, as in older published recipes
        return torch.optim.Adam(groups, lr=learning_rate, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True, fused=True)
    if name == "lars":
        from timm.optim.lars import Lars

        return Lars(groups, lr=learning_rate, momentum=0.9)
    raise FovealError("option.value", f"--optimiser {name} is unknown", expected="adamw, adam, sgd or lars")


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all groups, scaled by the share of each."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group.get("scale", 1.0)
