"""Objects of a program where options usually are names: images, encoder, method, views, tracker."""

import copy
import json
import math
import pickle
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

import foveal
from foveal import verbs
from foveal.augment.recipes import RECIPES, Recipe, recipe_pair
from foveal.config import build, to_toml
from foveal.given import Given
from foveal.nets.encoder import create_encoder, feature_size, normalisation_of
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.interface import TwoViews
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.step import gradients
from foveal.runs import Run, read_metrics, read_model
from foveal.sets.records import open_prepared
from foveal.sources.given import given_source

SHORT = {"epochs": 1, "batch_size": 8, "image_size": 24, "micro_batch": "whole", "precision": "fp32"}


class Net(nn.Sequential):
    def __init__(self, width=12):
        layers = nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        super().__init__(*layers)


class Moved(Net):
    """The same network, as if it was imported from another module."""


class Several(nn.Module):
    def forward(self, images):
        return images.mean((2, 3)), images


class Turned(Dataset):
    """40 drawn squares that are brighter in the second class."""

    classes = ("dark", "bright")

    def __len__(self):
        return 40

    def __getitem__(self, number):
        label = number % 2
        return np.random.default_rng(number).integers(100 * label, 156 + 100 * label, (24, 24, 3), np.uint8), label


class Agreement(TwoViews):
    def __init__(self, encoder, features):
        super().__init__(encoder, ProjectionHead(features, features, 8))

    def loss(self, parts, identity):
        first, second = parts
        loss = -nn.functional.cosine_similarity(first, second).mean() + first.var()
        return loss, {"three": 3, "half": 0.5, "array": np.float64(2), "one": torch.ones(1, requires_grad=True)}


def dimmed(images):
    return images.float() / 255 * torch.rand(len(images), 1, 1, 1)


def test_a_name_says_what_was_given_and_keeps_it_in_copies():
    net = Net()
    name = Given(net)
    assert name == f"object:{__name__}.Net" and name.given is net
    assert Given(dimmed) == f"object:{__name__}.dimmed"
    assert Given(Recipe(flip=0.5)).endswith("(flip=0.5)")
    first, second = (Given(partial(Agreement, margin=margin)) for margin in (2.0, 9.0))
    assert first == f"object:{__name__}.Agreement(margin=2.0)" and first != second
    assert Given(partial(partial(dimmed, 1), each=dimmed)) == f"object:{__name__}.dimmed(1, each={__name__}.dimmed)"
    kept = [lambda images: images,
            lambda images: 2 * images]  # fmt: skip
    assert Given(kept[0]) != Given(kept[1]) and Given(kept[0]).startswith(f"object:{__name__}.")
    for kept in (pickle.loads(pickle.dumps(Given(dimmed))), copy.deepcopy(Given(dimmed))):
        assert kept == Given(dimmed) and kept.given is dimmed
    config = build(PretrainConfig, {"data": "x", "out": "y", "method": Given(Agreement), "encoder": name})
    assert f'encoder = "{name}"' in to_toml("pretrain", config)


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_several_paths_can_be_one_list(kind, monkeypatch, refuses):
    monkeypatch.setattr(verbs, "function_of", lambda verb: lambda config: config)
    paths = (Path("a"), Path("b"))
    for verb in (foveal.predict, foveal.explain):
        assert verb("run", kind(["a", Path("b")])).images == verb("run", "a", "b").images == paths
    for verb in (foveal.inspect, foveal.cluster):
        assert verb(kind(["a", Path("b")])).data == verb("a", "b").data == paths
    assert foveal.report(kind(["a", Path("b")])).runs == paths and foveal.predict("run", "ab").images == (Path("ab"),)
    with refuses("option.value", "images", "5"):
        foveal.predict("run", 5)


def test_an_array_in_place_of_a_path_is_not_printed(refuses):
    images = np.stack([Turned()[number][0] for number in range(40)])
    for verb in (foveal.cluster, foveal.probe):
        with refuses("option.value", "ndarray" if verb is foveal.cluster else "tuple", "foveal.prepare") as found:
            verb(images if verb is foveal.cluster else (images, [0] * 40))
        assert len(str(found.value)) < 400


def test_verbs_leave_the_random_numbers_of_the_program_alone(phantom_set, tmp_path):
    calls = [
        lambda: foveal.pretrain(phantom_set, out=tmp_path / "ssl", encoder="small_conv", **SHORT),
        lambda: foveal.train(
            phantom_set, out=tmp_path / "run", encoder="small_conv", epochs=1, image_size=24, batch_size=8
        ),
        lambda: foveal.embed("small_conv", phantom_set, init="random"),
    ]
    for call in calls:
        torch.manual_seed(7)
        before = torch.get_rng_state()
        call()
        assert torch.equal(torch.get_rng_state(), before)


def test_an_encoder_is_a_copy_and_knows_its_width(refuses):
    net = Net()
    made = create_encoder(Given(net), 3, 24)
    assert feature_size(made) == 12 and made is not net and not hasattr(net, "num_features")
    assert all(torch.equal(value, made.state_dict()[key]) for key, value in net.state_dict().items())
    with refuses("encoder.object", 12):
        wrong = Net()
        wrong.num_features = 5
        create_encoder(Given(wrong), 3, 24)
    with refuses("encoder.object", "[2, D]"):
        create_encoder(Given(nn.Conv2d(3, 4, 3)), 3, 24)  # maps, not features
    with refuses("encoder.object", "tuple"):
        create_encoder(Given(Several()), 3, 24)
    with refuses("encoder.object"):
        create_encoder(Given(net), 1, 24)
    with refuses("encoder.object", "object:elsewhere.Net"):
        create_encoder("object:elsewhere.Net", 3, 24)
    net.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    assert normalisation_of(Given(net), 3) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert normalisation_of(Given(net), 1) == ((0.5,), (0.5,))


def test_a_network_of_timm_inside_another_gets_images_as_timm_normalises_them(capsys):
    network = timm.create_model("resnet10t", num_classes=0)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    bare, inside = (np.stack(list(foveal.embed(each, images)["vector"])) for each in (network, nn.Sequential(network)))
    assert np.array_equal(bare, inside) and "pretrained_cfg" not in capsys.readouterr().out
    foveal.embed(Net(), images)
    assert capsys.readouterr().out.count("pretrained_cfg") == 1


@pytest.mark.parametrize("kind", ["arrays", "list", "pillow", "tensor", "unit", "dataset"])
def test_images_of_a_program_become_the_same_pictures(kind):
    images = np.stack([Turned()[number][0] for number in range(40)])
    labels = [number % 2 for number in range(40)]
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2)
    given = {
        "arrays": (images, labels), "list": list(zip(images, labels, strict=True)),
        "pillow": [(Image.fromarray(image), label) for image, label in zip(images, labels, strict=True)],
        "tensor": (channels_first, torch.tensor(labels)), "unit": (channels_first / 255, labels), "dataset": Turned(),
    }[kind]  # fmt: skip
    source = given_source(Given(given), "auto")
    assert np.array_equal(source.images, images) and source.table["label"].tolist() == labels
    assert source.classes == (("dark", "bright") if kind == "dataset" else ("0", "1"))


def test_images_that_are_none_are_refused(refuses):
    grey = np.zeros((24, 24), np.uint8)
    for wrong in ([grey, np.zeros((24, 30), np.uint8)], [grey.astype(float) - 1], [grey[None, None]], ["no image"], 5):
        with refuses("source.arrays"):
            given_source(Given(wrong), "auto")
    for wrong in ({1: 2}, {"images": [grey]}, DataLoader(Turned())):
        with refuses("source.arrays", "Dataset"):
            given_source(Given(wrong), "auto")
    with refuses("source.arrays", 255):
        given_source(Given([np.full((24, 24), 255.0, np.float32)]), "auto")
    with refuses("source.arrays", "dict"):
        given_source(Given([{"image": grey}]), "auto")
    with refuses("source.arrays", "separate arguments"):
        given_source(Given(["one.jpg", "other.jpg"]), "auto")
    with refuses("source.arrays", "builtins.list has 3 labels"):
        given_source(Given((np.stack([grey, grey]), [0, 1, 0])), "auto")
    with refuses("source.no_pictures"):
        given_source(Given([]), "auto")
    with refuses("source.arrays", "same, same"):
        named = Turned()
        named.classes = ["same", "same"]
        given_source(Given(named), "auto")
    assert given_source(Given([grey, grey]), "auto").table["label"].isna().all()
    assert given_source(Given([(grey, 0), (grey, None)]), "icdr").task == "grading"


def test_patients_of_a_program(refuses):
    images = np.stack([Turned()[number][0] for number in range(4)])
    for patients in (
        ["a", "a", "b", None],
        np.array(["a", "a", "b", ""]),
        torch.tensor([7, 7, 8, -1]),
        [7.0, 7, 8, np.nan],
    ):
        table = given_source(Given((images, [0, 1, 0, 1], patients)), "auto").table
        items = list(zip(images, [0, 1, 0, 1], patients, strict=True))
        assert table.equals(given_source(Given(items), "auto").table) and table["label"].tolist() == [0, 1, 0, 1]
        assert table["group"].tolist() in (["a", "a", "b", ""], ["7", "7", "8", ""])
    names = ["x/17_left.png", "x/17_right.png", "x/18_left.png", "x/18_right.png"]
    table = given_source(Given(list(zip(images, [0, 1, 0, 1], names, strict=True))), "auto").table
    assert table["id"].tolist() == [name[:-4] for name in names] and table["file"].tolist() == ["0", "1", "2", "3"]
    assert table["group"].tolist() == ["17", "17", "18", "18"] and set(table["eye"]) == {"left", "right"}
    with refuses("table.duplicate_image", "x/17_left"):
        given_source(Given((images, None, names[:1] * 4)), "auto")
    for wrong in ([1, 2, 3], [{}, 1, 2, 3], [0.5, 1, 2, 3]):
        with refuses("source.arrays"):
            given_source(Given((images, None, wrong)), "auto")


def test_patients_of_a_program_stay_together(tmp_path, refuses):
    images, labels = np.stack([Turned()[number][0] for number in range(40)]), [number % 2 for number in range(40)]
    records = open_prepared(foveal.prepare((images, labels, [n // 4 for n in range(40)]), out=tmp_path / "a")).records
    assert records["group"].nunique() == 10 and records.groupby("group")["split"].nunique().eq(1).all()
    assert records["split"].nunique() == 3
    for option in ({"group_column": "x"}, {"label_column": "x"}):
        with refuses("option.conflict", "--" + next(iter(option)).replace("_", "-")):
            foveal.prepare((images, labels), out=tmp_path / "b", **option)
    with refuses("option.value", "table"):
        foveal.prepare((images, labels), out=tmp_path / "b", dataset="table")


def test_recipes_can_be_given_in_pairs(refuses):
    weak = Recipe(flip=0.5)
    assert recipe_pair(Given(weak)) == (weak, weak)
    assert recipe_pair(Given((weak, dimmed))) == (weak, dimmed)
    assert recipe_pair(Given(("plain", weak)))[0] == RECIPES["plain"]
    for wrong in (5, (weak, weak, weak)):
        with refuses("option.value"):
            recipe_pair(Given(wrong))


@pytest.mark.slow
def test_a_run_with_objects_of_a_program(tmp_path, refuses):
    rows, net, run = [], Net(), tmp_path / "run"
    before = copy.deepcopy(net.state_dict())
    given = {"encoder": net, "method": Agreement, "views": (dimmed, Recipe(flip=0.5)), "tracker": rows.append}
    foveal.pretrain(Turned(), out=run, **given, **SHORT)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert rows == read_metrics(run) and rows[-1]["step"] == 3
    assert [rows[-1][name] for name in ("three", "half", "array", "one")] == [3, 0.5, 2, 1]
    assert read_model(run)["encoder"] == Given(net) and read_model(run)["features"] == 12
    assert (run / "views.jpg").is_file() and open_prepared(tmp_path / "run-data").classes == ["dark", "bright"]
    assert json.loads((run / "provenance.json").read_text())["objects"]["method"] == Given(Agreement)
    learned = load_file(run / "encoder.safetensors")
    assert learned.keys() == before.keys() and not torch.equal(learned["0.weight"], before["0.weight"])
    with refuses("run.other_options", "encoder"):
        foveal.pretrain(Turned(), out=run, **given | {"encoder": nn.Sequential(Net())}, **SHORT)

    # The same command resumes, with the same views, whatever has drawn from the generator before.
    torch.rand(3)
    foveal.pretrain(Turned(), out=tmp_path / "again", **given, **SHORT)
    again = load_file(tmp_path / "again" / "encoder.safetensors")
    assert all(torch.equal(value, again[key]) for key, value in learned.items())

    # A grader begins with it, and opens only with the object.
    options = {"init": str(run), "views": dimmed, "epochs": 1, "batch_size": 8}
    grader = foveal.train(tmp_path / "run-data", out=tmp_path / "grader", encoder=Net(), **options)
    with refuses("encoder.object", Given(net)):
        foveal.load(grader)
    answers = foveal.load(grader, encoder=Moved()).predict([Turned()[1][0]])  # the same network by another name
    assert answers.equals(foveal.load(grader, encoder=Net()).predict([Turned()[1][0]]))
    with refuses("weights.mismatch", 13):
        foveal.load(grader, encoder=Net(13))
    with refuses("weights.mismatch", "encoder.1.0.weight"):
        foveal.load(grader, encoder=nn.Sequential(nn.Identity(), Net()))
    for trained in (run, grader):
        with refuses("encoder.object", Given(net)):
            foveal.embed(trained, tmp_path / "run-data")
        assert len(foveal.embed(trained, tmp_path / "run-data", encoder=Net())) == 40
    exported = foveal.export(grader, encoder=Net(), formats=["torch", "encoder"])
    assert load_file(exported / "model.safetensors").keys() == before.keys() and (exported / "model.pt2").is_file()
    probed = foveal.probe(tmp_path / "run-data", encoder=Net(), init=("random", str(run)), neighbours=3)
    assert set(probed["init"]) == {"random", str(run)}


@pytest.mark.parametrize("wrong", [lambda images: images, lambda images: images.float() - 1, lambda images: None])
def test_views_that_are_none_are_refused(wrong, tmp_path, refuses):
    with refuses("views.object"):
        foveal.pretrain(Turned(), out=tmp_path / "run", encoder="small_conv", views=wrong, preview=True, image_size=16)


@pytest.mark.parametrize("wrong", [lambda encoder, features: encoder, nn.Linear, lambda encoder: encoder])
def test_a_method_that_is_none_is_refused(wrong, tmp_path, refuses):
    with refuses("method.object"):
        foveal.pretrain(Turned(), out=tmp_path / "run", method=wrong, encoder=Net(), **SHORT)


class Unread:
    """Images that no one may read, because an option is wrong."""

    def __len__(self):
        raise AssertionError


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("option.value", {"tracker": "printer"}), ("option.value", {"tracker": [print]}),
        ("option.value", {"views": (dimmed,) * 3}),
        ("method.object", {"method": Agreement(Net(), 12)}), ("method.object", {"method": 5}),
        ("option.unknown", {"epoch": 3}),
    ],
)  # fmt: skip
def test_wrong_objects_are_refused_before_images_are_read(code, given, tmp_path, refuses):
    with refuses(code):
        foveal.pretrain(Unread(), out=tmp_path / "run", **given)


@pytest.mark.parametrize("wrong", [
    lambda first: first, lambda first: torch.tensor(1.0), lambda first: 1.0, lambda first: (first.mean(), {"x": "y"}),
    lambda first: (first.mean(), {"x": first}), lambda first: (first.mean(), 2), lambda first: None,
])  # fmt: skip
def test_a_loss_that_is_none_is_refused(wrong, refuses):
    method = Agreement(Net(), 12)
    method.loss = lambda parts, identity: wrong(parts[0])
    with refuses("method.object", "Agreement"):
        gradients(method, method, [tuple(torch.rand(2, 4, 3, 24, 24))], None, nullcontext(), seed=0)


@pytest.mark.parametrize("name", ["loss", "epoch", "verdict", "learning_rate"])
def test_facts_do_not_replace_values_of_the_run(name, refuses):
    method = Agreement(Net(), 12)
    method.loss = lambda parts, identity: (parts[0].mean(), {"own": 1.0, name: 5.0})
    with refuses("method.object", name):
        gradients(method, method, [tuple(torch.rand(2, 4, 3, 24, 24))], None, nullcontext(), seed=0)


def test_an_encoder_beside_a_network_is_refused(tmp_path, refuses):
    for run in (Net(), "resnet18"):
        with refuses("option.conflict", "encoder"):
            foveal.embed(run, np.zeros((2, 24, 24, 3), np.uint8), encoder=Net())


@pytest.mark.parametrize(("probe", "code"), [(None, "probe.input"), ("none", "training.diverged")])
def test_an_encoder_that_gives_nan_is_named(probe, code, tmp_path, refuses):
    net = Net()
    torch.nn.init.constant_(net[0].weight, math.nan)
    with refuses(code):
        foveal.pretrain(Turned(), out=tmp_path / "run", encoder=net, probe=probe, **SHORT)


def test_a_tracker_that_fails_is_left_out(tmp_path, capsys):
    rows = []
    run = Run(tmp_path, functions=[lambda row: row["none"], rows.append])
    for step in range(3):
        run.log({"step": step})
    assert len(rows) == len(read_metrics(tmp_path)) == 3 and capsys.readouterr().out.count("KeyError") == 1


def test_an_encoder_that_cannot_learn_is_refused(tmp_path, refuses):
    with refuses("encoder.frozen", Given(Net())):
        foveal.pretrain(Turned(), out=tmp_path / "run", encoder=Net().requires_grad_(False), **SHORT)
