"""Views on a CUDA device: the picture of the CPU, without a wait; skipped where there is none."""

import numpy as np
import pytest
import torch

from foveal.augment import opencv, tensor
from foveal.augment.draw import column, draw
from foveal.augment.recipes import RECIPES, recipe_pair
from foveal.augment.views import NetworkInput, random_views
from foveal.sources.phantom import draw_phantom

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def photographs(size, count=32):
    random = np.random.default_rng(0)
    return np.stack([draw_phantom(n % 5, "left", size, random).image for n in range(count)])


@pytest.mark.parametrize("sizes", [(96, 72), (97, 31), (128, 32)], ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_the_device_makes_the_picture_of_the_cpu(name, sizes):
    images = photographs(sizes[0])
    table = draw(recipe_pair(name)[1], len(images), *sizes, torch.Generator().manual_seed(0))
    on_device = tensor.apply(torch.from_numpy(images).cuda(), table, sizes[1]).permute(0, 2, 3, 1).cpu().numpy()
    difference = np.abs(on_device - opencv.apply(images, table, sizes[1]))
    written = column(table.values, "quality")[:, 0].numpy() > 0
    assert difference[~written].max() <= 2
    assert not written.any() or difference[written].mean() <= 1.5


@pytest.mark.parametrize("name", ["simclr", "fundus", "byol"])
def test_views_never_wait_for_the_device(name):
    images = torch.from_numpy(photographs(96)).cuda()
    spec = NetworkInput(40, (0.5,) * 3, (0.25,) * 3)
    recipe = recipe_pair(name)[1]
    generator = torch.Generator().manual_seed(0)
    random_views(images, draw(recipe, 32, 96, 40, generator), spec, images.device)  # constants are sent once
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = random_views(images, draw(recipe, 32, 96, 40, generator), spec, images.device, torch.bfloat16)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert views.dtype == torch.bfloat16 and views.is_contiguous(memory_format=torch.channels_last)
    assert bool(views.isfinite().all())


def test_bf16_views_are_the_float32_views_rounded():
    images = torch.from_numpy(photographs(96)).cuda()
    table = draw(RECIPES["simclr"], 32, 96, 64, torch.Generator().manual_seed(0))
    full, low = tensor.apply(images, table, 64), tensor.apply(images, table, 64, torch.bfloat16)
    assert torch.equal(low, full.to(torch.bfloat16))


def test_compiled_views_are_the_same():
    images = torch.from_numpy(photographs(96)).cuda()
    table = draw(RECIPES["fundus"], 32, 96, 64, torch.Generator().manual_seed(0))
    sent, tables = tensor.send(table.values, images.device), tensor.jpeg_tables(images.device)
    arguments = (images, sent, tables, table.plan, 64, torch.float32)
    difference = (torch.compile(tensor.render, fullgraph=True)(*arguments) - tensor.render(*arguments)).abs()
    assert difference.mean() < 0.05  # a JPEG's quantisation may fall to the other side
