import pytest
import timm
import torch

from foveal.nets.encoder import create_encoder, feature_size, freeze_stages, normalisation_of
from foveal.nets.heads import Grader, ProjectionHead

ENCODERS = [
    ("small_conv", 1, 28),
    ("residual_conv", 1, 28),
    ("test_resnet", 3, 32),
    ("test_efficientnet", 3, 64),
    ("test_vit", 3, 96),
]


@pytest.mark.parametrize(("name", "channels", "size"), ENCODERS)
def test_any_encoder_gives_features_per_image(name, channels, size):
    encoder = create_encoder(name, channels, size).eval()
    features = encoder(torch.zeros(2, channels, size, size))
    assert features.shape == (2, feature_size(encoder))


def test_a_transformer_is_built_for_the_image_size():
    encoder = create_encoder("test_vit", 3, 96).eval()
    assert encoder(torch.zeros(1, 3, 96, 96)).shape[0] == 1


def test_small_images_get_a_stem_that_keeps_their_resolution():
    small, large = create_encoder("resnet10t", 3, 32), create_encoder("resnet10t", 3, 96)
    assert small.forward_features(torch.zeros(1, 3, 32, 32)).shape[-1] == 4
    assert large.forward_features(torch.zeros(1, 3, 96, 96)).shape[-1] == 3


@pytest.mark.parametrize(
    ("name", "size", "named"),
    [
        ("efficientnet_b99", 64, ("--encoder efficientnet_b99", "efficientnet_b8")),
        ("resnet18 ", 64, ("resnet18,",)),
        ("nothing.like.it", 64, ("small_conv",)),
        ("resnet18.wild", 64, ("--encoder resnet18.wild", "64 px")),
        ("resnet18:avg", 64, ("--encoder resnet18:avg", "resnet18")),
        ("vit_tiny_patch16_224:max", 64, ("--encoder vit_tiny_patch16_224:max", ":avg")),
        ("small_conv", 12, ("--image-size 12", 16)),
        ("nest_tiny", 100, ("--encoder nest_tiny", "100 px", "128 or 224")),
        ("botnet26t_256", 100, ("--encoder botnet26t_256", "100 px", "128 or 256")),
    ],
)
def test_networks_that_cannot_be_opened_are_refused(refuses, name, size, named):
    with refuses("option.value", *named):
        create_encoder(name, 3, size)


@pytest.mark.parametrize("name", ["qwen3_vit_88m_enc", "vit_tiny_patch16_224"])  # one gives a vector for each patch
def test_networks_that_give_no_features_are_refused(refuses, name, monkeypatch):
    if name.startswith("vit"):
        monkeypatch.setattr(timm.models.VisionTransformer, "forward_head", lambda _, last: [last])
    with refuses("option.value", f"--encoder {name}", "[1, D]"):
        create_encoder(name, 3, 32)


@pytest.mark.parametrize("count", [-1, 5, 9])
def test_stages_that_leave_nothing_to_learn_are_refused(refuses, count):
    with refuses("option.value", "--freeze-stages", count, "0 to 4"):
        freeze_stages(create_encoder("test_resnet", 3, 32), count)


def test_networks_without_stages_are_refused(refuses):
    with refuses("option.conflict", "--freeze-stages", "--layer-decay", "Linear"):
        freeze_stages(torch.nn.Linear(2, 2), 1)


def test_normalisation_is_that_of_the_encoder():
    assert normalisation_of("tf_efficientnet_lite0", 3) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation_of("resnet18", 3)[0] == (0.485, 0.456, 0.406)
    assert normalisation_of("small_conv", 1) == normalisation_of("resnet18", 1) == ((0.5,), (0.5,))


def test_heads_have_the_shapes_they_promise():
    assert ProjectionHead(8, 16, 4)(torch.zeros(3, 8)).shape == (3, 4)
    assert Grader(create_encoder("small_conv", 1, 28), 128, 5)(torch.zeros(2, 1, 28, 28)).shape == (2, 5)
