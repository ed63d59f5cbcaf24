"""What losses compute with: vectors of the right shape, at least in float32, even if the network computes in bf16."""

import torch.nn.functional as F
from torch import Tensor, float64

from foveal.errors import FovealError


def at_least_float32(z: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """The values [n, D] in float32; float64 is kept. FovealError for other shapes."""
    if z.dim() != 2 or z.shape != (shape or z.shape):
        raise FovealError("loss.shape", f"a tensor is {[*z.shape]}", expected=f"{[*shape]}" if shape else "[n, D]")
    return z if z.dtype == float64 else z.float()


def unit(z: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Normalise rows [n, D] to length 1, after `at_least_float32`; a row of zeros stays zero."""
    return F.normalize(at_least_float32(z, shape), dim=1)


def check_positive(**numbers: float) -> None:
    """FovealError unless the numbers of these names are above 0."""
    if wrong := [f"{name} is {value}" for name, value in numbers.items() if not value > 0]:
        raise FovealError("option.value", ", ".join(wrong), expected="a number above 0")
