"""Texture: how the maps of an encoder's middle stage vary, which tells cameras apart and hardly depends on the disease.

Means and spreads of maps describe the style of a picture (Huang and Belongie, 2017). benchmarks/unlike.py compares.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from os.path import commonpath

import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.nets.encoder import stage_of_parameters

MIDDLE = 0.4  # of the depth: stride 8 in usual networks. Later stages see the disease, earlier ones only colours


def middle_stage(encoder: nn.Module) -> nn.Module:
    """The stage at two fifths of the depth; the encoder itself if its stages are unknown."""
    try:
        stages = stage_of_parameters(encoder)
    except FovealError:
        return encoder
    number = max(1, round(MIDDLE * max(stages.values())))
    names = [name.replace(".", "/") for name, stage in stages.items() if stage == number]
    return encoder.get_submodule(commonpath([name.rpartition("/")[0] for name in names]).replace("/", "."))


@contextmanager
def watching(encoder: nn.Module) -> Iterator[list[Tensor]]:
    """A list that receives the output of the middle stage in each pass of the encoder."""
    seen: list[Tensor] = []
    handle = middle_stage(encoder).register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def texture_of(maps: Tensor) -> Tensor:
    """float32 [B, 2 M]: mean and spread of each channel of maps [B, M, h, w], tokens [B, n, M] or features [B, M]."""
    values = maps.float()
    places = values.flatten(2) if values.dim() == 4 else values.reshape(len(values), -1, values.shape[-1]).mT
    return torch.cat([places.mean(2), places.std(2, correction=0)], 1)
