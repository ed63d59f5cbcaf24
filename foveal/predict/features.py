"""Features of images from an encoder, either a network in memory or a run folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from foveal.augment.views import NetworkInput, plain_view
from foveal.distributed import choose_device
from foveal.fundus.preparation import Preparation
from foveal.nets.encoder import create_encoder
from foveal.nets.weights import load_encoder_weights
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


def open_encoder(run: Path, prepared: PreparedSet, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """The encoder of a run: uint8 [m, S, S, C], prepared as for the run, or FovealError -> float32 [m, D]."""
    model, chosen = read_model(run), choose_device(device)
    check_preparation(prepared, Preparation(**model["preparation"]))
    encoder = create_encoder(model["encoder"], model["channels"], model["image_size"])
    load_encoder_weights(encoder, model["encoder"], str(run))
    encoder.to(chosen).eval()
    spec = NetworkInput(model["image_size"], tuple(model["mean"]), tuple(model["std"]))

    @torch.inference_mode()
    def encode(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(encoder(plain_view(pixels, spec, chosen)).float().cpu().numpy())

    return encode
