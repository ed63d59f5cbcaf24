import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from foveal.augment import opencv, tensor
from foveal.augment.draw import draw
from foveal.augment.recipes import RECIPES, Recipe, get_recipe
from foveal.augment.views import NetworkInput, plain_view, random_views
from foveal.data.phantom import draw_phantom


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photographs():
    """uint8 [16, 96, 96, 3]."""
    random = np.random.default_rng(0)
    return np.stack([draw_phantom(n % 5, "left", 96, random).image for n in range(16)])


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_generator_state_gives_the_same_views(photographs, name):
    first, again, other = (draw(RECIPES[name], 16, 96, 64, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.warp, again.warp) and torch.equal(first.colour, again.colour)
    assert not torch.equal(first.warp, other.warp)
    assert np.array_equal(opencv.apply(photographs, first, 64), opencv.apply(photographs, again, 64))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_both_back_ends_make_the_same_picture(photographs, name, channels):
    images = np.ascontiguousarray(photographs[..., :channels])
    table = draw(RECIPES[name], len(images), 96, 72, generator(3))
    from_opencv = opencv.apply(images, table, 72).astype(float)
    from_tensor = tensor.apply(torch.from_numpy(images), table, 72).permute(0, 2, 3, 1).numpy()
    difference = np.abs(from_opencv - from_tensor)
    # OpenCV rounds to whole grey levels after each of its three steps.
    assert difference.mean() < 0.8 and np.quantile(difference, 0.999) <= 4


def test_a_recipe_without_changes_is_the_identity(photographs):
    table = draw(Recipe(), 16, 96, 96, generator())
    assert np.array_equal(opencv.apply(photographs, table, 96), photographs)


def test_crops_have_the_area_and_aspect_that_the_recipe_says():
    recipe = Recipe(crop_area=(0.2, 0.6), crop_aspect=(0.75, 4 / 3))
    linear = draw(recipe, 4000, 100, 50, generator()).warp[:, :, :2] * 50 / 100
    width, height = linear[:, 0, 0], linear[:, 1, 1]
    area, aspect = width * height, width / height
    assert area.min() > 0.199 and area.max() < 0.601 and area.mean() == pytest.approx(0.4, abs=0.01)
    assert aspect.min() > 0.749 and aspect.max() < 1.334 and aspect.log().mean().abs() < 0.02


def test_crops_stay_inside_the_picture():
    table = draw(RECIPES["simclr"], 2000, 100, 64, generator())
    corners = torch.tensor([[-0.5, -0.5, 1], [63.5, 63.5, 1], [-0.5, 63.5, 1]])
    places = torch.einsum("bij,kj->bki", table.warp, corners)
    assert places.min() > -0.51 and places.max() < 99.51


def test_rotation_by_a_quarter_and_flip_equal_numpy(photographs):
    table = draw(Recipe(flip=1.0), 16, 96, 96, generator())
    assert np.array_equal(opencv.apply(photographs, table, 96), photographs[:, :, ::-1])
    turned = draw(Recipe(), 1, 96, 96, generator())
    turned.warp[0] = torch.tensor([[0.0, -1.0, 95.0], [1.0, 0.0, 0.0]])
    assert np.array_equal(opencv.apply(photographs[:1], turned, 96)[0], np.rot90(photographs[0]))


def colour_of(recipe, image):
    """The colour change alone, on one float picture [C, h, w] in 0..1, without clipping."""
    table = draw(recipe, 1, image.shape[1], image.shape[1], generator(5))
    matrix, mean_part = table.colour[0, :, :3], table.colour[0, :, 3:]
    return torch.einsum("ij,jhw->ihw", matrix, image) + (mean_part @ image.mean((1, 2)))[:, None, None]


@pytest.mark.parametrize("what", ["brightness", "contrast", "saturation"])
def test_one_colour_step_equals_torchvision(what):
    image = 0.4 + 0.2 * torch.rand(3, 8, 8, generator=generator())
    changed = colour_of(Recipe(**{what: 0.3}, colour_probability=1.0), image)
    adjust = getattr(reference, f"adjust_{what}")
    factors = torch.linspace(0.7, 1.3, 601)
    errors = torch.stack([(adjust(image, float(f)) - changed).abs().max() for f in factors])
    assert errors.min() < 2e-3  # a factor within the range gives this very picture


def test_a_grey_view_is_grey_and_hue_keeps_the_luma():
    image = torch.rand(3, 8, 8, generator=generator())
    grey = colour_of(Recipe(grey=1.0), image)
    assert torch.allclose(grey[0], grey[1]) and torch.allclose(grey[:1], reference.rgb_to_grayscale(image), atol=1e-3)
    luma = torch.tensor([0.299, 0.587, 0.114])
    turned = colour_of(Recipe(hue=0.5, colour_probability=1.0), image)
    assert torch.allclose(torch.einsum("c,chw->hw", luma, turned), torch.einsum("c,chw->hw", luma, image), atol=1e-4)


def test_blur_equals_opencv_with_the_same_sigma(photographs):
    table = draw(Recipe(blur_sigma=(0.02, 0.02), blur_probability=1.0), 16, 96, 96, generator())
    expected = cv2.GaussianBlur(photographs[0], (0, 0), 0.02 * 96, borderType=cv2.BORDER_REPLICATE)
    assert np.array_equal(opencv.apply(photographs, table, 96)[0], expected)


def test_strong_shrinking_does_not_alias():
    stripes = np.zeros((1, 512, 512, 3), np.uint8)
    stripes[:, :, ::2] = 255
    table = draw(Recipe(), 1, 512, 64, generator())
    assert opencv.apply(stripes, table, 64).std() < 1  # point sampling would give black or white
    assert tensor.apply(torch.from_numpy(stripes), table, 64).std() < 1


def test_both_back_ends_agree_when_crops_shrink_by_different_factors(photographs):
    table = draw(RECIPES["simclr"], 16, 96, 20, generator(4))
    assert len(table.shrinking().unique()) > 2
    from_tensor = tensor.apply(torch.from_numpy(photographs), table, 20).permute(0, 2, 3, 1).numpy()
    assert np.abs(opencv.apply(photographs, table, 20) - from_tensor).mean() < 1


def test_views_are_normalised_and_channels_last(photographs):
    spec = NetworkInput(64, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    table = draw(get_recipe("mild"), 16, 96, 64, generator())
    views = random_views(photographs, table, spec, torch.device("cpu"))
    raw = torch.from_numpy(opencv.apply(photographs, table, 64)).permute(0, 3, 1, 2) / 255
    expected = (raw - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
    assert torch.allclose(views, expected, atol=1e-5) and views.is_contiguous(memory_format=torch.channels_last)


def test_the_plain_view_is_the_whole_picture(photographs):
    spec = NetworkInput(48, (0.0,) * 3, (1.0,) * 3)
    views = plain_view(photographs, spec, torch.device("cpu"))
    shrunk = photographs.reshape(16, 48, 2, 48, 2, 3).mean((2, 4)) / 255
    assert np.abs(views.permute(0, 2, 3, 1).numpy() - shrunk).max() < 0.003


def test_an_unknown_recipe_is_named():
    with pytest.raises(ValueError, match="no such recipe; choose one of simclr"):
        get_recipe("wild")
