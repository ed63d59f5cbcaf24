"""Views by a function of a program, such as transforms of torchvision or kornia, in place of a recipe.

The function gets uint8 [B, C, S, S], on the device, and returns views [B, C, s, s] of the size that the network sees:
uint8, or float from 0 to 1, not normalised. It draws from torch's global generator, which is seeded before each call
by (seed, step, first image of the part); the generator of the training step stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor

from foveal.augment.draw import ViewTable, draw
from foveal.augment.recipes import Recipe, View
from foveal.errors import FovealError


@dataclass(frozen=True)
class GivenViews:
    """Views that are still to be made, in place of a table of views."""

    function: Callable[..., Any]
    view_size: int
    seed: int

    def __getitem__(self, part: slice) -> GivenViews:
        return replace(self, seed=self.seed + (part.start or 0))

    @torch.no_grad()
    def of(self, images: Tensor) -> Tensor:
        """uint8 [B, C, S, S] -> float32 [B, C, s, s], 0 to 255; FovealError for another shape or, on a CPU, range."""
        gpu = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(gpu), torch.autocast(images.device.type, enabled=False):
            torch.manual_seed(self.seed)
            views = self.function(images)
        expected = [*images.shape[:2], self.view_size, self.view_size]
        if not isinstance(views, Tensor) or list(views.shape) != expected:
            found = list(views.shape) if isinstance(views, Tensor) else type(views).__name__
            raise FovealError("views.object", f"the function of views gives {found}", expected=str(expected))
        views = views.float() if views.dtype == torch.uint8 else 255 * views.float()
        # Interpolation goes a little beyond 0 and 1. On a GPU, to look would wait for it; the sheet of views looks.
        if views.device.type == "cpu" and not -26 < views.min() <= views.max() < 281:
            what = f"the function of views gives values from {views.min() / 255:.3g} to {views.max() / 255:.3g}"
            usual, fix = "uint8, or float from 0 to 1", "leave out the normalisation, which Foveal adds"
            raise FovealError("views.object", what, expected=usual, fix=fix)
        return views


Table: TypeAlias = ViewTable | GivenViews


def draw_views(view: View, batch: int, source_size: int, view_size: int, generator: Generator) -> Table:
    """A table of `batch` random views as in `draw`, or views by a function that takes its seed from `generator`."""
    if isinstance(view, Recipe):
        return draw(view, batch, source_size, view_size, generator)
    return GivenViews(view, view_size, int(torch.randint(2**62, (), generator=generator)))
