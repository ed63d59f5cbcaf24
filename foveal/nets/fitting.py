"""Fit weights from a file to the keys and sizes of an encoder; find encoders (listed in fitting.toml) that they fit."""

import contextlib
import io
import math
import re
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, takewhile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
from torch import Tensor, nn

from foveal.checkpoint import other_shapes
from foveal.errors import FovealError
from foveal.given import PREFIX
from foveal.nets.encoder import AVERAGE, create_encoder, timm_card, timm_name
from foveal.nets.layouts import COUNTER, HEADS, Found, State, counted, current_name

MOST_SECONDS = 10  # to look for a network among all of timm's
CLASSIFIER = re.compile(r"(fc|_fc|classifier|head\.classifier)\.")
SMALL = 32  # px: an image size at which a ResNet gets a 3x3 stem
STEM = re.compile(r"(patch_embed\.proj|conv1(\.0)?|_?conv_stem|stem\.(0|conv)|\w+\.0\.0)\.weight")
_KNOWN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def adapted(found: Found, encoder: nn.Module, name: str) -> tuple[State, dict[str, int], list[str]]:
    """The weights under the encoder's keys, heads that were dropped (first part -> keys), and what was resized.

    What does not match stays, for a strict comparison. FovealError if another network with these shapes is meant.
    """
    layout, own = found.layout, encoder.state_dict()
    if found.named and current_name(timm_name(name)) != found.named and not name.startswith(PREFIX):
        what = f"the file says that its network is {found.named}, but --encoder is {name}"
        raise FovealError("weights.mismatch", what, fix=f"use --encoder {found.named}")
    if layout.encoders and not re.fullmatch(layout.encoders, name.split(".", maxsplit=1)[0]):
        what = f"--encoder {name} differs from the network of {layout.name}, although the shapes match"
        usual = [model for model in timm.list_models() if re.fullmatch(layout.encoders, model)]
        raise FovealError("weights.mismatch", what, expected=f"an --encoder such as {', '.join(usual[:4])}")
    classifier = [key for key in found.state if layout.ordered and CLASSIFIER.match(key) and key not in own]
    state = {key: value for key, value in found.state.items() if key not in classifier}
    state = layout.convert(state, list(own))
    listed = "|".join(map(re.escape, np.atleast_1d(getattr(timm_card(name), "classifier", None) or "fc")))
    heads = re.compile(rf"({HEADS}|{listed})(\..*)?")
    heads_here = [key for key in state if key not in own and key != "mask_token" and heads.fullmatch(key)]
    state = {key: value for key, value in state.items() if key not in heads_here}
    before = state
    if not fits(own, state):
        _refuse_lost_biases(state, own)
        state = _by_timm(state, encoder)
    kept = {value.data_ptr() for value in state.values()}
    lost = [key for key, value in before.items() if key not in state and value.data_ptr() not in kept]
    heads_here += [key for key in state if key not in own and heads.fullmatch(key)]
    state = {key: value for key, value in state.items() if key in own or key not in heads_here}
    for key, value in own.items():
        if key.endswith(COUNTER) and key not in state:  # files before 2019 have none
            state[key] = torch.zeros_like(value)
    if layout.tensorflow:
        _to_epsilon(state, encoder, 1e-3 if re.search(layout.tensorflow, name) else 1e-5)
    resized = []
    for key, shape in ((key, tuple(value.shape)) for key, value in before.items()):
        now = tuple(state[key].shape) if key in state else shape
        same_grid = key == "pos_embed" and _grid(shape[1]) == _grid(now[1])
        if now != shape and not same_grid and tuple(own[key].shape if key in own else now) == now:
            resized.append(f"{key} {shape} -> {now}")
    dropped = found.dropped | counted([*classifier, *heads_here]) | Counter(re.sub(r"\d+", "*", key) for key in lost)
    return state, dropped, resized


def fits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Whether all keys and shapes match."""
    return own.keys() == state.keys() and all(own[key].shape == value.shape for key, value in state.items())


def with_own_stem(state: State, own: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """The weights with the first convolution of `own` in place of theirs; and its keys, with their shapes."""
    first = next(key for key, value in own.items() if value.dim() == 4)
    part = first.rpartition(".")[0] + "."
    mine, theirs = ({k: v for k, v in each.items() if k.startswith(part)} for each in (own, state))
    if fits(mine, theirs):
        what = f"--random-stem is not needed: {first} has the shape of the network, {tuple(own[first].shape)}"
        raise FovealError("option.conflict", what, fix="leave out --random-stem")
    kept = {key: value for key, value in state.items() if key not in theirs}
    was = ", ".join(str(tuple(value.shape)) for value in theirs.values()) or "none"
    return kept | mine, [f"{key} {tuple(value.shape)} instead of {was}" for key, value in mine.items()]


def _by_timm(state: State, encoder: nn.Module) -> State:
    """What timm's own conversion for this network makes of the weights; resizes positions and patches."""
    convert = _conversion((getattr(encoder, "pretrained_cfg", None) or {}).get("architecture"))
    if convert is None:
        return state
    unfit = AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError
    for arguments in ((encoder,), ()):  # as timm tries them
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(*unfit):
            return dict(convert(dict(state), *arguments))
    return state  # of another kind of network: the comparison of keys says so


@cache
def _conversion(architecture: str | None) -> Callable[..., Any] | None:
    """The function by which timm converts published weights of a network, as timm gives it to its own loader."""
    given: list[Any] = [None]
    loader = mock.patch(
        "timm.models._builder.load_pretrained", lambda *_, filter_fn=None, **__: given.append(filter_fn)
    )
    if architecture and timm.is_model(architecture):
        with loader, torch.device("meta"):  # nothing is loaded or computed
            timm.create_model(architecture, pretrained=True)
    return given[-1]


def _refuse_lost_biases(state: State, own: Mapping[str, Tensor]) -> None:
    """DINOv3 in timm has networks with and without biases; without them, those in the file must be zero."""
    lost = [key for key in state if key.endswith("attn.qkv.bias") and bool(state[key].any())]
    if "storage_tokens" in state and lost and not any(key.endswith(".q_bias") for key in own):
        what = f"the file has attention biases that are not zero, such as {lost[0]}; this --encoder has none"
        raise FovealError("weights.mismatch", what, fix="use the --encoder whose name ends in _qkvb")


def _to_epsilon(state: State, encoder: nn.Module, epsilon: float) -> None:
    """Move the difference of two epsilons of batch norm into the variances, which gives the same features."""
    for name, module in encoder.named_modules():
        key = f"{name}.running_var"
        if isinstance(module, nn.BatchNorm2d) and key in state and module.eps != epsilon:
            state[key] = state[key] + (epsilon - module.eps)


@dataclass(frozen=True)
class Fit:
    """The usual encoders that weights fit, what the first leaves out, and the sizes in the file."""

    names: list[str]
    image_size: int
    channels: int
    dropped: dict[str, int]
    nearest: str  # where none fits: the encoder with the fewest keys in the way, "" if they are many
    wrong: dict[str, list[str]]  # missing, shapes, strange: its keys that the file lacks or has otherwise, and others


def fitting_encoders(found: Found) -> Fit:
    """Which of the usual encoders the weights fit, or nearly fit."""
    end = time.monotonic() + MOST_SECONDS
    first = found.layout.convert(found.state, [])
    patch, size = _sides_of(first)
    stem = next((value for key, value in first.items() if STEM.fullmatch(key)), None)
    channels = 3 if stem is None else stem.shape[1]
    fitting: dict[str, tuple[dict[str, int], int]] = {}
    fewest, nearest, keys_in_the_way = math.inf, "", dict[str, list[str]]()
    if found.named:
        pooled = found.named + AVERAGE * ("fc_norm.weight" in first)
        tries: list[Any] = [[(pooled, timm_card(pooled).input_size[1]), (pooled, size)]]
    else:
        tries = [((name, size) for name in _candidates(first, patch)), _others(first, channels, end)]
    for tried in tries:
        if fitting or nearest:
            break
        for name, side in tried:
            try:
                blueprint = _blueprint(name, channels, side)
                state, dropped, resized = adapted(found, blueprint, name)
            except FovealError:
                continue
            own = blueprint.state_dict()
            wrong = {"missing": [key for key in own if key not in state], "shapes": other_shapes(own, state),
                     "strange": [key for key in state if key not in own]}  # fmt: skip
            count = sum(map(len, wrong.values()))
            if not resized and not count:
                fitting[name] = dropped, side
            elif count < min(fewest, len(own) / 4):
                fewest, nearest, keys_in_the_way = count, name, wrong
    dropped, size = next(iter(fitting.values()), (found.dropped, size))
    return Fit([*fitting], size, channels, dropped, *(("", {}) if fitting else (nearest, keys_in_the_way)))


def _others(state: State, channels: int, end: float) -> Iterator[tuple[str, int]]:
    """Other networks of timm with these keys and shapes, and their sizes, found before `end` (time.monotonic()).

    Only those with the same first layer are made, and first those of the file of timm that looks most alike.
    """

    def in_time(_: Any) -> bool:
        return time.monotonic() < end

    def has(layers: Any) -> bool:
        return bool(layers) and all(f"{layer}.weight" in state for layer in np.atleast_1d(layers))

    def own(name: str) -> State:
        with torch.device("meta"):
            return dict(timm.create_model(name, num_classes=0, in_chans=channels).state_dict())

    cards = {name: card for name in timm.list_models() if (card := timm_card(name)) and has(card.first_conv)}
    files: dict[str, list[str]] = {}
    for name in [name for name, card in cards.items() if has(card.classifier)] or cards:
        files.setdefault(timm.model_entrypoint(name).__module__, []).append(name)
    alike = [(len(own(names[0]).keys() & state.keys()), names) for names in takewhile(in_time, files.values())]
    alike.sort(key=lambda pair: pair[0], reverse=True)
    for name in takewhile(in_time, chain.from_iterable(names for _, names in alike)):
        if all(key in state and state[key].shape == value.shape for key, value in own(name).items()):
            yield name, cards[name].input_size[1]


def _sides_of(state: State) -> tuple[int, int]:
    """The sides in pixels of a patch (0 without patches) and of the images."""
    patches, places = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    if patches is None or patches.dim() != 4:
        stem = state.get("conv1.weight")
        return 0, SMALL if stem is not None and stem.shape[-1] == 3 else 224
    return patches.shape[-1], (0 if places is None else _grid(places.shape[1])) * patches.shape[-1] or 224


def _grid(tokens: int) -> int:
    """Patches along a side, where up to five of the tokens are no patches; 0 if they are not in a square."""
    sides = [math.isqrt(max(0, tokens - more)) for more in range(6)]
    return next((side for more, side in enumerate(sides) if side**2 == tokens - more), 0)


def _candidates(state: State, side: int) -> list[str]:
    keys = "\n".join(state)
    if norms := [value for key, value in state.items() if re.fullmatch(r"blocks\.\d+\.norm[12]\.weight", key)]:
        width = _KNOWN["widths"].get(str(norms[0].shape[0]), "base")
        pooled = AVERAGE * ("fc_norm.weight" in state)
        return [name.format(width) + pooled for name in _KNOWN["vits"] if f"patch{side or ''}" in name]
    stems = re.compile(r"(_?conv_stem|features\.0\.[01]|stem\.(conv|bn)|_bn0|bn1)\.weight")
    stem = next((value.shape[0] for key, value in state.items() if stems.fullmatch(key)), 0)
    if stem and re.search(r"^(_?blocks|features)\.\d+\.", keys, re.MULTILINE):
        both = [f"{kind}efficientnet{end}" for end in _KNOWN["ends"].get(str(stem), "").split() for kind in ("", "tf_")]
        return [name for name in both if not re.match("efficientnet(_lite|v2_b)", name)]  # only TensorFlow's
    families = _KNOWN["families"].items()
    return [name for sign, names in families if re.search(sign, keys, re.MULTILINE) for name in names]


@cache
def _blueprint(name: str, channels: int, size: int) -> nn.Module:
    with torch.device("meta"):
        return create_encoder(name, channels, size)
