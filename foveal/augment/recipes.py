"""Named recipes for random views: the ranges from which `draw` takes its parameters.

Lengths are shares of the image side, angles are in degrees. A recipe contains only changes that keep the meaning.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from foveal.errors import FovealError
from foveal.given import Given

LIMITS = {  # lowest and highest value, where they are not 0 and 1
    "crop_area": (1e-6, 1), "crop_aspect": (1e-6, 1e6), "detail": (1e-6, 1), "blur_sigma": (0, 0.25), "hue": (0, 0.5),
    "jpeg_quality": (1, 100), "rotation": (0, 180), "tilt": (0, 0.5), "vignette": (0, 0.5),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Ranges and probabilities of one kind of view; FovealError if a value is out of range."""

    crop_area: tuple[float, float] = (1.0, 1.0)  # share of the image's area
    crop_aspect: tuple[float, float] = (1.0, 1.0)  # width / height, drawn uniformly in the logarithm
    crop_probability: float = 1.0
    disc: float = 0.0  # minimum share of a crop inside the disc inscribed in the picture, if ten tries find one
    flip: float = 0.0  # probability of a horizontal flip
    flip_vertical: float = 0.0
    rotation: float = 0.0  # largest angle in degrees, either way
    brightness: float = 0.0  # factors are drawn from 1 - x .. 1 + x
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # largest rotation of the hue circle, in turns (0.5 = all colours)
    colour_probability: float = 0.0
    grey: float = 0.0  # probability of a grey picture
    tilt: float = 0.0  # uneven light: largest change of gain from the middle to a side, either way
    vignette: float = 0.0  # largest change of gain with the squared distance from the middle, either way
    light_probability: float = 0.0
    detail: tuple[float, float] = (1.0, 1.0)  # lost resolution: share of the side that the view is reduced to and back
    detail_probability: float = 0.0
    blur_sigma: tuple[float, float] = (0.0, 0.0)  # standard deviation as a share of the side
    blur_probability: float = 0.0
    solarise: float = 0.0  # probability of inverting values from 128 upwards
    jpeg_quality: tuple[float, float] = (100.0, 100.0)  # on libjpeg's scale; rounded to whole numbers
    jpeg_probability: float = 0.0
    cutout_side: tuple[float, float] = (0.0, 0.0)  # width and height of the blanked rectangle
    cutout_probability: float = 0.0
    edge: str = "repeat"  # pixels outside the image: "repeat" its edge, or "black"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            lowest, highest = LIMITS.get(name, (0, 1))
            if name == "edge":
                fits, expected = value in ("repeat", "black"), "repeat or black"
            else:
                low, high = value if isinstance(value, tuple) else (value, value)
                fits, expected = lowest <= low <= high <= highest, f"{lowest:g} to {highest:g}"
            if not fits:
                raise FovealError("option.value", f"the recipe has {name}={value!r}", expected=expected)


SIMCLR = Recipe(
    crop_area=(0.08, 1.0), crop_aspect=(3 / 4, 4 / 3), flip=0.5, brightness=0.8, contrast=0.8, saturation=0.8,
    hue=0.2, colour_probability=0.8, grey=0.2, blur_sigma=(0.1 / 224, 2 / 224), blur_probability=0.5,
)  # fmt: skip
# Grill et al. 2020, table 6: weaker jitter than SimCLR; the first view is always blurred.
BYOL_FIRST = replace(SIMCLR, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur_probability=1.0)
# A retina may be rotated and flipped in any way. Crops keep at least 40 % of the area, so that both views share most
# lesions, and avoid the dark rim (pi / 4 = 0.785 of a whole photograph lies in its disc). Hue changes are too small to
# turn a haemorrhage into an exudate; blur stays below the size of a microaneurysm (about 2 px at 224). Light, blur and
# JPEG imitate cameras and archives: their strengths were chosen by eye on Messidor-2 and not tuned.
FUNDUS = Recipe(
    crop_area=(0.4, 1.0), crop_aspect=(0.9, 1.1), disc=0.78, flip=0.5, flip_vertical=0.5, rotation=180, brightness=0.3,
    contrast=0.3, saturation=0.3, hue=0.02, colour_probability=0.8, tilt=0.2, vignette=0.15, light_probability=0.5,
    blur_sigma=(0.1 / 224, 1.2 / 224), blur_probability=0.3, jpeg_quality=(40, 90), jpeg_probability=0.2, edge="black",
)  # fmt: skip
# For graders that must work on other cameras: stronger light and colour, blur to 3 px at 224, JPEG from quality 20, and
# half of the views with the resolution of a smaller sensor (from a third of the side). docs/log.md has a comparison.
CAMERAS = replace(
    FUNDUS, crop_area=(0.6, 1.0), crop_aspect=(0.85, 1.18), brightness=0.5, contrast=0.5, saturation=0.5, hue=0.04,
    detail=(1 / 3, 1.0), detail_probability=0.5, blur_sigma=(0.1 / 224, 3 / 224), blur_probability=0.4,
    jpeg_quality=(20, 90), jpeg_probability=0.3,
)  # fmt: skip

RECIPES: dict[str, Recipe] = {
    # Chen et al. 2020, appendix A: strength 1, blur of 0.1-2 px at 224 px with probability 0.5.
    "simclr": SIMCLR,
    # The same for 32 px (appendix B.9): strength 0.5, no blur.
    "cifar": replace(SIMCLR, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur_probability=0.0),
    # One view of BYOL's pair, for symmetric use; `recipe_pair` gives both.
    "byol": BYOL_FIRST,
    "fundus": FUNDUS,
    "cameras": CAMERAS,
    # For training graders: any rotation and flip, almost the whole retina, colour differences as between cameras.
    "mild": Recipe(
        crop_area=(0.8, 1.0), crop_aspect=(0.95, 1.05), flip=0.5, flip_vertical=0.5, rotation=180, brightness=0.15,
        contrast=0.15, saturation=0.1, hue=0.01, colour_probability=0.8, edge="black",
    ),
    # For digits: rotation and crops, no flips (2 and 5, 6 and 9 must stay distinct), some blur, and cutout. Cutout and
    # rotation by 25 instead of 15 degrees gave better results on held-out training digits (docs/log.md).
    "digits": Recipe(
        crop_area=(0.55, 1.0), crop_aspect=(3 / 4, 4 / 3), rotation=25, blur_sigma=(0.1 / 28, 1.0 / 28),
        blur_probability=0.3, cutout_side=(0.2, 0.6), cutout_probability=0.8, edge="black",
    ),
    # SimCLR as in a published write-up on APTOS photographs: nearly the whole picture, strong colour changes.
    "jitter": Recipe(
        crop_area=(0.8, 1.0), crop_aspect=(3 / 4, 4 / 3), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4,
        hue=0.1, colour_probability=0.8,
    ),
    # For training on ordinary images: crop and flip.
    "plain": Recipe(crop_area=(0.5, 1.0), crop_aspect=(3 / 4, 4 / 3), flip=0.5),
}  # fmt: skip
# Second views that differ from the first: Grill et al. 2020, table 6.
SECOND: dict[str, Recipe] = {"byol": replace(BYOL_FIRST, blur_probability=0.1, solarise=0.2)}


# A recipe, or a function of a program: uint8 [B, C, S, S] -> views [B, C, s, s] (augment/given.py).
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
        first, second = (get_recipe(each if isinstance(each, str) else Given(each)) for each in name.given)
        return first, second
    return get_recipe(name), SECOND.get(name, get_recipe(name))
