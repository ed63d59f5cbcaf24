import pytest
import torch

from foveal.explain.explainer import Target
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.heads import Grader, Looking, has_map


@pytest.fixture(params=["softmax", "conditional", "cumulative", "regression"])
def grader(request):
    torch.manual_seed(0)
    encoder = create_encoder("resnet10t", 3, 64)
    grader = Grader(encoder, feature_size(encoder), 5, request.param).eval()
    torch.nn.init.normal_(grader.head.weight, std=0.05)
    return grader.requires_grad_(False)


def grad_cam(grader, score, image):
    """The published formula, feature by feature, times the number of places, for an image [1, C, s, s]."""
    kept = []
    handle = grader.encoder.layer4.register_forward_hook(lambda *arguments: kept.append(arguments[2]))
    (gradient,) = torch.autograd.grad(score(grader(image.requires_grad_()))[0], kept[0])
    handle.remove()
    heat = sum(one.sum() * features for one, features in zip(gradient[0], kept[0].detach()[0], strict=True))
    return heat.clamp_min(0)


@pytest.mark.parametrize("decision", ["expected", "most_probable"])
def test_the_map_is_grad_cam_without_a_backward_pass(grader, decision):
    images = torch.randn(2, 3, 64, 64)
    assert has_map(grader, images[:1])
    logits, features, places = Looking(grader, decision, maps=True)(images)
    assert torch.allclose(logits, grader(images), atol=1e-6) and features.shape == (2, 512)
    for number in range(2):
        target = Target("grade") if decision == "expected" else Target("class", (int(logits[number].argmax()),))
        expected = grad_cam(grader, target.score, images[number : number + 1].clone())
        assert places[number] == pytest.approx(expected, abs=5e-3 * max(float(expected.max()), 1e-6))


def test_the_map_of_another_score_is_grad_cam_of_that_score(grader):
    image, target = torch.randn(1, 3, 64, 64), Target("referable", (2, 3, 4))
    places = Looking(grader, "expected", maps=True, score=target.score)(image)[2]
    expected = grad_cam(grader, target.score, image)
    assert places[0] == pytest.approx(expected, abs=5e-3 * max(float(expected.max()), 1e-6))


@pytest.mark.parametrize(("name", "size"), [("small_conv", 32), ("vit_tiny_patch16_224", 32), ("crossvit_9_240", 240)])
def test_encoders_without_a_map_give_their_features_only(name, size):
    encoder = create_encoder(name, 3, size).eval()
    grader = Grader(encoder, feature_size(encoder), 5).eval()
    images = torch.randn(2, 3, size, size)
    assert not has_map(grader, images[:1])
    logits, features = Looking(grader, "expected", maps=False)(images)
    assert torch.allclose(logits, grader(images)) and len(features) == 2
