"""The check of maps: they must differ from those of the same network with random weights."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import foveal
from foveal.explain import explainer as check
from foveal.explain.explainer import Explainer, check_maps, randomised, rank_correlation
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.heads import Grader
from foveal.runs import failed_maps
from foveal.sets.records import open_prepared


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


@pytest.fixture(scope="module")
def explained(looking_run, phantom_set, tmp_path_factory):
    """A run whose maps were made and checked."""
    run = shutil.copytree(looking_run, tmp_path_factory.mktemp("explained") / "run")
    foveal.explain(run, phantom_set)
    return run


def test_the_maps_of_the_method_and_those_that_a_server_shows_are_checked(explained):
    found = json.loads((explained / "explain" / "explain.json").read_text(encoding="utf-8"))["checks"]
    assert list(found) == ["integrated-gradients", "gradcam"]
    for one in found.values():
        assert -1 <= one["correlation"] <= 1 and 0 < one["images"] <= check.MOST
        told = one["images"] >= check.LEAST
        assert one["passed"] == (one["correlation"] < check.ALIKE if told else None)


def test_maps_that_do_not_depend_on_the_weights_fail(explained, phantom_set, monkeypatch):
    monkeypatch.setattr(check, "randomised", lambda grader, *_: grader)
    prepared, explainer = open_prepared(phantom_set), Explainer(explained, "grade")
    pictures = list(prepared.pixels(prepared.part("test").head(check.MOST)))
    explained = {method: [(pixels, explainer.explain(pixels, method)) for pixels in pictures]
                 for method in ("gradcam", "integrated-gradients")}  # fmt: skip
    found = check_maps(explainer, explained["gradcam"], list(explained))
    assert [one["passed"] for one in found.values()] == [False, False]
    assert found["gradcam"]["correlation"] == pytest.approx(1)
    few = check_maps(explainer, explained["integrated-gradients"][: check.LEAST - 1], ["integrated-gradients"])
    (few,) = few.values()
    assert few["correlation"] == pytest.approx(1) and few["passed"] is None


def test_a_server_knows_that_its_maps_failed_for_these_weights_only(explained):
    file = explained / "explain" / "explain.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    for passed in (False, True, None):
        result["checks"]["gradcam"]["passed"] = passed
        file.write_text(json.dumps(result), encoding="utf-8")
        assert failed_maps(explained, "gradcam") == (passed is False)
    result["checks"]["gradcam"]["passed"] = False
    file.write_text(json.dumps(result | {"weights": "of another run"}), encoding="utf-8")
    assert not failed_maps(explained, "gradcam") and not failed_maps(explained, "saliency")
