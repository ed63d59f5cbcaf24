"""Batch normalisation over all processes, on any device, so that many processes compute what one would.

torch's own SyncBatchNorm needs a GPU; this one runs wherever torch.distributed does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def statistics_layers(module: nn.Module) -> list[nn.Module]:
    """The layers that keep running statistics of batches."""
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


@torch.no_grad()
def re_estimate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running statistics by the mean over `batches`, as the network in training mode sees them.

    A running average of small batches trails behind the weights, and a grader that is judged by it can give one class
    to all (Wu and Johnson 2021, "precise BN", https://arxiv.org/abs/2105.07576). Layers that do not learn stay.
    """
    layers: list[Any] = [layer for layer in statistics_layers(module) if layer.training]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean of all batches
    for images in batches:
        module(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


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


def _normalise(norm: nn.BatchNorm1d | nn.BatchNorm2d, values: Tensor) -> Tensor:
    """[B, C, ...] -> the same shape, with the mean and variance of each channel over the batch of all processes."""
    numbers = values if values.dtype == torch.float64 else values.float()
    summed = [axis for axis in range(numbers.dim()) if axis != 1]
    shape = [1, -1] + [1] * (numbers.dim() - 2)
    count = numbers.numel() // numbers.shape[1] * dist.get_world_size()
    # Two sums one after the other: the difference of squares would lose half of the digits.
    mean = _SumOverProcesses.apply(numbers.sum(summed)) / count
    centred = numbers - mean.view(shape)
    variance = _SumOverProcesses.apply(centred.square().sum(summed)) / count
    _update(norm, mean.detach(), variance.detach() * count / max(1, count - 1))
    scale = torch.rsqrt(variance + norm.eps)
    if not norm.affine:
        return (centred * scale.view(shape)).to(values.dtype)
    return (centred * (norm.weight * scale).view(shape) + norm.bias.view(shape)).to(values.dtype)


def _update(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    # Without a momentum, as in torch: the plain mean of all batches.
    weight = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), weight)


class SynchronisedBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d whose training statistics are those of the batch of all processes (equal shares)."""

    def forward(self, rows: Tensor) -> Tensor:
        """[B, C] or [B, C, L] -> the same shape; in evaluation mode the running statistics are used, as always."""
        if not self.training or not dist.is_initialized():
            return super().forward(rows)
        return _normalise(self, rows)


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of the batch of all processes (equal shares)."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape; in evaluation mode the running statistics are used, as always."""
        if not self.training or not dist.is_initialized():
            return super().forward(images)
        return _normalise(self, images)


class _SynchronisedWithActivation(SynchronisedBatchNorm2d):
    """timm's BatchNormAct2d with synchronised statistics: normalise, then its drop and activation."""

    def __init__(self, features: int, drop: nn.Module, activation: nn.Module, **options: Any) -> None:
        super().__init__(features, **options)
        self.drop, self.act = drop, activation

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(images)))


Synchronised = SynchronisedBatchNorm1d | SynchronisedBatchNorm2d


def synchronise(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm1d and BatchNorm2d by its synchronised form, weights and statistics kept; returns it."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(child, Synchronised):
            setattr(module, name, _synchronised(child))
        else:
            synchronise(child)
    return module


def _synchronised(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    options: dict[str, Any] = {"eps": norm.eps, "momentum": norm.momentum, "affine": norm.affine}
    with_activation: Any = norm
    new: nn.Module
    if hasattr(norm, "act"):
        new = _SynchronisedWithActivation(norm.num_features, with_activation.drop, with_activation.act, **options)
    elif isinstance(norm, nn.BatchNorm1d):
        new = SynchronisedBatchNorm1d(norm.num_features, **options)
    else:
        new = SynchronisedBatchNorm2d(norm.num_features, **options)
    # The very same tensors: an optimiser that knows the old module's weights goes on training the new one's.
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    return new.train(norm.training)
