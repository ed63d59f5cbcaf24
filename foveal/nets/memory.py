"""Memory that a training step needs, counted on a few images before training starts."""

from typing import Any

import torch
from torch import Tensor, nn

# A step at its peak, over what is kept for the backward pass: gradients of activations, workspace of convolutions and
# the fragments of freed blocks (benchmarks/memory.py).
PEAK = 1.25


def kept_bytes(module: nn.Module, inputs: tuple[Tensor, ...], autocast: Any) -> float:
    """Bytes per image that a forward pass of `inputs`, tensors [n, ...], keeps for the backward pass."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    storages: dict[int, int] = {}

    def count(kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return kept

    with torch.autograd.graph.saved_tensors_hooks(count, lambda kept: kept), autocast:
        answer = module(*inputs)  # held until all is counted: freed memory would be used twice
    del answer
    return sum(storages.values()) / len(inputs[0])


def bytes_of_learning(module: nn.Module) -> int:
    """Bytes of gradients and of the two running means of AdamW, for the parameters that learn."""
    return sum(3 * 4 * parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
