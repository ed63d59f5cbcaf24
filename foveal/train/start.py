"""What starting weights fix: the encoder, the pixels it sees and their normalisation; and frozen encoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from foveal.augment.views import NetworkInput
from foveal.console import say, warn
from foveal.nets.encoder import create_encoder, normalisation_of
from foveal.nets.weights import load_encoder_weights
from foveal.runs import read_model
from foveal.sets.records import PreparedSet


@dataclass(frozen=True)
class Start:
    """The encoder's name and what it sees."""

    encoder: str
    spec: NetworkInput


def start_from(init: str, encoder: str, image_size: int, prepared: PreparedSet) -> Start:
    """What `--init` says of the encoder; ValueError where it contradicts `--encoder` or the set's channels."""
    before = read_model(Path(init)) if Path(init).is_dir() else {}
    name = before.get("encoder", "tf_efficientnet_lite0") if encoder == "auto" else encoder
    size = image_size or before.get("image_size") or prepared.size
    if not before:
        return Start(name, NetworkInput(size, *normalisation_of(name, prepared.channels)))
    if name != before["encoder"]:
        raise ValueError(f"--encoder {name}: the run {init} holds weights of {before['encoder']}; leave --encoder out")
    if before["channels"] != prepared.channels:
        raise ValueError(
            f"{init} was trained on {before['channels']} channel(s), {prepared.path} has {prepared.channels}"
        )
    if before["preparation"]["crop"] != prepared.card["options"]["crop"]:
        warn(f"{init} learned from images with crop {before['preparation']['crop']}, {prepared.path} has another")
    return Start(name, NetworkInput(size, tuple(before["mean"]), tuple(before["std"])))


def frozen_encoder(init: str, start: Start, prepared: PreparedSet, seed: int, device: torch.device) -> nn.Module:
    """An encoder with its starting weights on the device, in evaluation mode; random weights are drawn by the seed."""
    torch.manual_seed(seed)
    encoder = create_encoder(start.encoder, prepared.channels, start.spec.image_size)
    loaded = load_encoder_weights(encoder, start.encoder, init)
    say(f"features of {init}: {start.encoder} ({loaded}) at {start.spec.image_size} px")
    encoder.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return encoder
