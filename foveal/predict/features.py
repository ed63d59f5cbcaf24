"""Features of images from an encoder: a network in memory, a run folder, or a network of timm."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor, nn

from foveal.augment.views import NetworkInput, plain_view
from foveal.console import say
from foveal.distributed import choose_device
from foveal.errors import FovealError
from foveal.fundus.preparation import Preparation
from foveal.given import Given
from foveal.hardware import wait_for
from foveal.nets.encoder import OWN, create_encoder, reopened, timm_name
from foveal.nets.heads import texture_of, watching
from foveal.nets.weights import fitting_name, load_encoder_weights, normalisation_for
from foveal.predict.model import check_preparation
from foveal.runs import read_model
from foveal.sets.loader import ImageStore
from foveal.sets.records import PreparedSet

EVALUATION_BATCH = 64  # images


@torch.inference_mode()
def encode(encoder: nn.Module, store: ImageStore, spec: NetworkInput, device: torch.device) -> Tensor:
    """Features [n, D] of all images of a store, in order, by an encoder in evaluation mode."""
    starts = range(0, len(store), EVALUATION_BATCH)
    parts = [np.arange(start, min(start + EVALUATION_BATCH, len(store))) for start in starts]
    return torch.cat([encoder(plain_view(store.gather(part), spec, device)).float() for part in parts]).clone()


@torch.inference_mode()
def seconds_of_pass(
    encoder: nn.Module, store: ImageStore, spec: NetworkInput, device: torch.device, most: int = 32
) -> float:
    """Seconds of an image in a pass of an encoder in evaluation mode, timed on at most `most` images."""
    images = store.gather(np.arange(min(len(store), most, 32)))
    for _ in range(2):  # the first one is slow
        began = time.perf_counter()
        encoder(plain_view(images, spec, device))
        wait_for(device)
    return (time.perf_counter() - began) / len(images)


class Encoder(NamedTuple):
    """A network with its weights, in evaluation mode, and the input that it expects."""

    network: nn.Module
    spec: NetworkInput
    device: torch.device

    @torch.inference_mode()
    def answer(self, pixels: np.ndarray, *, texture: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Prepared uint8 [m, S, S, C] -> features float32 [m, D] and, from the same pass, the texture [m, 2 M]."""
        watched: Any = watching(self.network) if texture else nullcontext()
        with watched as middle:
            features = self.network(plain_view(pixels, self.spec, self.device)).float().cpu().numpy()
        return features, texture_of(middle.pop()).cpu().numpy() if texture else None


def open_run(run: Path, device: str, given: str = "") -> Encoder:
    """The encoder of a run of pretrain or train; given: the network of a program that it was made with, if any."""
    model = read_model(run)
    spec = NetworkInput(model["image_size"], tuple(model["mean"]), tuple(model["std"]))
    return _opened(reopened(model, given), model["encoder"], spec, str(run), device)


def check_network(name: str) -> None:
    """FovealError unless this is the name of a network, and no path."""
    if not isinstance(name, Given) and name not in OWN and not timm.is_model(timm_name(name)):
        fix = "for a file of weights, give the name of its network and --init FILE"
        raise FovealError("run.not_a_run", f"{name} is neither a run folder nor a network of timm", fix=fix)


def open_network(name: str, init: str, preparation: Preparation, device: str) -> Encoder:
    """A network of timm by its name, for images prepared like this. init: imagenet, random or a file of weights."""
    name = fitting_name(name, init)
    spec = NetworkInput(preparation.size, *normalisation_for(init, name, preparation.channels))
    torch.manual_seed(0)  # of random weights
    return _opened(create_encoder(name, preparation.channels, spec.image_size), name, spec, init, device)


def _opened(network: nn.Module, name: str, spec: NetworkInput, init: str, device: str) -> Encoder:
    loaded, chosen = load_encoder_weights(network, name, init), choose_device(device)
    say(f"{name} ({loaded}) at {spec.image_size} px", "dim")
    return Encoder(network=network.to(chosen).eval(), spec=spec, device=chosen)


def open_encoder(run: Path, prepared: PreparedSet, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """The encoder of a run: uint8 [m, S, S, C], prepared as for the run, or FovealError -> float32 [m, D]."""
    check_preparation(prepared, Preparation(**read_model(run)["preparation"]))
    encoder = open_run(run, device)
    return lambda pixels: encoder.answer(pixels)[0]
