"""Encoder: the weights alone, in the names of timm and, where it has the same network, of torchvision.

    encoder.safetensors     timm.create_model(NAME, num_classes=0, checkpoint_path=...)
    torchvision.safetensors the same weights for torchvision.models.get_model(NAME), without its classifier

A file is written only when the library's own network, filled with it, gives the features of ours.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveal import checkpoint
from foveal.nets.encoder import OWN, takes_any_size

TOLERANCE = 1e-6  # relative, of features in float64: in float32 a deep network blows up the order of its sums


def write_timm(encoder: nn.Module, name: str, images: Tensor, file: Path) -> str:
    """Write encoder.safetensors; returns how timm loads it, or why only Foveal can. images: float [n, C, s, s]."""
    import timm

    checkpoint.save_weights(encoder, file)
    if name in OWN:
        return f"{name} is Foveal's own network: --init {file.name} loads it there"
    extra: dict[str, Any] = {"in_chans": images.shape[1]} if images.shape[1] != 3 else {}
    if not takes_any_size(name):
        extra["img_size"] = images.shape[3]
    call = ", ".join(f"{key}={value}" for key, value in {"num_classes": 0, **extra}.items())
    try:
        theirs = timm.create_model(name, num_classes=0, checkpoint_path=str(file), **extra)
    except (RuntimeError, ValueError) as error:
        return f"timm.create_model cannot load it ({str(error).splitlines()[0]}): its first layer suits small images"
    _require_equal(encoder, theirs.eval(), images, f"timm's {name}")
    return f'timm.create_model("{name}", {call}, checkpoint_path="{file.name}")'


def write_torchvision(encoder: nn.Module, name: str, images: Tensor, file: Path) -> str:
    """Write torchvision.safetensors where torchvision has this very network; returns how to load it, or why not."""
    from torchvision.models import get_model, list_models

    if name not in list_models():
        return f"torchvision has no {name}"
    theirs: Any = get_model(name, weights=None)
    last = "fc" if hasattr(theirs, "fc") else "classifier"
    setattr(theirs, last, nn.Identity())
    ours, names = encoder.state_dict(), list(theirs.state_dict())
    shapes = [tuple(value.shape) for value in theirs.state_dict().values()]
    if shapes != [tuple(value.shape) for value in ours.values()]:
        return f"torchvision's {name} has other layers than timm's"
    # Both libraries list layers in the order of the forward pass; whether that is so, the features tell.
    state = dict(zip(names, ours.values(), strict=True))
    theirs.load_state_dict(state)
    try:
        _require_equal(encoder, theirs.eval(), images, f"torchvision's {name}")
    except ValueError:
        return f"torchvision's {name} computes otherwise than timm's"
    checkpoint.save_state(state, file)
    return (
        f'model = torchvision.models.get_model("{name}"); model.{last} = torch.nn.Identity(); model.load_state_dict('
        f'safetensors.torch.load_file("{file.name}"))'
    )


def _require_equal(encoder: nn.Module, other: nn.Module, images: Tensor, what: str) -> None:
    with torch.no_grad():
        ours, theirs = deepcopy(encoder).double()(images.double()), deepcopy(other).double()(images.double())
    if ours.shape != theirs.shape or float((ours - theirs).abs().max()) > TOLERANCE * float(ours.abs().max() + 1e-6):
        raise ValueError(f"{what} gives other features with these weights; nothing was exported under its name")
