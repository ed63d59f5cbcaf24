"""Batch normalisation statistics: re-estimate them, or synchronise them between processes.

torch's SyncBatchNorm needs a GPU; this one works on any device.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn


def statistics_layers(module: nn.Module) -> list[nn.Module]:
    """The layers with running batch statistics."""
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


@torch.no_grad()
def re_estimate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics by the mean over `batches`, computed in training mode.

    Running averages of small batches lag behind the weights; in the worst case a grader then gives every image the same
    grade (Wu and Johnson 2021, "precise BN", https://arxiv.org/abs/2105.07576). Layers in evaluation mode are not
    changed.
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
    # Two passes, because E[x^2] - E[x]^2 would lose half of the digits.
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
    """BatchNorm1d with training statistics over the batches of all processes, which must have the same size."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C] or [B, C, L] -> the same shape; evaluation mode uses the running statistics, as usual."""
        return _normalise(self, input) if self.training and dist.is_initialized() else super().forward(input)


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with training statistics over the batches of all processes, which must have the same size."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape; evaluation mode uses the running statistics, as usual."""
        return _normalise(self, input) if self.training and dist.is_initialized() else super().forward(input)


class SynchronisedBatchNormAct2d(BatchNormAct2d):
    """The same for timm's layer, which applies dropout and activation after the normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same shape."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        activated: Tensor = self.act(self.drop(_normalise(self, x)))
        return activated


SYNCHRONISED = {  # subclasses first
    BatchNormAct2d: SynchronisedBatchNormAct2d,
    nn.BatchNorm2d: SynchronisedBatchNorm2d,
    nn.BatchNorm1d: SynchronisedBatchNorm1d,
}


def synchronise(module: nn.Module) -> None:
    """Replace every batch normalisation by its synchronised form; names, weights and statistics are kept."""
    for layer in module.modules():
        synchronised = next((new for plain, new in SYNCHRONISED.items() if isinstance(layer, plain)), None)
        if synchronised is not None:
            layer.__class__ = synchronised
