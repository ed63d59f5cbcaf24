"""Named recipes of random views: the ranges from which `draw` takes its numbers.

Lengths are shares of the image side, angles degrees. A recipe says what may change without changing the meaning:
a digit keeps its orientation, a retina may turn but its lesions must stay red and visible.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Ranges and probabilities of one kind of view."""

    crop_area: tuple[float, float] = (1.0, 1.0)  # share of the image's area
    crop_aspect: tuple[float, float] = (1.0, 1.0)  # width / height, drawn uniformly in the logarithm
    crop_probability: float = 1.0
    flip: float = 0.0  # probability of a horizontal flip
    flip_vertical: float = 0.0
    rotation: float = 0.0  # largest angle in degrees, either way
    brightness: float = 0.0  # factors are drawn from 1 - x .. 1 + x
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # largest turn of the hue circle, in turns (0.5 = all colours)
    colour_probability: float = 0.0
    grey: float = 0.0  # probability of a grey picture
    blur_sigma: tuple[float, float] = (0.0, 0.0)  # standard deviation as a share of the side
    blur_probability: float = 0.0
    edge: str = "repeat"  # what lies outside the image: "repeat" its edge, or "black"


RECIPES: dict[str, Recipe] = {
    # Chen et al. 2020, appendix A: strength 1, blur of 0.1-2 px at 224 px with probability 0.5.
    "simclr": Recipe(
        crop_area=(0.08, 1.0), crop_aspect=(3 / 4, 4 / 3), flip=0.5, brightness=0.8, contrast=0.8, saturation=0.8,
        hue=0.2, colour_probability=0.8, grey=0.2, blur_sigma=(0.1 / 224, 2 / 224), blur_probability=0.5,
    ),
    # The same for 32 px (appendix B.9): strength 0.5, no blur.
    "cifar": Recipe(
        crop_area=(0.08, 1.0), crop_aspect=(3 / 4, 4 / 3), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4,
        hue=0.1, colour_probability=0.8, grey=0.2,
    ),
    # A retina has no up: any turn and flip. Crops keep 40 % or more, so that both views share most lesions. Hue moves
    # by less than what separates a haemorrhage from an exudate; blur stays below the size of a microaneurysm.
    "fundus": Recipe(
        crop_area=(0.4, 1.0), crop_aspect=(0.9, 1.1), flip=0.5, flip_vertical=0.5, rotation=180, brightness=0.4,
        contrast=0.4, saturation=0.3, hue=0.02, colour_probability=0.8, blur_sigma=(0.1 / 224, 1.2 / 224),
        blur_probability=0.3, edge="black",
    ),
    # For learning grades: every turn and flip, almost the whole retina, the colour differences of cameras.
    "mild": Recipe(
        crop_area=(0.8, 1.0), crop_aspect=(0.95, 1.05), flip=0.5, flip_vertical=0.5, rotation=180, brightness=0.15,
        contrast=0.15, saturation=0.1, hue=0.01, colour_probability=0.8, edge="black",
    ),
    # For digits: small turns and crops, no mirror (2 and 5, 6 and 9 must stay apart), some blur.
    "digits": Recipe(
        crop_area=(0.55, 1.0), crop_aspect=(3 / 4, 4 / 3), rotation=15, blur_sigma=(0.1 / 28, 1.0 / 28),
        blur_probability=0.3, edge="black",
    ),
    # For learning classes of ordinary images: crop and flip.
    "plain": Recipe(crop_area=(0.5, 1.0), crop_aspect=(3 / 4, 4 / 3), flip=0.5),
}  # fmt: skip


def get_recipe(name: str) -> Recipe:
    """The recipe of that name; ValueError lists the names."""
    if name not in RECIPES:
        raise ValueError(f"--views {name}: there is no such recipe; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
