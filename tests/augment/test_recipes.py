import pytest

from foveal.augment.draw import stages_of
from foveal.augment.recipes import RECIPES, Recipe, get_recipe, recipe_pair


@pytest.mark.parametrize("get", [get_recipe, recipe_pair])
def test_an_unknown_recipe_is_named(refuses, get):
    with refuses("option.value", "--views", "wild", *RECIPES):
        get("wild")


def test_only_byol_has_two_kinds_of_views():
    different = {name for name in RECIPES if recipe_pair(name)[0] != recipe_pair(name)[1]}
    assert different == {"byol"}
    first, second = recipe_pair("byol")  # Grill et al. 2020, table 6
    assert (first.blur_probability, second.blur_probability) == (1.0, 0.1)
    assert (first.solarise, second.solarise) == (0.0, 0.2)
    assert (first.brightness, first.contrast, first.saturation, first.hue) == (0.4, 0.4, 0.2, 0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5}, {"crop_area": (0.0, 1.0)}, {"crop_area": (0.5, 0.2)}, {"crop_area": (0.5, 1.5)},
        {"crop_aspect": (0.0, 1.0)}, {"hue": 0.6}, {"brightness": -0.1}, {"blur_sigma": (0.0, 3.0)},
        {"detail": (0.0, 1.0)},
        {"jpeg_quality": (0, 90)}, {"cutout_side": (0.5, 1.5)}, {"edge": "wrap"}, {"rotation": 270}, {"tilt": 1},
        {"solarise": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_out_of_its_range_is_named(refuses, wrong):
    with refuses("option.value", *(f"{name}={value!r}" for name, value in wrong.items())):
        Recipe(**wrong)


def test_stages_that_a_recipe_cannot_use_are_left_out():
    assert stages_of(RECIPES["plain"]) == ()
    assert stages_of(RECIPES["cifar"]) == ("colour",)
    assert stages_of(RECIPES["cameras"]) == ("turn", "colour", "light", "detail", "blur", "jpeg")
    assert stages_of(RECIPES["fundus"]) == ("turn", "colour", "light", "blur", "jpeg")
    assert stages_of(recipe_pair("byol")[1]) == ("colour", "blur", "solarise")
    assert stages_of(Recipe(brightness=0.5)) == ()  # never applied: its probability is 0


@pytest.mark.parametrize("wrong", [{"crop_area": 0.5}, {"crop_area": (0.2, 0.5, 1.0)}, {"rotation": (0.0, 9.0)}])
def test_a_number_for_a_pair_is_named(wrong, refuses):
    with refuses("option.value", *wrong):
        Recipe(**wrong)
