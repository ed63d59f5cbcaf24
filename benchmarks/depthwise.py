"""Time the forward and backward pass of depthwise convolutions on a CPU: PyTorch's and Foveal's in turn.

    python benchmarks/depthwise.py [--images 32] [--threads 1] [--repeats 5]

The shapes are those of an EfficientNet-B0 at 128 px. Prints the fastest of the repeats of each, and the ratio.
"""

import argparse
import time

import torch
from torch import nn

from foveal.distributed import choose_device
from foveal.nets.layers import quicken_depthwise

SHAPES = (  # channels, side, kernel, stride
    (96, 64, 3, 2), (144, 32, 5, 2), (240, 16, 5, 1), (480, 8, 3, 1), (672, 8, 5, 1), (672, 8, 5, 2), (1152, 4, 5, 1),
)  # fmt: skip


def milliseconds(layer: nn.Module, images: torch.Tensor, repeats: int) -> float:
    """The fastest of some forward and backward passes, after a first one that is not counted."""
    taken = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        result = layer(images)
        torch.autograd.grad(result, (images, *layer.parameters()), torch.ones_like(result))
        taken.append(time.perf_counter() - began)
    return 1e3 * min(taken[1:])


def main() -> None:
    """Print a line for each shape and dtype."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    choose_device("cpu")  # freed memory is kept
    torch.set_num_threads(options.threads)
    for channels, side, kernel, stride in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            images = torch.randn(options.images, channels, side, side, dtype=dtype)
            images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
            plain, own = (
                nn.Sequential(
                    nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False, dtype=dtype)
                )
                for _ in range(2)
            )
            quicken_depthwise(own)
            theirs, ours = (milliseconds(layer, images, options.repeats) for layer in (plain, own))
            print(
                f"{channels:5d} channels, {side:2d} px, {kernel}x{kernel}, stride {stride}, {str(dtype)[6:]:8s}: "
                f"{theirs:6.1f} ms, Foveal {ours:6.1f} ms; ratio {theirs / ours:5.1f} (n = {options.repeats})"
            )


if __name__ == "__main__":
    main()
