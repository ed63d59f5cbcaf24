"""Batch normalisation over all processes, on any device, so that many processes compute what one would.

torch's own SyncBatchNorm needs a GPU; this one runs wherever torch.distributed does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of the batch of all processes (equal shares)."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape; in evaluation mode the running statistics are used, as always."""
        if not self.training or not dist.is_initialized():
            return super().forward(images)
        pixels = images if images.dtype == torch.float64 else images.float()
        count = pixels.numel() // pixels.shape[1] * dist.get_world_size()
        # Two sums one after the other: the difference of squares would lose half of the digits.
        mean = _SumOverProcesses.apply(pixels.sum((0, 2, 3))) / count
        centred = pixels - mean.view(1, -1, 1, 1)
        variance = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / count
        self._update(mean.detach(), variance.detach() * count / max(1, count - 1))
        scale = (self.weight * torch.rsqrt(variance + self.eps)).view(1, -1, 1, 1)
        return (centred * scale + self.bias.view(1, -1, 1, 1)).to(images.dtype)

    def _update(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1


class _SynchronisedWithActivation(SynchronisedBatchNorm2d):
    """timm's BatchNormAct2d with synchronised statistics: normalise, then its drop and activation."""

    def __init__(self, features: int, drop: nn.Module, activation: nn.Module, **options: Any) -> None:
        super().__init__(features, **options)
        self.drop, self.act = drop, activation

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(images)))


def synchronise(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d by its synchronised form, weights and statistics kept; returns the module."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and not isinstance(child, SynchronisedBatchNorm2d):
            setattr(module, name, _synchronised(child))
        else:
            synchronise(child)
    return module


def _synchronised(norm: nn.BatchNorm2d) -> SynchronisedBatchNorm2d:
    options: dict[str, Any] = {"eps": norm.eps, "momentum": norm.momentum, "affine": norm.affine}
    with_activation: Any = norm
    if hasattr(norm, "act"):
        new: SynchronisedBatchNorm2d = _SynchronisedWithActivation(
            norm.num_features, with_activation.drop, with_activation.act, **options
        )
    else:
        new = SynchronisedBatchNorm2d(norm.num_features, **options)
    new.load_state_dict(norm.state_dict())
    return new
