import pytest
import torch
from torch import nn

from foveal.explain import attribution
from foveal.explain.attribution import attribute
from foveal.explain.explainer import Target, of_class, resolve
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.heads import Grader

CLASSES = ["none", "mild", "severe"]


class Bright(nn.Module):
    """Features: the mean brightness of the upper left quarter, and minus that of the lower right."""

    def forward(self, images):
        half = images.shape[2] // 2
        return torch.stack([images[:, :, :half, :half].mean((1, 2, 3)), -images[:, :, half:, half:].mean((1, 2, 3))], 1)


@pytest.fixture
def linear():
    """A grader whose expected grade rises with the upper left quarter alone."""
    grader = Grader(Bright(), 2, 3)
    with torch.no_grad():
        grader.head.weight.copy_(torch.tensor([[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0]]))
        grader.head.bias.zero_()
    return grader.eval().requires_grad_(False)


def scorer_of(grader, score):
    return lambda images: score(grader(images))


def grader_of(encoder, size):
    torch.manual_seed(0)
    made = create_encoder(encoder, 3, size)
    return Grader(made, feature_size(made), 3).eval().requires_grad_(False)


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion"])
def test_maps_highlight_what_the_answer_depends_on(linear, method):
    image = torch.rand(1, 3, 32, 32) + 0.5
    heat, _, _ = attribute(method, scorer_of(linear, Target("expected grade").score), image, torch.zeros_like(image))
    assert heat.shape == (32, 32) and heat.min() >= 0 and not heat.requires_grad
    assert heat[:16, :16].sum() / heat.sum() > 0.85


def test_what_lowers_the_score_is_not_shown(linear):
    image = torch.full((1, 3, 32, 32), -0.5)  # darker than the baseline: lowers the grade
    scorer = scorer_of(linear, Target("expected grade").score)
    for method in ("integrated-gradients", "occlusion"):
        assert attribute(method, scorer, image, torch.zeros_like(image))[0].max() < 1e-6


def test_integrated_gradients_report_the_error_of_their_sum(linear):
    image = torch.rand(1, 3, 32, 32)
    scorer = scorer_of(linear, Target("expected grade").score)
    assert attribute("integrated-gradients", scorer, image, torch.zeros_like(image))[2] < 0.01
    assert attribute("occlusion", scorer, image, torch.zeros_like(image))[2] is None


@pytest.mark.slow
def test_no_gradients_or_hooks_stay_on_the_model(monkeypatch):
    monkeypatch.setattr(attribution, "WINDOWS", 2)
    monkeypatch.setattr(attribution, "STEPS", 4)
    grader = grader_of("resnet10t", 32)
    before = {name: value.clone() for name, value in grader.state_dict().items()}
    for method in ("integrated-gradients", "occlusion"):
        attribute(
            method,
            scorer_of(grader, Target("expected grade").score),
            torch.randn(1, 3, 32, 32),
            torch.zeros(1, 3, 32, 32),
        )
    assert all(torch.equal(before[name], value) for name, value in grader.state_dict().items())
    assert all(parameter.grad is None for parameter in grader.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in grader.modules())


def test_occlusion_of_one_window_is_the_drop_of_the_score(linear, monkeypatch):
    monkeypatch.setattr(attribution, "WINDOWS", 2)
    scorer, image = scorer_of(linear, Target("expected grade").score), torch.ones(1, 3, 4, 4)
    hidden = image.clone()
    hidden[:, :, :2, :2] = 0
    fall = scorer(image) - scorer(hidden)
    assert torch.allclose(attribute("occlusion", scorer, image, torch.zeros_like(image))[0][0, 0], fall)


def test_targets_match_their_names():
    logits = torch.tensor([[0.2, 1.0, -0.5], [9.0, -9.0, -9.0]])
    probabilities = logits.softmax(1)
    grade = resolve("grade", CLASSES, 1, "expected")
    assert torch.allclose(grade.value(logits), probabilities @ torch.arange(3.0))
    referable = resolve("referable", CLASSES, 1, "expected")
    assert torch.allclose(referable.value(logits), probabilities[:, 1:].sum(1))
    assert torch.allclose(referable.score(logits)[:1], torch.logit(probabilities[:1, 1:].sum(1)), atol=1e-5)
    assert (
        resolve("severe", CLASSES, None, "expected") == resolve("2", CLASSES, None, "expected") == of_class(2, CLASSES)
    )
    assert resolve("grade", CLASSES, 1, "most_probable") is None


@pytest.mark.parametrize(("wanted", "named"), [("referable", ()), ("moderate", CLASSES)])
def test_a_target_that_does_not_exist_is_named(wanted, named, refuses):
    with refuses("option.value", f"--target {wanted}", *named):
        resolve(wanted, CLASSES, None, "expected")
