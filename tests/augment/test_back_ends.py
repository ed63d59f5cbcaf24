"""The same table gives the same picture on both back ends."""

from functools import cache

import numpy as np
import pytest
import torch

from foveal.augment import opencv, tensor
from foveal.augment.draw import column, draw
from foveal.augment.recipes import RECIPES, Recipe, recipe_pair
from foveal.sources.phantom import draw_phantom

ALONE = {
    "turned, repeated edge": Recipe(rotation=180, crop_area=(0.5, 1.5 / 2)),
    "turned, black edge": Recipe(rotation=180, crop_area=(0.5, 1.0), edge="black"),
    "cropped": Recipe(crop_area=(0.08, 1.0), crop_aspect=(0.75, 4 / 3), flip=0.5, flip_vertical=0.5),
    "cropped, black edge": Recipe(crop_area=(0.3, 1.0), flip=0.5, edge="black"),
    "sometimes cropped": Recipe(crop_area=(0.2, 0.3), crop_probability=0.5),
    "colour": Recipe(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5, colour_probability=0.8, grey=0.2),
    "light": Recipe(tilt=0.5, vignette=0.5, light_probability=0.7),
    "detail": Recipe(detail=(0.1, 1.0), detail_probability=0.8),
    "blur": Recipe(blur_sigma=(0.0, 0.25), blur_probability=0.8),
    "solarise": Recipe(solarise=0.5),
    "cutout": Recipe(cutout_side=(0.1, 1.0), cutout_probability=0.7),
}
JPEG = Recipe(jpeg_quality=(30, 95), jpeg_probability=0.8)
SIZES = [(96, 72), (96, 96), (96, 20), (97, 31), (33, 40), (28, 28)]


def pictures(size, channels, count=12):
    """Half photographs, half noise: uint8 [12, size, size, channels]."""
    return coloured(size, count)[..., :channels].copy()


@cache
def coloured(size, count):
    """The same with three channels; kept, because a hundred tests would draw it anew."""
    random = np.random.default_rng(0)
    drawn = [draw_phantom(n % 5, "left", size, random).image for n in range(count // 2)]
    noise = random.integers(0, 256, (count - count // 2, size, size, 3), dtype=np.uint8)
    images = np.concatenate([np.stack(drawn), noise])
    images.flags.writeable = False
    return images


def both(recipe, images, size):
    table = draw(recipe, len(images), images.shape[1], size, torch.Generator().manual_seed(3))
    ours = tensor.apply(torch.from_numpy(images), table, size)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    return table, opencv.apply(images, table, size).astype(float), ours.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("recipe", ALONE.values(), ids=ALONE)
def test_each_operation_alone(recipe, sizes, channels):
    images = pictures(sizes[0], channels)
    table, on_cpu, on_device = both(recipe, images, sizes[1])
    assert table.values.isfinite().all()
    # OpenCV's result is rounded to whole grey levels: half a level is the least that can be asked for.
    assert np.abs(on_cpu - on_device).max() < 0.55


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sizes", SIZES[:4], ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe(name, sizes, channels):
    for recipe in set(recipe_pair(name)):
        table, on_cpu, on_device = both(recipe, pictures(sizes[0], channels), sizes[1])
        unwritten = column(table.values, "quality")[:, 0].numpy() == 0
        assert unwritten.any() and np.abs(on_cpu - on_device)[unwritten].max() < 0.55


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [72, 96, 31])
def test_a_jpeg_is_the_same_in_the_mean(size, channels):
    images = pictures(96, channels)[:6]
    _, on_cpu, on_device = both(JPEG, images, size)
    assert np.abs(on_cpu - on_device).mean() < 1.5
    assert np.abs((on_cpu - on_device).mean((1, 2))).max() < 0.5  # and nothing gets brighter or takes on a colour
    plain = both(Recipe(), images, size)[1]
    assert np.abs(on_cpu - plain).mean() > 1.5 * np.abs(on_cpu - on_device).mean()  # it is the same loss


def test_crops_of_all_levels_read_their_own_copy():
    table, on_cpu, on_device = both(RECIPES["simclr"], pictures(96, 3, 40), 20)
    assert len(column(table.values, "level")[:, 0].unique()) > 2
    assert np.abs(on_cpu - on_device).max() < 0.55


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fundus", "byol", "cifar"])
def test_the_device_back_end_is_one_graph(name):
    recipe = recipe_pair(name)[1]
    images = torch.from_numpy(pictures(48, 3))
    compiled = torch.compile(tensor.render, fullgraph=True, backend="eager")
    for seed in (0, 1):  # the second table must not need another graph
        table = draw(recipe, 12, 48, 20, torch.Generator().manual_seed(seed))
        arguments = (images, table.values, tensor.jpeg_tables(images.device), table.plan, 20, torch.float32)
        with torch._dynamo.config.patch(error_on_recompile=seed > 0):
            assert torch.allclose(compiled(*arguments), tensor.render(*arguments), atol=1e-3)


def test_autocast_around_it_changes_nothing():
    images = torch.from_numpy(pictures(48, 3))
    table = draw(RECIPES["simclr"], 12, 48, 32, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        within = tensor.apply(images, table, 32)
    assert torch.equal(within, tensor.apply(images, table, 32))
    low = tensor.apply(images, table, 32, torch.bfloat16)
    assert low.dtype == torch.bfloat16 and (low.float() - within).abs().max() <= 0.5
