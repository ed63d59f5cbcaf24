"""Layers that replace torch's: batch normalisation over processes, and fast depthwise convolutions on CPUs.

For the backward pass of depthwise convolutions, oneDNN falls back to plain loops in two cases
(benchmarks/depthwise.py). In bf16 with stride 2, the gradient of the images is computed in fp32 here; the gradient of
5x5 weights is computed in pieces of 3x3. Together, this doubles the training speed of an EfficientNet-B0 in bf16.
"""

from collections.abc import Iterable
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, nn

from foveal.distributed import gather, together

PIECE = 3  # kernel side for which oneDNN's weight gradient is fast
Pair = tuple[int, int]


def statistics_layers(module: nn.Module) -> list[nn.Module]:
    """The layers with running batch statistics."""
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


@torch.no_grad()
def re_estimate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of layers in training mode by the mean over `batches` (arXiv 2105.07576)."""
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


def _normalise(norm: nn.BatchNorm1d | nn.BatchNorm2d, values: Tensor) -> Tensor:
    """[B, C, ...] -> the same shape, with the mean and variance of each channel over the batch of all processes."""
    numbers = values if values.dtype == torch.float64 else values.float()
    summed = [axis for axis in range(numbers.dim()) if axis != 1]
    shape = [1, -1] + [1] * (numbers.dim() - 2)
    own = numbers.new_full((1,), numbers.numel() // numbers.shape[1])  # other processes may have more images
    # Two passes, because E[x^2] - E[x]^2 would lose half of the digits.
    *total, count = gather(torch.cat([numbers.sum(summed), own])[None]).sum(0).split([numbers.shape[1], 1])
    count = count.detach()
    mean = total[0] / count
    centred = numbers - mean.view(shape)
    variance = gather(centred.square().sum(summed)[None]).sum(0) / count
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    # Without a momentum, as in torch: the plain mean of all batches.
    weight = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    unbiased = variance.detach() * count / (count - 1).clamp(min=1)
    norm.running_mean.lerp_(mean.detach().to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), weight)
    scale = torch.rsqrt(variance + norm.eps)
    if not norm.affine:
        return (centred * scale.view(shape)).to(values.dtype)
    return (centred * (norm.weight * scale).view(shape) + norm.bias.view(shape)).to(values.dtype)


class _Synchronised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not together():
            return super().forward(x)
        layer: Any = self
        normalised = _normalise(layer, x)
        return layer.act(layer.drop(normalised)) if isinstance(layer, BatchNormAct2d) else normalised


PLAIN = BatchNormAct2d, nn.BatchNorm2d, nn.BatchNorm1d  # subclasses first
SYNCHRONISED = {plain: type(f"Synchronised{plain.__name__}", (_Synchronised, plain), {}) for plain in PLAIN}


def synchronise(module: nn.Module) -> None:
    """Take the training statistics of every batch normalisation over all processes."""
    for layer in module.modules():
        if fitting := [new for plain, new in SYNCHRONISED.items() if isinstance(layer, plain)]:
            layer.__class__ = fitting[0]


class _Quick(nn.Conv2d):
    """A depthwise convolution without bias: the same values and, except for rounding, the same gradients."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        weight, padding = self.weight, self.padding
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        if isinstance(self, Conv2dSame):
            x, padding = pad_same(x, list(self.kernel_size), list(self.stride)), (0, 0)
        return _Convolution.apply(x, weight, self.stride, padding)


QUICK = {plain: type(f"Quick{plain.__name__}", (_Quick, plain), {}) for plain in (nn.Conv2d, Conv2dSame)}


def quicken_depthwise(module: nn.Module) -> None:
    """Replace the depthwise convolutions of a network by quick ones; names and weights are kept."""
    for each in module.modules():
        if isinstance(each, nn.Conv2d) and each.groups == each.in_channels == each.out_channels > 1:
            plain = each.bias is None and each.dilation == (1, 1) and each.padding_mode == "zeros"
            if plain and type(each) in QUICK and not isinstance(each.padding, str):
                each.__class__ = QUICK[type(each)]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, weight = ctx.saved_tensors
        gradient, stride, padding = gradients[0], ctx.stride, ctx.padding
        of_images, of_weight, half, moved = None, None, gradient.dtype == torch.bfloat16, max(stride) > 1
        if ctx.needs_input_grad[0]:
            dtype = torch.float32 if moved and half else gradient.dtype
            of_images = _gradient(gradient.to(dtype), images.to(dtype), weight.to(dtype), stride, padding, 0)
            of_images = of_images.to(images.dtype)
        if ctx.needs_input_grad[1]:
            if max(weight.shape[2:]) > PIECE <= min(weight.shape[2:]) and (half or not moved):
                of_weight = _in_pieces(gradient, images, weight, stride, padding)
            else:
                of_weight = _gradient(gradient, images, weight, stride, padding, 1)
        return of_images, of_weight, None, None


def _gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: Pair, padding: Pair, which: int) -> Tensor:
    """The gradient of the images (which 0) or of the weight (which 1)."""
    rest = (None, stride, padding, (1, 1), False, (0, 0), len(weight), [which == 0, which == 1, False])
    return torch.ops.aten.convolution_backward(gradient, images, weight, *rest)[which]


def _in_pieces(gradient: Tensor, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """The weight gradient in pieces of 3x3; for each piece, the images are shifted by its place in the kernel."""
    padded = F.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    found = torch.empty_like(weight)
    height, width = ((gradient.shape[axis] - 1) * stride[axis - 2] + PIECE for axis in (2, 3))
    # Start positions of the pieces; the last piece may overlap the previous one.
    starts = ([*range(0, side - PIECE, PIECE), side - PIECE] for side in weight.shape[2:])
    for top, left in product(*starts):
        seen = padded[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
        piece = (slice(None), slice(None), slice(top, top + PIECE), slice(left, left + PIECE))
        found[piece] = _gradient(gradient, seen, weight[piece].contiguous(), stride, (0, 0), 1)
    return found
