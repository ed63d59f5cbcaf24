import numpy as np
import pytest
import torch
from torch import nn

from foveal.explain.attribution import Scorer, attribute, feature_maps
from foveal.explain.explainer import Target
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.heads import Grader

FORMS = ["softmax", "conditional", "cumulative", "regression"]  # cross-entropy, CORN, CORAL, squared error
GRADE = Target("expected grade")


def grader_of(encoder, size, form="softmax"):
    torch.manual_seed(0)
    made = create_encoder(encoder, 3, size)
    grader = Grader(made, feature_size(made), 4, form).eval()
    nn.init.normal_(grader.head.weight, std=0.05)
    return grader.requires_grad_(False)


def slow_map(method, features, gradients):
    """The published formula, feature by feature, for A and G [D, h, w]."""
    features, gradients = features.double().numpy(), gradients.double().numpy()
    heat = np.zeros(features.shape[1:])
    for d in range(len(features)):
        weights = gradients[d].clip(0) if method == "layercam" else gradients[d].mean()
        heat += weights * features[d]
    return torch.from_numpy(heat).float().clamp_min(0)


def seen_at(scorer, image, module):
    """A and G [D, h, w] of one module, by a hook of its own."""
    kept = []
    handle = module.register_forward_hook(lambda *arguments: kept.append(arguments[2]))
    (gradient,) = torch.autograd.grad(scorer(image.requires_grad_())[0], kept[0])
    handle.remove()
    return kept[0].detach()[0], gradient[0]


def enlarged(heat, size):
    return nn.functional.interpolate(heat[None, None], (size, size), mode="bilinear")[0, 0]


@pytest.mark.parametrize("form", FORMS)
def test_grad_cam_is_its_formula(form):
    grader = grader_of("strided_conv", 32, form)
    scorer, image = Scorer(grader, GRADE.score), torch.randn(1, 3, 32, 32)
    expected = slow_map("gradcam", *seen_at(scorer, image, grader.encoder.top))
    found = attribute("gradcam", scorer, image, image)
    assert expected.max() > 0 and found.cells == 4
    assert torch.allclose(found.heat, enlarged(expected, 32), rtol=1e-4, atol=1e-4 * float(expected.max()))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_layer_cam_is_its_formula_two_stages_before_the_last(form):
    grader = grader_of("resnet10t", 64, form)
    scorer, image = Scorer(grader, GRADE.score), torch.randn(1, 3, 64, 64)
    expected = slow_map("layercam", *seen_at(scorer, image, grader.encoder.layer2))
    found = attribute("layercam", scorer, image, image)
    assert expected.max() > 0 and found.cells == 8
    assert torch.allclose(found.heat, enlarged(expected, 64), rtol=1e-4, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize(
    ("encoder", "size", "cells"),
    [("resnet10t", 64, 2), ("tf_efficientnet_lite0", 64, 2), ("mobilenetv3_small_050", 64, 2), ("small_conv", 32, 16)],
)
def test_the_last_map_is_found_in_any_convolutional_encoder(encoder, size, cells):
    scorer = Scorer(grader_of(encoder, size), Target("class", (2,)).score)
    found = attribute("gradcam", scorer, torch.randn(1, 3, size, size), torch.zeros(1))
    assert found.cells == cells and found.heat.shape == (size, size)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_of_a_transformer_are_arranged_in_their_grid(form):
    """With a class token, the last block reads places through its first norm and hands none of them on."""
    grader = grader_of("test_vit", 64, form)
    scorer, image = Scorer(grader, GRADE.score), torch.randn(1, 3, 64, 64)
    tokens, gradients = (part[1:] for part in seen_at(scorer, image, grader.encoder.blocks[-1].norm1))
    assert tokens.shape == (16, 64)
    for method in ("gradcam", "layercam"):
        expected = slow_map(method, *(part.T.reshape(-1, 4, 4) for part in (tokens, gradients)))
        found = attribute(method, scorer, image, image)
        assert expected.max() > 0 and found.cells == 4
        assert torch.allclose(found.heat, enlarged(expected, 64), rtol=1e-3, atol=1e-3 * float(expected.max()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "size", "cells"),
    [
        ("swin_tiny_patch4_window7_224", 224, {"gradcam": 7, "layercam": 28}),
        ("vit_tiny_patch16_224", 128, {"gradcam": 8, "layercam": 8}),
        ("vit_base_patch16_siglip_gap_224", 128, {"gradcam": 8}),  # 64 tokens in heads of 64: squares that are no map
        ("mixer_s32_224", 224, {"gradcam": 7}),
        ("convnext_atto", 128, {"gradcam": 4, "layercam": 16}),
    ],
)
def test_maps_of_well_known_encoders(encoder, size, cells):
    scorer = Scorer(grader_of(encoder, size), GRADE.score)
    image = torch.randn(1, 3, size, size)
    for method, places in cells.items():
        found = attribute(method, scorer, image, image)
        assert found.cells == places and found.heat.max() > 0


def test_an_encoder_without_a_map_of_features_is_refused(refuses):
    class Flat(nn.Module):
        num_features = 3

        def forward(self, images):
            return images.mean((2, 3))

    scorer = Scorer(Grader(Flat(), 3, 4).eval().requires_grad_(False), GRADE.score)
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    assert feature_maps(scorer, image) == {}
    with refuses("run.no_maps", "--method layercam"):
        attribute("layercam", scorer, image, image)
