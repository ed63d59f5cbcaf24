"""Encoders: any timm network by its name, or one of Foveal's three small networks; features [B, D].

A program can give a network of its own in place of a name (`foveal.given`).
A transformer NAME:avg averages its patches instead of taking the class token, as fine-tuned MAE and RETFound do, and
NAME:1e-12 has that epsilon in its layer norms, as those of Hugging Face have.
The first stages can be frozen or learn more slowly; stage 0 is the stem.
"""

import copy
import difflib
import math
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

import numpy as np
import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from foveal.console import say
from foveal.errors import FovealError
from foveal.given import PREFIX, Given

AVERAGE = ":avg"  # after the name of a transformer: it averages its patches, and has its last norm behind that
FINE = ":1e-12"  # after the name of a transformer: the epsilon of its layer norms; timm's is 1e-6
LEAST_IMAGE = 16
ANY_SIZE = 96  # from this side on, convolutional networks take every multiple of 32
SMALL_IMAGE = 48  # up to this side a ResNet gets a 3x3 stem without pooling (Chen et al. 2020, B.9)


class SmallConv(nn.Module):
    """conv 32 -> pool -> conv 64 -> pool -> linear 128, without batch statistics, for images of about 28-64 pixels."""

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
    """Strided conv 5x5 32 -> conv 64 -> conv 128 for images of about 28-64 pixels; features [B, 128 (s/8)^2]."""

    residual = False

    def __init__(self, channels: int, image_size: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(channels, 32, 5, 2), nn.ReLU(True))
        self.middle = nn.Sequential(*self._blocks(32), *_convolution(32, 64, 3, 2), nn.ReLU(True))
        self.top = nn.Sequential(*self._blocks(64), *_convolution(64, 128, 3, 2), nn.ReLU(True), *self._blocks(128))
        self.num_features = 128 * math.ceil(image_size / 8) ** 2

    def _blocks(self, channels: int) -> list[nn.Module]:
        return [_Residual(channels)] if self.residual else []

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, s, s] -> [B, num_features]."""
        return self.top(self.middle(self.stem(images))).flatten(1)


class ResidualConv(StridedConv):
    """strided_conv with a residual block (He et al. 2016, figure 5) at each side; a third as fast."""

    residual = True


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = _convolution(channels, channels, 3, 1), _convolution(channels, channels, 3, 1)
        self.inner = nn.Sequential(*first, nn.ReLU(True), *second)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.inner(maps))


def _convolution(inputs: int, outputs: int, side: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), nn.BatchNorm2d(outputs)


OWN = {"small_conv": SmallConv, "strided_conv": StridedConv, "residual_conv": ResidualConv}


def refuse_hub(name: str) -> None:
    """FovealError for a name of the Hugging Face Hub: nothing is fetched from there."""
    if name.startswith(("hf-hub:", "hf_hub:")):
        own = name.partition(":")[2]
        fix = f"download it (hf download {own} --local-dir FOLDER), give FOLDER to --init, and a timm name to --encoder"
        raise FovealError("weights.unsupported", f"{name} is a name of a hub, whose files are not fetched", fix=fix)


def create_encoder(name: str, channels: int, image_size: int) -> nn.Module:
    """A randomly initialised encoder with `num_features`, which maps [B, C, s, s] to [B, D]; name: as `--encoder`."""
    if name.startswith(PREFIX):
        return _copy_of_given(name, channels, image_size)
    if image_size < LEAST_IMAGE:
        expected = f"{LEAST_IMAGE} or more, because networks halve the side up to five times"
        raise FovealError("option.value", f"--image-size {image_size} is too small", expected=expected)
    refuse_hub(name)
    if name in OWN:
        return OWN[name](channels, image_size).to(memory_format=torch.channels_last)
    if not timm.is_model(timm_name(name)):
        near = difflib.get_close_matches(name, [*OWN, *timm.list_models()], 5) or list(OWN)
        expected = f"a name such as {', '.join(near)}"
        raise FovealError("option.value", f"--encoder {name} is not a network of timm", expected=expected)
    try:
        encoder = _created(name, channels, image_size)
    except FovealError:
        raise
    except Exception as error:  # networks raise many different kinds of error
        what = f"timm has no --encoder {name} for images of {image_size} px ({type(error).__name__}: {error})"
        sizes = " or ".join(str(size) for size in _sizes_near(name, image_size))
        raise FovealError("option.value", what, expected=f"--image-size {sizes}" if sizes else "") from error
    ends = (AVERAGE, FINE, AVERAGE + FINE) if hasattr(encoder, "fc_norm") else ()  # transformers have it
    if name not in (known := [timm_name(name) + end for end in ("", *ends)]):
        raise FovealError("option.value", f"--encoder {name}", expected=" or ".join(known))
    if isinstance(encoder, cast("type[Any]", timm.models.ResNet)) and image_size <= SMALL_IMAGE:  # keep the resolution
        encoder.conv1 = nn.Conv2d(channels, encoder.bn1.num_features, 3, padding=1, bias=False)
        encoder.maxpool = nn.Identity()
    return encoder.to(memory_format=torch.channels_last)


def _copy_of_given(name: str, channels: int, image_size: int) -> nn.Module:
    """A copy of the network of a program, which has seen two blank images; FovealError if it gives no features."""
    if not isinstance(name, Given):
        fix = "give it again from Python: foveal.load, embed, export and train take encoder=…"
        raise FovealError("encoder.object", f"the encoder {name} is an object of a Python program", fix=fix)
    if not isinstance(name.given, nn.Module):
        raise FovealError("encoder.object", f"{name} is not an encoder", expected="a name or a torch.nn.Module")
    encoder: Any = copy.deepcopy(name.given).cpu().eval()
    blank = torch.zeros(2, channels, image_size, image_size)
    try:
        with torch.no_grad():
            features = encoder(blank)
    except Exception as error:  # networks raise many different kinds of error
        what = f"{name} does not take images {list(blank.shape)} ({type(error).__name__}: {error})"
        raise FovealError("encoder.object", what) from error
    shape = list(getattr(features, "shape", ()))
    width = getattr(encoder, "num_features", shape[-1] if len(shape) == 2 else "D")
    if shape != [2, width]:
        what, fix = f"{name} gives {shape} for two images", "leave out its classifier, in timm with num_classes=0"
        if not isinstance(features, Tensor):
            what = f"{name} gives a {type(features).__name__} for two images"
            fix = "return the tensor of features alone"
        elif len(shape) > 2:
            fix = "pool them, such as with nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten())"
        raise FovealError("encoder.object", what, expected=f"features [2, {width}]", fix=fix)
    encoder.num_features = width
    return encoder.train().to(memory_format=torch.channels_last)


def reopened(model: Mapping[str, Any], given: str) -> nn.Module:
    """A network like that of model.json, without its weights: a copy of `given` if it was an object of a program."""
    name = given if isinstance(given, Given) and model["encoder"].startswith(PREFIX) else model["encoder"]
    if name != model["encoder"]:
        say(f"trained with {model['encoder']}, opened with {name}")
    encoder = create_encoder(name, model["channels"], model["image_size"])
    if feature_size(encoder) != model["features"]:
        what = f"{name} gives {feature_size(encoder)} features, but the run has {model['features']}"
        raise FovealError("weights.mismatch", what, fix="give the network that the run was made with")
    return encoder


def _created(name: str, channels: int, image_size: int) -> Any:
    """A network of timm, tested on a blank image if it may not take every size; timm's error if it does not."""
    encoder = timm.create_model(**timm_options(name, channels, image_size))
    card, odd = timm_card(name), not takes_any_size(name) or image_size % 32 or image_size < ANY_SIZE
    if odd or card.min_input_size or not card.num_classes:
        with torch.no_grad():
            shape = list(getattr(encoder.eval()(torch.zeros(1, channels, image_size, image_size)), "shape", []))
        if len(shape) != 2:
            what = f"--encoder {name} gives {shape or 'no tensor'} for an image"
            raise FovealError("option.value", what, expected="a network that gives features [1, D]")
    return encoder.train()


def timm_options(name: str, channels: int, image_size: int) -> dict[str, Any]:
    """What `timm.create_model` needs for this encoder."""
    size = {} if takes_any_size(name) else {"img_size": image_size}
    pool = {"global_pool": "avg"} if AVERAGE in name else {}
    grey = {} if channels == 3 else {"in_chans": channels}
    norm = {"norm_layer": _Norm(nn.LayerNorm, eps=1e-12)} if name.endswith(FINE) else {}
    return {"model_name": timm_name(name), "num_classes": 0, **grey, **size, **pool, **norm}


class _Norm(partial[nn.LayerNorm]):
    def __repr__(self) -> str:  # for the README of an export
        return f"functools.partial(torch.nn.LayerNorm, eps={self.keywords['eps']})"


def timm_name(name: str) -> str:
    """The name without :avg and the like, which are no names of timm."""
    return name if name.startswith(PREFIX) else name.partition(":")[0]


def _sizes_near(name: str, image_size: int) -> list[int]:
    """Sizes that a network takes: of timm's own and the multiples of 32 beside `image_size`, those that work."""
    working, lower = [], image_size // 32 * 32
    with suppress(RuntimeError):  # there are no such weights of this network
        for size in sorted({lower, lower + 32, timm_card(name).input_size[1]} - {0, image_size}):
            with suppress(Exception):
                _created(name, 3, size)
                working.append(size)
    return working


def timm_card(name: str) -> Any:
    """timm's configuration of a network (mean, std, classifier, fixed_input_size); None for other networks."""
    return None if name in OWN or name.startswith(PREFIX) else timm.models.get_pretrained_cfg(timm_name(name))


def takes_any_size(name: str) -> bool:
    """Whether a network can take images of different sizes, unlike Foveal's own and most transformers."""
    return name not in OWN and not getattr(timm_card(name), "fixed_input_size", False)


def normalisation_of(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (0-1) that the encoder expects: timm's for RGB, otherwise 0.5 and 0.5."""
    known = timm_card(name)
    card = vars(known) if known else card_of_object(name) if isinstance(name, Given) else {}
    if not card or channels != 3:
        return (0.5,) * channels, (0.5,) * channels
    return stated_normalisation(card["mean"], card["std"], name)


def stated_normalisation(mean: Any, std: Any, source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Three means and standard deviations; one number stands for all three. FovealError if they are not for 0 to 1."""
    try:
        means, deviations = (tuple(map(float, np.broadcast_to(each, 3))) for each in (mean, std))
        possible = all(0 <= each <= 1 for each in means) and all(0 < each <= 1 for each in deviations)
    except (TypeError, ValueError):
        possible = False
    if not possible:
        what = f"{source} states a normalisation with mean {mean} and standard deviation {std}"
        expected = "three means from 0 to 1 and three standard deviations above 0 up to 1, for pixels from 0 to 1"
        raise FovealError("weights.normalisation", what, expected=expected, fix="correct them")
    return means, deviations


def card_of_object(name: Given) -> dict[str, Any]:
    """The `pretrained_cfg` of a program's network, or of the first module in it that has one; {} if none has."""
    modules = name.given.modules() if isinstance(name.given, nn.Module) else ()
    cards = (getattr(module, "pretrained_cfg", None) or {} for module in modules)
    return next((card for card in cards if {"mean", "std"} <= {*card}), {})


def feature_size(encoder: Any) -> int:
    """D, the number of features per image."""
    return int(getattr(encoder, "head_hidden_size", None) or encoder.num_features)


def stage_of_parameters(encoder: Any) -> dict[str, int]:
    """Parameter name -> number of its stage, 0 for the stem; one of Foveal's own networks has a stage per layer."""
    if type(encoder) in OWN.values():
        return {name: list(encoder._modules).index(name.partition(".")[0]) for name, _ in encoder.named_parameters()}
    try:
        return group_parameters(encoder, encoder.group_matcher(coarse=True), reverse=True)
    except (AttributeError, AssertionError) as error:
        what = f"--freeze-stages and --layer-decay need stages, but timm defines none for {type(encoder).__name__}"
        raise FovealError("option.conflict", what, fix="leave them out, or choose another --encoder") from error


def freeze_stages(encoder: nn.Module, count: int) -> list[nn.Module]:
    """Freeze the first `count` stages, but not all; returns their normalisation layers, for evaluation mode."""
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
    buffered = [(name, module) for name, module in encoder.named_modules() if [*module.buffers(recurse=False)]]
    return [module for name, module in buffered if frozen & {f"{name}.{own}" for own in module._parameters}]


def learning_rate_scales(encoder: nn.Module, decay: float) -> dict[str, float]:
    """`encoder.PARAMETER` -> share of the learning rate: `decay` to the power of the stages above it; {} for 1."""
    stages = stage_of_parameters(encoder) if decay < 1 else {}
    return {f"encoder.{name}": decay ** (max(stages.values()) - stage) for name, stage in stages.items()}
