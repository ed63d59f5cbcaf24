"""Views are distributed as those of torchvision's reference transforms: effects, and statistics of pictures."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import functional as reference
from torchvision.transforms import v2

from foveal.augment import opencv
from foveal.augment.draw import _hue_matrix, column, draw
from foveal.augment.recipes import RECIPES, Recipe
from foveal.sources.phantom import draw_phantom

pytestmark = pytest.mark.slow  # thousands of pictures through two libraries

N = 3000
# At n = 3,000 each, samples of one distribution differ by more than this in one of a thousand comparisons.
LIMIT = math.sqrt(-math.log(0.001 / 2) / N)
STRENGTHS = {
    "simclr": {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2},
    "cifar": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def table_of(recipe, source=32, view=32):
    return draw(recipe, N, source, view, torch.Generator().manual_seed(0))


def distance(ours, theirs):
    return ks_2samp(np.asarray(ours), np.asarray(theirs)).statistic


def only(name, part):
    """The strength of one part of the jitter, always applied, from the recipe itself."""
    return Recipe(**{part: getattr(RECIPES[name], part)}, colour_probability=1.0)


@pytest.mark.parametrize("name", STRENGTHS)
def test_area_and_aspect_of_crops(name):
    box = column(table_of(RECIPES[name], 160, 128).values, "box").numpy()
    width, height = box[:, 2] - box[:, 0] + 1, box[:, 3] - box[:, 1] + 1
    image = torch.zeros(3, 160, 160)
    drawn = [v2.RandomResizedCrop(128).make_params([image]) for _ in range(N)]
    theirs = np.array([[p["width"], p["height"], p["left"], p["top"]] for p in drawn])
    for ours, other in zip((width, height, box[:, 0], box[:, 1]), theirs.T, strict=True):
        assert distance(ours, other) < LIMIT
    assert distance(width * height, theirs[:, 0] * theirs[:, 1]) < LIMIT
    assert distance(width / height, theirs[:, 0] / theirs[:, 1]) < LIMIT


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("name", STRENGTHS)
def test_factors_of_the_jitter(name, part):
    matrix = table_of(only(name, part)).colour[:, :, :3].numpy()
    # The factor, read from what a difference of two channels (saturation) or a channel (the others) is multiplied by.
    ours = matrix[:, 0, 0] - matrix[:, 1, 0] if part == "saturation" else matrix[:, 0, 0]
    theirs = [v2.ColorJitter(**{part: STRENGTHS[name][part]}).make_params([])[f"{part}_factor"] for _ in range(N)]
    assert distance(ours, theirs) < LIMIT


@pytest.mark.parametrize("name", STRENGTHS)
def test_angles_of_the_hue(name):
    matrix = table_of(only(name, "hue")).colour[:, :, :3].numpy()
    turns = np.arctan2((matrix[:, 1, 0] - matrix[:, 0, 1]) * math.sqrt(3), 3 * matrix[:, 0, 0] - 1) / (2 * math.pi)
    theirs = [v2.ColorJitter(hue=STRENGTHS[name]["hue"]).make_params([])["hue_factor"] for _ in range(N)]
    assert distance(turns, theirs) < LIMIT


def test_shares_of_flips_grey_jitter_and_blur():
    table = table_of(RECIPES["simclr"])
    colour = table.colour[:, :, :3]
    grey = (colour[:, 0] == colour[:, 1]).all(1)
    untouched = (colour == torch.eye(3)).flatten(1).all(1)
    share = {
        "flip": (table.warp[:, 0, 0] < 0).float().mean(), "grey": grey.float().mean(),
        "plain": untouched.float().mean(), "blur": (column(table.values, "sigma") > 0).float().mean(),
    }  # fmt: skip
    for name, expected in {"flip": 0.5, "grey": 0.2, "plain": 0.2 * 0.8, "blur": 0.5}.items():
        assert share[name] == pytest.approx(expected, abs=3.3 * math.sqrt(expected * (1 - expected) / N))


def test_sigma_of_the_blur():
    sigma = column(table_of(RECIPES["simclr"], 256, 224).values, "sigma")
    theirs = [v2.GaussianBlur(23, (0.1, 2.0)).make_params([])["sigma"][0] for _ in range(N // 2)]
    assert distance(sigma[sigma > 0], theirs) < LIMIT * math.sqrt(2)


@pytest.mark.parametrize("turns", [-1 / 3, 1 / 3])
def test_a_third_of_the_hue_circle_is_that_of_hsv(turns):
    image = torch.rand(3, 16, 16)
    ours = torch.einsum("ij,jhw->ihw", torch.from_numpy(_hue_matrix(np.array([turns * 2 * math.pi]))[0]).float(), image)
    assert torch.allclose(ours, reference.adjust_hue(image, turns), atol=1e-4)


@pytest.mark.parametrize(("hue", "tolerance"), [(0.02, 0.012), (0.1, 0.045), (0.2, 0.062)])
def test_how_far_the_hue_is_from_that_of_hsv(hue, tolerance):
    """Of uniformly random colours, which is the hard case: the mean difference stays below the change itself."""
    image, differences, changes = torch.rand(3, 64, 64), [], []
    for turns in np.linspace(-hue, hue, 9):
        matrix = torch.from_numpy(_hue_matrix(np.array([turns * 2 * math.pi]))[0]).float()
        theirs = reference.adjust_hue(image, float(turns))
        ours = torch.einsum("ij,jhw->ihw", matrix, image).clamp(0, 1)
        differences.append((ours - theirs).abs().mean())
        changes.append((theirs - image).abs().mean())
    assert np.mean(differences) < tolerance and np.mean(differences) < np.mean(changes)


@pytest.mark.parametrize(("hue", "tolerance", "limit"), [(False, 0.015, 0.08), (True, 0.05, 0.12)], ids=["", "hue"])
@pytest.mark.parametrize("name", STRENGTHS)
def test_statistics_of_pictures(name, hue, tolerance, limit):
    """Mean and deviation of the channels of 1,000 views, ours and torchvision's, of the same photographs.

    Without hue only the cutting off between steps differs. With it, the red of a retina, saturated as few photographs
    are, keeps its mean with us and its largest channel there.
    """
    random, count = np.random.default_rng(0), 1000
    photographs = np.stack([draw_phantom(n % 5, "left", 32, random).image for n in range(20)])
    images = np.concatenate([photographs] * (count // 20))
    recipe = RECIPES[name] if hue else replace(RECIPES[name], hue=0.0)
    table = draw(recipe, count, 32, 32, torch.Generator().manual_seed(0))
    ours = opencv.apply(images, table, 32) / 255
    steps = [
        v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(**{**STRENGTHS[name], "hue": recipe.hue})], 0.8), v2.RandomGrayscale(0.2),
    ]  # fmt: skip
    transform = v2.Compose(steps)
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    theirs = torch.stack([transform(image) for image in tensors]).permute(0, 2, 3, 1).numpy()
    for channel in range(3):
        a, b = ours[..., channel], theirs[..., channel]
        assert a.mean() == pytest.approx(b.mean(), abs=tolerance) and a.std() == pytest.approx(b.std(), abs=tolerance)
        assert distance(a.mean((1, 2)), b.mean((1, 2))) < limit and distance(a.std((1, 2)), b.std((1, 2))) < limit
