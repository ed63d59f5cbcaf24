"""Named recipes for random views, from recipes.toml: the ranges from which `draw` takes its parameters.

Lengths are shares of the image side, angles are in degrees. A recipe contains only changes that keep the meaning.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from foveal.errors import FovealError
from foveal.given import Given

LIMITS = {  # lowest and highest value, where they are not 0 and 1
    "crop_area": (1e-6, 1), "crop_aspect": (1e-6, 1e6), "detail": (1e-6, 1), "blur_sigma": (0, 0.25), "hue": (0, 0.5),
    "jpeg_quality": (1, 100), "rotation": (0, 180), "tilt": (0, 0.5), "vignette": (0, 0.5),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Ranges and probabilities of one kind of view; FovealError if a value is out of range.

    Lengths are shares of the image side, angles are in degrees, pairs are the lowest and the highest value, and a
    probability is the share of views that change. `dataclasses.replace(RECIPES["fundus"], rotation=30.0)` is a copy.
    """

    crop_area: tuple[float, float] = (1.0, 1.0)  #: share of the image's area
    crop_aspect: tuple[float, float] = (1.0, 1.0)  #: width / height, drawn uniformly in the logarithm
    crop_probability: float = 1.0
    disc: float = 0.0  #: minimum share of a crop inside the disc inscribed in the picture, if ten tries find one
    flip: float = 0.0  #: probability of a horizontal flip
    flip_vertical: float = 0.0
    rotation: float = 0.0  #: largest angle in degrees, either way
    brightness: float = 0.0  #: factors are drawn from 1 - x .. 1 + x, as those of contrast and saturation
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  #: largest rotation of the hue circle, in turns (0.5 = all colours)
    colour_probability: float = 0.0
    grey: float = 0.0  #: probability of a grey picture
    tilt: float = 0.0  #: uneven light: largest change of gain from the middle to a side, either way
    vignette: float = 0.0  #: largest change of gain with the squared distance from the middle, either way
    light_probability: float = 0.0
    detail: tuple[float, float] = (1.0, 1.0)  #: lost resolution: share of the side that the view is reduced to and back
    detail_probability: float = 0.0
    blur_sigma: tuple[float, float] = (0.0, 0.0)  #: standard deviation as a share of the side
    blur_probability: float = 0.0
    solarise: float = 0.0  #: probability of inverting values from 128 upwards
    jpeg_quality: tuple[float, float] = (100.0, 100.0)  #: on libjpeg's scale; rounded to whole numbers
    jpeg_probability: float = 0.0
    cutout_side: tuple[float, float] = (0.0, 0.0)  #: width and height of the blanked rectangle
    cutout_probability: float = 0.0
    edge: str = "repeat"  #: pixels outside the image: "repeat" its edge, or "black"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            lowest, highest = LIMITS.get(name, (0, 1))
            if name == "edge":
                fits, expected = value in ("repeat", "black"), "repeat or black"
            else:
                pair, usual = isinstance(value, tuple) and len(value) == 2, getattr(Recipe, name)
                low, high = value if pair else (value, value)
                fits = pair == isinstance(usual, tuple) and lowest <= low <= high <= highest
                expected = f"{lowest:g} to {highest:g}, such as {usual}"
            if not fits:
                raise FovealError("option.value", f"the recipe has {name}={value!r}", expected=expected)


def _read() -> dict[str, Recipe]:
    """The recipes of recipes.toml; one that is `like` another has the values of that one where it gives none."""
    found: dict[str, Recipe] = {}
    for name, values in tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8")).items():
        values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        found[name] = replace(found[values.pop("like")] if "like" in values else Recipe(), **values)
    return found


RECIPES = _read()
SECOND = {"byol": RECIPES.pop("byol-second")}  # second views that differ from the first
# A recipe, or a function of a program: uint8 [B, C, S, S] -> views [B, C, s, s] (augment/views.py).
View: TypeAlias = Recipe | Callable[..., Any]


def get_recipe(name: str) -> View:
    """The recipe with that name, or what a program gave; FovealError, listing the names, if there is none."""
    if isinstance(name, Given):
        if not isinstance(name.given, Recipe) and not callable(name.given):
            raise FovealError("option.value", f"views={name}", expected="a name, a Recipe or a function of images")
        return name.given
    if name not in RECIPES:
        raise FovealError("option.value", f"--views {name} is not a recipe", expected=", ".join(RECIPES))
    return RECIPES[name]


def recipe_pair(name: str) -> tuple[View, View]:
    """The recipes of the first and the second view, which differ for `byol` and given pairs; see `get_recipe`."""
    if isinstance(name, Given) and isinstance(name.given, tuple):
        if len(name.given) != 2:
            raise FovealError("option.value", f"views has {len(name.given)} items", expected="one, or a pair")
        first, second = (get_recipe(each if isinstance(each, str) else Given(each)) for each in name.given)
        return first, second
    return get_recipe(name), SECOND.get(name, get_recipe(name))
