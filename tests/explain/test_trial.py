import math

import numpy as np
import pytest
import torch
from torch import nn

from foveal.evaluate.intervals import Resampling
from foveal.explain.trial import (
    ahead,
    contrast_map,
    lesions_at,
    randomised,
    rank_correlation,
    score_map,
    summarise,
    verdict,
)
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.heads import Grader


@pytest.fixture
def scene():
    """(lesions, retina): two lesions in a retina that fills all but a margin."""
    retina = np.zeros((50, 50), bool)
    retina[5:45, 5:45] = True
    lesions = np.zeros((50, 50), bool)
    lesions[10:14, 10:14] = lesions[30:34, 30:34] = True
    return lesions, retina


def test_a_perfect_map_gets_the_best_of_everything(scene):
    lesions, retina = scene
    found = score_map(lesions.astype(float), lesions, retina)
    assert (found.auc, found.hit, found.energy) == (1.0, 1.0, 1.0)
    assert found.area == pytest.approx(32 / 1600) and found.area < found.hit_chance < 0.1


def test_an_even_or_empty_map_gets_chance(scene):
    for heat in (np.ones((50, 50)), np.zeros((50, 50))):
        found = score_map(heat, *scene)
        assert found.auc == pytest.approx(0.5) and found.energy == pytest.approx(found.area)


def test_a_near_miss_hits_and_a_far_one_does_not(scene):
    for place, hit in (((15, 12), 1.0), ((20, 20), 0.0), ((2, 2), 0.0)):
        heat = np.zeros((50, 50))
        heat[place] = 1
        assert score_map(heat + 1e-3, *scene).hit == hit


def test_a_picture_without_lesions_is_refused(scene, refuses):
    for lesions in (np.zeros((50, 50), bool), np.ones((50, 50), bool)):
        with refuses("image.no_lesions"):
            score_map(np.ones((50, 50)), lesions, scene[1])


def test_enrichment_is_the_ratio_of_means_and_intervals_hold_it(scene):
    random = np.random.default_rng(0)
    scores = [score_map(random.random((50, 50)) + 2 * scene[0], *scene) for _ in range(12)]
    summary = summarise(scores, Resampling(np.arange(12) // 2))
    energy, area, border, hit = (
        np.mean([getattr(one, name) for one in scores]) for name in ("energy", "area", "border_energy", "hit")
    )
    for name, value in (("enrichment", energy / area), ("border_energy", border), ("pointing", hit)):
        assert summary[name]["value"] == pytest.approx(value) and summary[name]["n"] == 12
        assert summary[name]["low"] <= value <= summary[name]["high"]


def test_the_verdict_needs_both_measures(scene):
    random = np.random.default_rng(0)
    good = [score_map(random.random((50, 50)) + scene[0], *scene) for _ in range(8)]
    chance = [score_map(random.random((50, 50)), *scene) for _ in range(8)]
    resampling = Resampling(np.arange(8))
    better, same, worse = (
        ahead(first, second, resampling) for first, second in ((good, chance), (chance, chance[::-1]), (chance, good))
    )
    half = {"auc": better["auc"], "enrichment": same["enrichment"]}
    assert all(entry["low"] > 0 for entry in better.values()) and all(entry["high"] < 0 for entry in worse.values())
    reliable = verdict("m", better, better)
    others = [verdict("m", *pair) for pair in ((better, same), (worse, better), (half, better))]
    assert len({reliable, *others}) == 4 and reliable.startswith("m ")
    assert all(one.split(":")[0] == others[0].split(":")[0] != reliable.split(":")[0] for one in others)


def test_a_pixel_is_lesion_if_mostly_covered():
    mask = np.zeros((8, 8), np.uint8)
    mask[:2, :2], mask[4, 4] = 3, 1
    assert np.argwhere(lesions_at(mask, 4)).tolist() == [[0, 0]]
    assert lesions_at(mask, 8).sum() == 5


def test_contrast_is_where_the_picture_differs_from_its_surroundings():
    pixels = np.full((32, 32, 3), 100, np.uint8)
    pixels[10:14, 20:24, 1] = 180
    heat = contrast_map(pixels, np.full_like(pixels, 100), 32)
    assert 10 <= np.unravel_index(heat.argmax(), heat.shape)[0] < 14 and heat[0, 0] == 0


def small_grader():
    return Grader(create_encoder("small_conv", 3, 16), 128, 3)


def test_randomised_weights_cascade_from_the_answer():
    grader = small_grader()
    changed = {}
    for share in (0.0, 0.5, 1.0):
        copied = randomised(grader, share, 0, torch.rand(8, 3, 16, 16))
        pairs = zip(grader.named_parameters(), copied.parameters(), strict=True)
        changed[share] = {name for (name, old), new in pairs if name.endswith("weight") and not torch.equal(old, new)}
    assert changed[0.0] == {"head.weight"}
    assert changed[0.5] == {"head.weight", "encoder.linear.weight", "encoder.conv2.weight"}
    assert changed[1.0] == changed[0.5] | {"encoder.conv1.weight"}


def test_randomised_weights_keep_their_scale_and_come_from_the_seed():
    grader = small_grader()
    first, again, other = (
        randomised(grader, 1.0, seed, torch.rand(8, 3, 16, 16)).encoder.linear.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.std().item() == pytest.approx(grader.encoder.linear.weight.std().item(), rel=0.02)
    assert isinstance(grader.head, nn.Linear)


@pytest.mark.parametrize("name", ["small_conv", "strided_conv", "residual_conv", "test_resnet"])
def test_random_weights_still_distinguish_pictures(name):
    torch.manual_seed(0)
    encoder = create_encoder(name, 3, 32)
    grader = Grader(encoder, feature_size(encoder), 3).eval()
    for parameter in encoder.parameters():  # as after training: many weights are below 0, and statistics are its own
        parameter.data -= 0.5 * parameter.std(correction=0)
    pictures = torch.rand(16, 3, 32, 32)
    answers = randomised(grader, 1.0, 0, pictures)(pictures)
    assert answers.std(0).min() > 1e-3


def test_rank_correlation_depends_on_order_only():
    retina = np.ones((8, 8), bool)
    heat = np.random.default_rng(0).random((8, 8))
    assert rank_correlation(heat, heat**3, retina) == pytest.approx(1)
    assert rank_correlation(heat, -heat, retina) == pytest.approx(-1)
    assert math.isnan(rank_correlation(heat, np.zeros((8, 8)), retina))
