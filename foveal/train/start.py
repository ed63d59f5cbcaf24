"""Where training starts: the encoder with its weights, image size and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from foveal.augment.views import NetworkInput
from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.nets.encoder import create_encoder, normalisation_of
from foveal.nets.weights import load_encoder_weights
from foveal.runs import read_model
from foveal.sets.records import PreparedSet


@dataclass(frozen=True)
class Start:
    """The name of the encoder, and the input it expects."""

    encoder: str
    spec: NetworkInput


def start_from(init: str, encoder: str, image_size: int, prepared: PreparedSet) -> Start:
    """The start for `--init`; FovealError if it contradicts `--encoder` or the channels of the set."""
    before = read_model(Path(init)) if Path(init).is_dir() else {}
    name = before.get("encoder", "tf_efficientnet_lite0") if encoder == "auto" else encoder
    size = image_size or before.get("image_size") or prepared.size
    if not before:
        return Start(name, NetworkInput(size, *normalisation_of(name, prepared.channels)))
    if name != before["encoder"]:
        what = f"--encoder {name} does not match --init {init}, which contains {before['encoder']}"
        raise FovealError("option.conflict", what, fix="leave out --encoder")
    if before["channels"] != prepared.channels:
        there = f"{prepared.path} has {prepared.channels}"
        what = f"--init {init} was trained on images with {before['channels']} channel(s), but {there}"
        raise FovealError("weights.mismatch", what, fix="prepare the set with the same --channels")
    if before["preparation"]["crop"] != prepared.card["options"]["crop"]:
        warn(f"{init} was trained on images with --crop {before['preparation']['crop']}, unlike {prepared.path}")
    return Start(name, NetworkInput(size, tuple(before["mean"]), tuple(before["std"])))


def frozen_encoder(init: str, start: Start, prepared: PreparedSet, seed: int, device: torch.device) -> nn.Module:
    """The encoder with its starting weights on the device, in evaluation mode. seed: for random weights."""
    torch.manual_seed(seed)
    encoder = create_encoder(start.encoder, prepared.channels, start.spec.image_size)
    loaded = load_encoder_weights(encoder, start.encoder, init)
    say(f"features of {init}: {start.encoder} ({loaded}) at {start.spec.image_size} px")
    encoder.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return encoder
