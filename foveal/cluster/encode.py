"""Features from the encoder of a run; the only part of this room that needs torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from foveal import checkpoint
from foveal.augment.views import NetworkInput, plain_view
from foveal.cluster.features import Features
from foveal.cluster.images import Images
from foveal.console import Bar
from foveal.data.records import PreparedSet
from foveal.distributed import choose_device
from foveal.fundus.preparation import Preparation
from foveal.nets.encoder import create_encoder
from foveal.runs import read_model

BATCH = 64


def open_encoder(run: Path, prepared: PreparedSet, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """The encoder of a pre-trained run or a grader, loaded strictly: prepared uint8 [m, S, S, C] -> float32 [m, D].

    Images are resized and normalised as the run's own were; ValueError when `prepared` was made differently.
    """
    model, chosen = read_model(run), choose_device(device)
    options = Preparation(**prepared.card["options"])
    if options != Preparation(**model["preparation"]):
        raise ValueError(
            f"{prepared.path} was prepared with {options}, the run expects "
            f"{Preparation(**model['preparation'])}; prepare it again so"
        )
    encoder = create_encoder(model["encoder"], model["channels"], model["image_size"])
    weights = run / "encoder.safetensors"
    checkpoint.load_strict(encoder, checkpoint.load_weights(weights), str(weights))
    encoder.to(chosen).eval()
    spec = NetworkInput(model["image_size"], tuple(model["mean"]), tuple(model["std"]))

    @torch.inference_mode()
    def encode(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(encoder(plain_view(pixels, spec, chosen)).float().cpu().numpy())

    return encode


def encoder_features(images: Images, run: Path, device: str, bar: Bar) -> Features:
    """Features [n, D] of all images, by `open_encoder`."""
    model, encode = read_model(run), open_encoder(run, images.sets[0], device)
    values = np.empty((len(images), model["features"]), np.float32)
    for start in range(0, len(images), BATCH):
        part = np.arange(start, min(start + BATCH, len(images)))
        values[part] = encode(images.pixels(part))
        bar.advance(len(part))
    kind = "grader" if model["kind"] == "grader" else "pre-trained encoder"
    return Features(name="features", source=f"{model['encoder']} of {run}, a {kind}", values=values)
