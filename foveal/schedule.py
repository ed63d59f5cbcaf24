"""Schedules of learning rate and image size, parameter groups and optimisers, shared by pre-training and grading."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

GROWING_STEP = 32  # intermediate sizes are multiples of 32, because networks halve the side five times


def thirds(epochs: int) -> tuple[int, int, int]:
    """Epochs in each third of a run. The last third is the longest, so a single epoch belongs to it."""
    last, later = math.ceil(epochs / 3), math.ceil(2 * epochs / 3)
    return epochs - later, later - last, last


def growing_sizes(grow_from: int, image_size: int) -> tuple[int, int, int]:
    """Image size in each third of a run, in pixels: it grows from `grow_from` (0: does not grow) to `image_size`."""
    if not grow_from:
        return image_size, image_size, image_size
    middle = round((grow_from + image_size) / 2 / GROWING_STEP) * GROWING_STEP
    return grow_from, min(max(middle, grow_from), image_size), image_size


def size_in_epoch(grow_from: int, image_size: int, epoch: int, epochs: int) -> int:
    """Image size in an epoch, counted from 0, in pixels."""
    first, second, _ = thirds(epochs)
    return growing_sizes(grow_from, image_size)[(epoch >= first) + (epoch >= first + second)]


def warm_up_cosine(step: int, total: int, warm_up: int, final: float = 0.0) -> float:
    """Share of the peak learning rate at `step` of `total`: linear to 1 over `warm_up` steps, then half a cosine.

    Ends at `final` (share of the peak, 0-1). Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, total - warm_up)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(module: nn.Module, weight_decay: float, scales: Mapping[str, float]) -> list[dict[str, Any]]:
    """Groups for the optimiser: matrices and kernels with weight decay; biases and normalisation without.

    scales: parameter name -> share of the learning rate, for those that learn more slowly than the rest.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            key = (weight_decay if parameter.ndim > 1 else 0.0, scales.get(name, 1.0))
            groups.setdefault(key, []).append(parameter)
    return [{"params": found, "weight_decay": decay, "scale": scale} for (decay, scale), found in groups.items()]


def build_optimiser(name: str, groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """`adamw`, `adam`, `sgd` (Nesterov momentum 0.9) or `lars` (You et al. 2017, as SimCLR uses it, through timm)."""
    if name == "lars":
        from timm.optim.lars import Lars

        return Lars(groups, lr=learning_rate, momentum=0.9)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True, fused=True)
    # Adam adds weight decay to the gradient, as older published recipes do.
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(groups, lr=learning_rate, fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all groups, scaled by the share of each."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group.get("scale", 1.0)
