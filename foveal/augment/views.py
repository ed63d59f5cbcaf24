"""Network inputs: random views from a table, or plain views of whole images, both normalised in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from foveal.augment import opencv, tensor
from foveal.augment.table import ViewTable
from foveal.fundus.preparation import at_size


@dataclass(frozen=True)
class NetworkInput:
    """The input format of a network: side in pixels, and mean and standard deviation (0-1) to normalise channels."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def random_views(
    images: np.ndarray | Tensor, table: ViewTable, spec: NetworkInput, device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """One view of each image uint8 [S, S, C]: [B, C, s, s] on `device`, of that dtype, normalised, channels-last."""
    if isinstance(images, np.ndarray) and device.type == "cpu":
        views = opencv.apply_normalised(images, table, spec.image_size, spec.mean, spec.std)
        return torch.from_numpy(views).permute(0, 3, 1, 2).to(dtype)
    return normalise(tensor.apply(to_tensor(images, device), table, spec.image_size), spec).to(dtype)


def plain_view(images: np.ndarray, spec: NetworkInput, device: torch.device) -> Tensor:
    """The whole images, resized (by area if they shrink): float32 [B, C, s, s], normalised, channels-last."""
    return normalise(to_tensor(at_size(images, spec.image_size), device).permute(0, 3, 1, 2), spec)


def normalise(pixels: Tensor, spec: NetworkInput) -> Tensor:
    """(pixels / 255 - mean) / std, float32, channels-last, for [B, C, s, s] in 0..255."""
    width, channels = pixels.shape[3], pixels.shape[1]
    mean, scale = _constants(spec, width, pixels.device)
    # Treat a line of pixels as one axis: arithmetic on an axis of three channels is many times slower on a CPU.
    lines = (pixels.permute(0, 2, 3, 1).flatten(2).float() - mean) * scale
    return lines.unflatten(2, (width, channels)).permute(0, 3, 1, 2)


@cache
def _constants(spec: NetworkInput, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation for a line of pixels; cached, because a copy to the device would block each step."""
    mean = torch.tensor(spec.mean, device=device).repeat(width) * 255
    return mean, 1 / (torch.tensor(spec.std, device=device).repeat(width) * 255)


def to_tensor(images: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """uint8 [B, S, S, C] on the device."""
    return images.to(device) if isinstance(images, Tensor) else tensor.send(torch.from_numpy(images), device)
