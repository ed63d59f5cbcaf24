"""The parameters of random views: one row per view, one tensor per batch, the same for every back end."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

WIDTHS = {
    "warp": 6, "box": 4, "level": 2, "colour": 18, "light": 3, "sigma": 1, "solarise": 1, "quality": 1, "cutout": 4,
}  # fmt: skip
STARTS = {name: sum(list(WIDTHS.values())[:place]) for place, name in enumerate(WIDTHS)}


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """What all views of a batch share; a constant for torch.compile, because it does not depend on drawn parameters.

    stages: the operations that any view may need, in the order they are applied. edge: "repeat" or "black".
    """

    stages: tuple[str, ...]
    edge: str


@dataclass(frozen=True)
class ViewTable:
    """Parameters of B views: values float32 [B, 40] on the CPU, one row per view; see `column` for their meaning."""

    values: Tensor
    plan: ViewPlan

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> ViewTable:
        return ViewTable(self.values[part], self.plan)

    @property
    def warp(self) -> Tensor:
        """[B, 2, 3]: maps (x, y, 1) of a view pixel to source pixels; pixel centres are whole numbers."""
        return column(self.values, "warp").unflatten(1, (2, 3))

    @property
    def colour(self) -> Tensor:
        """[B, 3, 6] = [M | K]: out = M x + K mean(x)."""
        return column(self.values, "colour").unflatten(1, (3, 6))


def column(values: Tensor, name: str) -> Tensor:
    """[B, n]: some columns of the table, without a copy.

    warp (6), and box (4): left, top, right, bottom of the pixel centres that may be read, in source pixels.
    level (2): side of the shrunken copy to read, and the row of the atlas where it starts.
    colour (18), light (3): gain = 1 + a x + b y + c (x^2 + y^2 - 2/3) over -1..1; sigma (1); solarise (1): 0 or 1.
    quality (1): of the JPEG, 0 = none. cutout (4): left, top, right, bottom in view pixels, right and bottom excluded.
    """
    return values[:, STARTS[name] : STARTS[name] + WIDTHS[name]]


def level_sides(source_size: int, view_size: int) -> list[int]:
    """Sides of the shrunken copies that views may read: the source divided by 1, 2, … while at least a view in size."""
    return [source_size // factor for factor in range(1, max(1, source_size // view_size) + 1)]
