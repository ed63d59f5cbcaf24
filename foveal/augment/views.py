"""Views for the network, random or whole images, and sheets of views that show people what it is trained on.

Random views come from a recipe, or from a function of a program, such as transforms of torchvision or kornia. The
function gets uint8 [B, C, S, S], on the device, and returns views [B, C, s, s] of the size that the network sees:
uint8, or float from 0 to 1, not normalised. It draws from torch's global generator, which is seeded before each call
by (seed, step, first image of the part); the generator of the training step stays as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from foveal.augment import opencv, tensor
from foveal.augment.draw import ViewTable, draw
from foveal.augment.recipes import Recipe, View
from foveal.errors import FovealError
from foveal.files import replacing
from foveal.fundus.preparation import at_size

SMALLEST, LARGEST = 96, 224  # pixels of one picture on the sheet of views
GAP, GROUP_GAP, HEAD = 4, 14, 26


@dataclass(frozen=True)
class NetworkInput:
    """The input format of a network: side in pixels, and mean and standard deviation (0-1) to normalise channels."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        fits = 0 <= min(self.mean) <= max(self.mean) <= 1 and 0 < min(self.std) <= max(self.std) <= 1
        if not fits or len(self.mean) != len(self.std):
            raise FovealError("option.value", f"mean {self.mean} and std {self.std}", expected="0 to 1, std above 0")


@dataclass(frozen=True)
class GivenViews:
    """Views that are still to be made, in place of a table of views."""

    function: Callable[..., Any]
    view_size: int
    seed: int

    def __getitem__(self, part: slice) -> "GivenViews":
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
            raise FovealError("views.object", f"the function of views returns {found}", expected=str(expected))
        views = views.float() if views.dtype == torch.uint8 else 255 * views.float()
        # Interpolation goes a little beyond 0 and 1. On a GPU, to look would wait for it; the sheet of views looks.
        if views.device.type == "cpu" and not -26 < views.min() <= views.max() < 281:
            what = f"the function of views returns values from {views.min() / 255:.3g} to {views.max() / 255:.3g}"
            usual, fix = "uint8, or float from 0 to 1", "leave out the normalisation: Foveal adds it"
            raise FovealError("views.object", what, expected=usual, fix=fix)
        return views


Table: TypeAlias = ViewTable | GivenViews


def draw_views(view: View, batch: int, source_size: int, view_size: int, generator: Generator) -> Table:
    """A table of `batch` random views as in `draw`, or views by a function that takes its seed from `generator`."""
    if isinstance(view, Recipe):
        return draw(view, batch, source_size, view_size, generator)
    return GivenViews(view, view_size, int(torch.randint(2**62, (), generator=generator)))


def random_views(
    images: ndarray | Tensor, table: Table, spec: NetworkInput, device: str | torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """One view of each image uint8 [S, S, C]: [B, C, s, s] on `device`, of that dtype, normalised, channels-last."""
    device = torch.device(device)
    if isinstance(table, GivenViews):
        return normalise(table.of(to_tensor(images, device).permute(0, 3, 1, 2)), spec).to(dtype)
    if isinstance(images, ndarray) and device.type == "cpu":
        views = opencv.apply_normalised(images, table, spec.image_size, spec.mean, spec.std)
        return torch.from_numpy(views).permute(0, 3, 1, 2).to(dtype)
    return normalise(tensor.apply(to_tensor(images, device), table, spec.image_size), spec).to(dtype)


def plain_view(images: ndarray, spec: NetworkInput, device: torch.device) -> Tensor:
    """The whole images, resized (by area if they shrink): float32 [B, C, s, s], normalised, channels-last."""
    return normalise(to_tensor(at_size(images, spec.image_size), device).permute(0, 3, 1, 2), spec)


def normalise(pixels: Tensor, spec: NetworkInput) -> Tensor:
    """(pixels / 255 - mean) / std, float32, channels-last, for [B, C, s, s] in 0..255."""
    width, channels = pixels.shape[3], pixels.shape[1]
    mean, scale = _constants(spec, width, pixels.device)
    # Treat a line of pixels as one axis: arithmetic on an axis of three channels is many times slower on a CPU.
    lines = (pixels.permute(0, 2, 3, 1).flatten(2).float() - mean) * scale
    return lines.unflatten(2, (width, channels)).permute(0, 3, 1, 2)


@cache
def _constants(spec: NetworkInput, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation for a line of pixels; cached, because a copy to the device would block each step."""
    mean = torch.tensor(spec.mean, device=device).repeat(width) * 255
    return mean, 1 / (torch.tensor(spec.std, device=device).repeat(width) * 255)


def to_tensor(images: ndarray | Tensor, device: torch.device) -> Tensor:
    """uint8 [B, S, S, C] on the device."""
    return images.to(device) if isinstance(images, Tensor) else tensor.send(torch.from_numpy(images), device)


def write_view_sheet(file: Path, originals: ndarray, recipes: Sequence[View], size: int, generator: Generator) -> None:
    """Write a JPEG with a row per image uint8 [S, S, C]: the original, then two pairs of a first and a second view."""
    columns = [("original", originals, 0)]  # name, pictures, extra space before them
    for name, recipe, space in 2 * [*zip(("first view", "second view"), recipes, (GROUP_GAP, 0), strict=True)]:
        table = draw_views(recipe, len(originals), originals.shape[1], size, generator)
        if isinstance(table, GivenViews):
            views = table.of(torch.from_numpy(originals).permute(0, 3, 1, 2)).round().clamp(0, 255).byte()
            pictures = views.permute(0, 2, 3, 1).contiguous().numpy()
        else:
            pictures = opencv.apply(originals, table, size)
        columns.append((name, pictures, space))
    with replacing(file) as partial:
        _lay_out(columns, min(LARGEST, max(SMALLEST, size))).save(partial, "JPEG", quality=92)


def _lay_out(columns: list[tuple[str, ndarray, int]], cell: int) -> Image.Image:
    step = cell + GAP
    size = GAP + sum(space + step for _, _, space in columns), HEAD + len(columns[0][1]) * step
    sheet = Image.new("RGB", size, "white")
    text, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(14), GAP
    for name, pictures, space in columns:
        left += space
        text.text((left + cell / 2, HEAD / 2), name, fill=(60, 60, 60), font=font, anchor="mm")
        for number, picture in enumerate(pictures):
            # A small picture is enlarged without interpolation, to show the exact pixels.
            method = Image.Resampling.BOX if picture.shape[0] > cell else Image.Resampling.NEAREST
            shown = Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture)
            sheet.paste(shown.resize((cell, cell), method), (left, HEAD + number * step))
        left += step
    return sheet
