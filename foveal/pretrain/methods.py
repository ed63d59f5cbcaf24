"""Options of the self-supervised methods, one class each; no torch is needed to read them.

Each is a table of its own: `--simclr.temperature 0.5`, `[pretrain.simclr]` in a recipe, `simclr={"temperature": 0.5}`
in Python. SimSiam and VICReg have none. What was never worth changing is a constant in the method's own file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveal.errors import FovealError

Method = Literal["simclr", "supcon", "byol", "simsiam", "mocov3", "barlow_twins", "vicreg", "dino"]
SameGroup = Literal["ignore", "mask", "positive"]


def check_range(option: str, value: float, low: float, below: float = float("inf"), above: bool = False) -> None:
    """FovealError where a number is below `low` (or equal to it, where it must lie above), or not below `below`."""
    if value < low or value >= below or (above and value == low):
        lower = f"above {low:g}" if above else f"at least {low:g}"
        upper = "" if below == float("inf") else f" and below {below:g}"
        raise FovealError("option.value", f"{option} is {value}", expected=f"a number {lower}{upper}")


@dataclass(frozen=True, kw_only=True)
class SimCLROptions:
    """SimCLR (Chen et al. 2020)."""

    # Temperature of the loss; a lower one gives near neighbours more weight.
    temperature: float = 0.2
    # Hidden width of the projection; 0 takes the width of the features.
    projection_hidden: int = 0
    # Dimensions in which views are compared.
    projection_size: int = 128
    # Images of one patient: ignore groups, mask (they do not repel each other), or positive (they attract each other).
    same_group: SameGroup = "ignore"
    # Leave the positive out of the denominator (decoupled contrastive learning).
    decoupled: bool = False
    # Columns of the similarity matrix to hold at once; 0 holds all of them.
    chunk: int = 0

    def __post_init__(self) -> None:
        check_range("--simclr.temperature", self.temperature, 0, above=True)
        check_range("--simclr.projection-hidden", self.projection_hidden, 0)
        check_range("--simclr.projection-size", self.projection_size, 1)
        check_range("--simclr.chunk", self.chunk, 0)
        if self.decoupled and (self.same_group != "ignore" or self.chunk):
            raise FovealError(
                "option.conflict", "--simclr.decoupled works with neither --simclr.same-group nor --simclr.chunk",
                fix="leave out --simclr.decoupled or the other two",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SupConOptions:
    """SupCon (Khosla et al. 2020)."""

    # Temperature of the loss; a lower one gives near neighbours more weight.
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_range("--supcon.temperature", self.temperature, 0, above=True)


@dataclass(frozen=True, kw_only=True)
class BYOLOptions:
    """BYOL (Grill et al. 2020)."""

    # Momentum of the target network at the first step; it rises to 1. The paper has 0.996, for longer runs.
    momentum: float = 0.99

    def __post_init__(self) -> None:
        check_range("--byol.momentum", self.momentum, 0, 1)


@dataclass(frozen=True, kw_only=True)
class MoCoV3Options:
    """MoCo v3 (Chen, Xie & He 2021)."""

    # Temperature of the loss; a lower one gives near neighbours more weight.
    temperature: float = 0.2

    def __post_init__(self) -> None:
        check_range("--mocov3.temperature", self.temperature, 0, above=True)


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsOptions:
    """Barlow Twins (Zbontar et al. 2021)."""

    # Weight of the off-diagonal part of the loss.
    redundancy: float = 0.005

    def __post_init__(self) -> None:
        check_range("--barlow-twins.redundancy", self.redundancy, 0)


@dataclass(frozen=True, kw_only=True)
class DINOOptions:
    """DINO (Caron et al. 2021)."""

    # Temperature of the teacher; a lower one makes its targets sharper.
    teacher_temperature: float = 0.04

    def __post_init__(self) -> None:
        check_range("--dino.teacher-temperature", self.teacher_temperature, 0, above=True)
