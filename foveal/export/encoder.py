"""Encoder: only its weights, with the parameter names of timm and, if it has the same network, of torchvision.

    encoder.safetensors     timm.create_model(NAME, num_classes=0, checkpoint_path=...)
    torchvision.safetensors the same weights for torchvision.models.get_model(NAME), without its classifier

A file is written only if that library's network computes the same features with these weights.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foveal import checkpoint
from foveal.console import say
from foveal.errors import FovealError
from foveal.fundus.preparation import at_size
from foveal.nets.encoder import OWN, timm_options
from foveal.predict.predictor import Predictor
from foveal.runs import read_model

TOLERANCE = 1e-6  # relative, of features in float64: in float32, rounding differences grow too large in deep networks
FEW = 8  # images on which features are compared


def write_encoder(predictor: Predictor, images: np.ndarray, folder: Path) -> dict[str, str]:
    """Write the files of the only grader; returns {file: how to load it}. images: prepared uint8 [n, S, S, C]."""
    encoder, name = predictor.grader.encoder, read_model(predictor.runs[0])["encoder"]
    seen = torch.from_numpy(at_size(images[:FEW], predictor.input.image_size)).permute(0, 3, 1, 2).float() / 127.5 - 1
    file, other = folder / "encoder.safetensors", folder / "torchvision.safetensors"
    loads = {file.name: _write_timm(encoder, name, seen, file)}
    loads[other.name] = _write_torchvision(encoder, name, seen, other)
    if not other.exists():
        say(f"no {other.name}: {loads.pop(other.name)}")
    return loads


def _write_timm(encoder: nn.Module, name: str, images: Tensor, file: Path) -> str:
    """Write encoder.safetensors; returns how to load it with timm, or why only Foveal can. images: [n, C, s, s]."""
    import timm

    checkpoint.save_weights(encoder, file)
    if name in OWN:
        return f"{name} is Foveal's own network; load it with --init {file.name}"
    options = timm_options(name, images.shape[1], images.shape[3])
    try:
        theirs = timm.create_model(checkpoint_path=str(file), **options)
    except (RuntimeError, ValueError) as error:
        return f"timm.create_model cannot load it, as its first layer is for small images: {str(error).splitlines()[0]}"
    if not _equal(encoder, theirs.eval(), images):
        what = f"timm's {name} computes different features with these weights, so nothing was exported"
        raise FovealError("export.inexact", what, fix="leave encoder out of --formats")
    call = ", ".join(f"{key}={value!r}" for key, value in options.items() if key != "model_name")
    return f'timm.create_model("{options["model_name"]}", {call}, checkpoint_path="{file.name}")'


def _write_torchvision(encoder: nn.Module, name: str, images: Tensor, file: Path) -> str:
    """Write torchvision.safetensors if torchvision has the same network; returns how to load it, or why not."""
    from torchvision.models import get_model, list_models

    if name not in list_models():
        return f"torchvision has no {name}"
    theirs: Any = get_model(name, weights=None)
    last = "fc" if hasattr(theirs, "fc") else "classifier"
    setattr(theirs, last, nn.Identity())
    ours, state = encoder.state_dict(), theirs.state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in ours.values()]:
        return f"torchvision's {name} has different layers from timm's"
    state = dict(zip(state, ours.values(), strict=True))  # both list layers in the order of the forward pass
    theirs.load_state_dict(state)
    if not _equal(encoder, theirs.eval(), images):
        return f"torchvision's {name} computes different features from timm's"
    checkpoint.save_state(state, file)
    return (f'model = torchvision.models.get_model("{name}"); model.{last} = torch.nn.Identity(); '
            f'model.load_state_dict(safetensors.torch.load_file("{file.name}"))')  # fmt: skip


def _equal(encoder: nn.Module, other: nn.Module, images: Tensor) -> bool:
    with torch.no_grad():
        ours, theirs = (deepcopy(network).double()(images.double()) for network in (encoder, other))
    return ours.shape == theirs.shape and torch.allclose(theirs, ours, rtol=0, atol=TOLERANCE * float(ours.abs().max()))
