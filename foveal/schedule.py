"""Learning-rate schedule, parameter groups and optimisers, shared by pre-training and grading."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


def warm_up_cosine(step: int, total: int, warm_up: int, final: float = 0.0) -> float:
    """Share of the peak learning rate at `step` of `total`: linear to 1 over `warm_up` steps, then half a cosine.

    Ends at `final` (share of the peak, 0-1). Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, total - warm_up)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices and kernels with weight decay; biases and normalisation parameters without."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimiser(name: str, groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """`adamw`, `sgd` (Nesterov momentum 0.9) or `lars` (You et al. 2017, as SimCLR uses it, through timm)."""
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
    if name == "lars":
        from timm.optim.lars import Lars

        return Lars(groups, lr=learning_rate, momentum=0.9)
    raise ValueError(f"there is no optimiser '{name}'; choose adamw, sgd or lars")


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
