import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import foveal
from foveal.augment.views import plain_view
from foveal.export import export as module
from foveal.export import graph
from foveal.export.graph import whole_graph
from foveal.fundus.preparation import at_size
from foveal.nets.encoder import create_encoder
from foveal.predict.model import ALL
from foveal.predict.opened import Exported, open_model
from foveal.predict.predictor import Predictor
from foveal.readout.readout import Readout, write_readout
from foveal.runs import sole_writer
from foveal.sets.records import open_prepared

pytestmark = pytest.mark.slow

FILES = {
    "model.onnx", "model.fp16.onnx", "model.pt2", "model.safetensors", "foveal.json", "README.md", "seen.csv",
    "requirements.txt",
}  # fmt: skip


def images_of(data):
    prepared = open_prepared(data)
    return prepared.pixels(prepared.records)


def tree_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def train(data, out, **options):
    return foveal.train(data, out=out, epochs=1, batch_size=8, **options)


def check_parity(run, data, folder):
    """Each file against the run, also where export does not look: the second task, the maps and the features."""
    images, predictor = images_of(data), Predictor(run)
    answers = predictor.answer(images, ALL)
    expected = answers.probabilities
    told = json.loads((folder / "foveal.json").read_text())["files"]
    for file in sorted(folder.glob("*.onnx")):
        model = Exported(file, "cpu")
        close = {"model.onnx": 1e-4, "model.fp16.onnx": 0.05}[file.name]
        theirs = model.answer(images, ALL)
        found = theirs.probabilities
        assert found.sum(1) == pytest.approx(np.ones(len(images)), abs=1e-5)
        assert np.abs(found - expected).max() < close and told[file.name]["largest_difference"] < close
        if model.second is not None:
            assert np.abs(theirs.second - answers.second).max() < close
        for name in ("features", "maps"):
            ours, other = getattr(answers, name), getattr(theirs, name)
            assert (ours is None) == (other is None)
            if ours is not None and file.name == "model.onnx":
                assert np.abs(ours - other).max() < 1e-3 * (1 + np.abs(ours).max())
    program = torch.export.load(folder / "model.pt2").module()
    side = json.loads((folder / "foveal.json").read_text())["input"]["side"]
    for count in (1, 5):  # any number of images
        part = at_size(images[:count], side)
        assert np.abs(program(torch.from_numpy(part))[0].detach().numpy() - expected[:count]).max() < 1e-4


def test_the_files_give_the_probabilities_of_the_run(exported, grader_run, phantom_set):
    assert {file.name for file in exported.iterdir()} == FILES
    check_parity(grader_run, phantom_set, exported)


def test_the_card_tells_what_was_measured(exported, grader_run):
    said, card = json.loads((exported / "foveal.json").read_text()), (exported / "README.md").read_text()
    assert set(said["files"]) == {name for name in FILES if name.startswith(("model.", "encoder"))}
    for name, facts in said["files"].items():
        assert facts["bytes"] == (exported / name).stat().st_size and f"`{name}`" in card
    assert said["files"]["model.onnx"]["parity"] in card and "Not a medical device" in card
    told = (exported / "foveal.json").read_text() + card  # and nothing of where things lay on this machine
    assert str(grader_run.parent) not in told and all("/" not in name for name in said["provenance"]["data"])
    metrics = json.loads((grader_run / "metrics.json").read_text()) if (grader_run / "metrics.json").exists() else None
    assert ("95 % interval" in card) == (metrics is not None)
    assert "\n\n## Origin\n" in card
    seen = pd.read_csv(exported / "seen.csv", dtype=str, keep_default_na=False)
    assert len(seen) == len(pd.read_csv(grader_run / "seen.csv")) and not "".join(seen["id"] + seen["patient"])


def test_the_files_hold_no_path_of_this_machine(exported):
    places = [str(Path(foveal.__file__).parent).encode(), str(Path(torch.__file__).parent).encode(), b"/tmp/"]
    for file in exported.iterdir():
        assert not [place for place in places if place in file.read_bytes()], file


def test_what_names_nobody_still_tells_what_was_learned_from(exported, grader_run, phantom_set, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(phantom_set, other)
    records = open_prepared(phantom_set).records
    records.assign(split=records["split"].replace({"train": "test"})).to_csv(other / "records.csv", index=False)
    table = pd.read_csv(foveal.predict(exported, other, split="test", out=tmp_path / "p.csv"))
    assert (table["split"] == "train").sum() == (records["split"] == "train").sum()


def test_an_exported_file_grades_as_its_run_does(exported, grader_run, phantom_set, tmp_path):
    ours = pd.read_csv(foveal.predict(grader_run, phantom_set, out=tmp_path / "run.csv"))
    theirs = pd.read_csv(foveal.predict(exported / "model.onnx", phantom_set, out=tmp_path / "file.csv"))
    probabilities = [f"p{k}" for k in range(5)]
    pd.testing.assert_frame_equal(ours.drop(columns=probabilities), theirs.drop(columns=probabilities))
    assert (ours[probabilities] - theirs[probabilities]).abs().to_numpy().max() <= 2e-6


@pytest.mark.parametrize(
    ("spoil", "code", "value"),
    [
        (lambda folder: (folder / "foveal.json").unlink(), "export.incomplete", "foveal.json"),
        (lambda folder: (folder / "model.onnx").unlink(), "export.missing", "model.onnx"),
        (lambda folder: (folder / "model.fp16.onnx").replace(folder / "model.onnx"), "export.changed", "model.onnx"),
        (lambda folder: (folder / "foveal.json").write_text('{"format": 99, "foveal": "9.0"}'), "export.format", 99),
        (
            lambda folder: (folder / "foveal.json").write_text('{"format": 1, "tta": "none"}'),
            "export.incomplete",
            "scale",
        ),
    ],
)
def test_files_that_do_not_belong_together_are_refused(exported, tmp_path, refuses, spoil, code, value):
    shutil.copytree(exported, tmp_path / "copy")
    spoil(tmp_path / "copy")
    with refuses(code, tmp_path / "copy", value):
        open_model(tmp_path / "copy" / "model.onnx")


def test_an_exported_file_has_its_own_flips_and_grades_alone(exported, grader_run, refuses):
    for options, code, value in [
        ({"tta": "turns"}, "option.conflict", "flips"),
        ({"device": "mps"}, "option.value", "mps"),
    ]:
        with refuses(code, value):
            open_model(exported, **options)
    with refuses("image.grader", exported):
        foveal.predict(grader_run, exported, exported.parent)


@pytest.fixture
def idle(monkeypatch):
    """Whoever begins to work fails."""
    monkeypatch.setattr(module, "whole_graph", lambda *_: pytest.fail("worked"))


def test_what_cannot_be_exported_is_told_before_any_work(grader_run, phantom_set, tmp_path, idle, refuses):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for options, code, value in [
        ({"out": tmp_path / "full"}, "output.exists", tmp_path / "full"),
        ({"out": tmp_path / "file"}, "option.value", tmp_path / "file"),
        ({"images": tmp_path}, "set.missing", tmp_path),
        ({"formats": ()}, "option.value", "--formats"),
    ]:
        with refuses(code, value):
            foveal.export(grader_run, **{"out": tmp_path / "new", **options})
    with refuses("run.not_a_run", phantom_set):
        foveal.export(phantom_set, out=tmp_path / "new")
    other = foveal.prepare("phantom:6", out=tmp_path / "other", size=24)
    with refuses("set.preparation", other, "size 24"):
        foveal.export(grader_run, out=tmp_path / "new", images=other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "other"]


def test_a_missing_package_is_told_before_any_work(grader_run, tmp_path, monkeypatch, idle, refuses):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refuses("package.missing", "onnx", "onnxruntime", "onnxscript"):
        foveal.export(grader_run, out=tmp_path / "new")


def test_an_export_is_replaced_only_by_a_whole_one_and_reviews_stay(
    exported, grader_run, tmp_path, monkeypatch, refuses
):
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    (out / "reviews.sqlite").write_text("what people said")
    before = tree_of(out)
    (out / ".partial").mkdir()
    (out / ".partial" / "left.onnx").write_text("of an export that was killed")
    with monkeypatch.context() as broken:
        broken.setattr(graph, "EXACT", -1.0)
        with refuses("export.inexact", "model.pt2"):
            foveal.export(grader_run, out=out, formats=("torch",))
    assert tree_of(out) == before and [path.name for path in tmp_path.iterdir()] == ["out"]
    foveal.export(grader_run, out=out, formats=("torch",))
    gone = {"model.onnx", "model.fp16.onnx", "model.safetensors"}
    assert {file.name for file in out.iterdir()} == FILES - gone | {"reviews.sqlite"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_exports_do_not_write_to_one_folder(exported, grader_run, tmp_path, refuses):
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    before = tree_of(out)
    with sole_writer(out, "export"), refuses("output.busy", out):
        foveal.export(grader_run, out=out, formats=("torch",))
    assert tree_of(out) == before


def test_steps_from_grade_to_grade_are_part_of_the_files(grader_run, phantom_set, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(grader_run, run)
    steps = ((4.0, 0.3), (2.0, 1.2), (1.0, 2.9), (5.0, 3.1))
    write_readout(run, Readout(decision="expected", ordered=True, steps=steps, images=60))
    model = json.loads((run / "model.json").read_text()) | {"readout": True}
    (run / "model.json").write_text(json.dumps(model))
    predictor, images = Predictor(run), images_of(phantom_set)
    expected = predictor.probabilities(images)
    assert np.abs(expected - predictor.raw_answers(images).probabilities).max() > 0.05
    found = whole_graph(predictor)[0](torch.from_numpy(at_size(images, model["image_size"])))[0].detach().numpy()
    assert found == pytest.approx(expected, abs=1e-5)


def test_numbers_that_overflow_are_no_file(grader_run, tmp_path, monkeypatch, refuses):
    monkeypatch.setattr(graph, "_answers", lambda *_: np.full((1, 5), np.nan, np.float32))
    with refuses("export.not_finite", "model.pt2"):
        foveal.export(grader_run, out=tmp_path / "out", formats=("torch",))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "loss"),
    [
        ("small_conv", "cross_entropy"),
        ("small_conv", "corn"),
        ("strided_conv", "coral"),
        ("residual_conv", "smooth_l1"),
    ],
)
def test_every_head_and_own_network(phantom_set, tmp_path, encoder, loss):
    run = train(phantom_set, tmp_path / "run", encoder=encoder, loss=loss)
    check_parity(run, phantom_set, foveal.export(run))


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["flips", "turns"])
def test_flips_are_part_of_the_files(phantom_set, grader_run, tmp_path, tta, monkeypatch):
    out = foveal.export(grader_run, out=tmp_path / "out", tta=tta)
    images = images_of(phantom_set)
    expected = Predictor(grader_run, None, tta).probabilities(images)
    plain = Predictor(grader_run, None, "none").probabilities(images)
    assert np.abs(expected - plain).max() > 1e-3  # they do something
    assert np.abs(Exported(out, "cpu").probabilities(images) - expected).max() < 1e-5
    assert Exported(out, "cpu").tta == tta


@pytest.mark.slow
def test_folds_become_one_file(phantom_set, tmp_path, refuses):
    run = train(phantom_set, tmp_path / "run", encoder="small_conv", folds=3)
    out = foveal.export(run)
    assert not (out / "model.safetensors").exists()
    check_parity(run, phantom_set, out)
    with refuses("export.no_format", "encoder"):
        foveal.export(run, out=tmp_path / "none", formats=("encoder",))


@pytest.mark.slow
def test_a_second_task_and_grey_images(tmp_path):
    grey = foveal.prepare("phantom:40", out=tmp_path / "grey", size=32, green=True)
    run = train(grey, tmp_path / "run", encoder="resnet10t", image_size=64)
    out = foveal.export(run)
    check_parity(run, grey, out)
    assert json.loads((out / "foveal.json").read_text())["input"]["shape"] == ["images", 64, 64, 1]
    data = foveal.prepare("phantom:40", out=tmp_path / "data", size=32)
    ids = open_prepared(data).records["id"]
    pd.DataFrame({"id": ids, "oedema": ["yes" if k % 3 else "no" for k in range(len(ids))]}).to_csv(
        data / "columns.csv", index=False
    )
    second = train(data, tmp_path / "second", encoder="small_conv", second="oedema")
    check_parity(second, data, foveal.export(second))


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "side"), [("resnet18", 96), ("efficientnet_b0", 64), ("vit_tiny_patch16_224", 32)])
def test_weights_load_in_timm_and_give_equal_features(phantom_set, tmp_path, encoder, side):
    run = train(phantom_set, tmp_path / "run", encoder=encoder, image_size=side)
    out = foveal.export(run, formats=("onnx", "encoder"))
    predictor = Predictor(run)
    # In float64: after one epoch the order of sums, which changes with the number of threads, is blown up in float32.
    seen = plain_view(images_of(phantom_set)[:8], predictor.input, predictor.device).double()
    with torch.inference_mode():
        features = predictor.grader.encoder.double()(seen)
        ours = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
        assert torch.allclose(ours.double()(seen), features, rtol=1e-6, atol=1e-6)
    told = ours.pretrained_cfg
    assert not {"tag", "license", "paper_ids", "origin_url", "test_input_size"} & {
        *json.loads((out / "config.json").read_text())["pretrained_cfg"]
    }
    assert timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=5)(seen.float()).shape == (8, 5)
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1
    assert tuple(told["mean"]) == predictor.input.mean and tuple(told["input_size"]) == (3, side, side)
    assert 'timm.create_model("hf-hub:USER/NAME", pretrained=True)' in (out / "README.md").read_text()
    card = ModelCard.load(out / "README.md").data
    assert card.library_name == "timm" and encoder in card.tags


def test_the_encoder_file_is_the_runs(exported, grader_run):
    file, run = load_file(exported / "model.safetensors"), Predictor(grader_run).grader.encoder
    assert all(torch.equal(file[name], value) for name, value in run.state_dict().items())


class Framed(torch.nn.Module):
    """An encoder between pixels and a head, with names as in a graph."""

    outputs = ("probabilities",)

    def __init__(self, encoder, features):
        super().__init__()
        self.grader = torch.nn.ModuleDict({"encoder": encoder, "head": torch.nn.Linear(features, 5)})

    def forward(self, pixels):
        images = pixels.permute(0, 3, 1, 2).float() / 255 - 0.5
        return self.grader["head"](self.grader["encoder"](images)).softmax(1)


def check_half(framed, side, folder):
    """Written in float32 and float16, both files answer as the network does; returns the share left in float32."""
    framed.eval()
    graph.write_graph(framed, torch.zeros(2, side, side, 3, dtype=torch.uint8), folder / "model.onnx", "onnx")
    graph.write_half(folder / "model.onnx", folder / "half.onnx")
    pixels = np.random.default_rng(0).integers(0, 255, (3, side, side, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = framed(torch.from_numpy(pixels)).numpy()
    for name, close in (("model.onnx", 1e-5), ("half.onnx", 0.01)):
        session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        assert np.abs(session.run(None, {"pixels": pixels})[0] - expected).max() < close
    weights = onnx.load(folder / "half.onnx").graph.initializer
    sizes = [(each.data_type == onnx.TensorProto.FLOAT, np.prod(each.dims)) for each in weights]
    return sum(size for is_float, size in sizes if is_float) / sum(size for _, size in sizes)


def test_a_transformer_in_float16_is_in_float16(tmp_path):
    encoder = create_encoder("test_vit", 3, 32)
    assert check_half(Framed(encoder, encoder.num_features), 32, tmp_path) < 0.2


class Windows(torch.nn.Module):
    """Attention in five dimensions, as in nest, twins and hiera, which the exporter of ONNX takes no other way."""

    def __init__(self):
        super().__init__()
        self.fused_attn, self.patches = True, torch.nn.Conv2d(3, 8, 4, 4)

    def forward(self, images):
        windows = self.patches(images).flatten(2).transpose(1, 2).reshape(-1, 1, 4, 16, 8)  # [B, heads, windows, n, d]
        if self.fused_attn:
            return torch.nn.functional.scaled_dot_product_attention(windows, windows, windows).mean((1, 2, 3))
        return ((windows / 8**0.5 @ windows.mT).softmax(-1) @ windows).mean((1, 2, 3))


def test_attention_in_five_dimensions_is_taken(tmp_path):
    check_half(Framed(Windows(), 8), 32, tmp_path)


def test_an_encoder_that_the_exporter_cannot_take_is_one_sentence(grader_run, tmp_path, monkeypatch, refuses):
    def fails(*_, **__):
        raise RuntimeError("no such operator\nsee the report")

    monkeypatch.setattr(graph, "traced", fails)
    monkeypatch.setattr(module, "write_half", lambda *_: pytest.fail("worked"))
    for formats, form in ((("onnx", "onnx-fp16"), "onnx"), (("torch",), "torch")):
        with refuses("export.encoder", form, "no such operator", *graph.EXPORTABLE) as caught:
            foveal.export(grader_run, out=tmp_path / "out", formats=formats)
        assert "report" not in str(caught.value)
    monkeypatch.undo()
    monkeypatch.setattr(module, "write_half", fails)  # the other file is written, and ONNX Runtime cannot convert it
    with refuses("export.encoder", "onnx-fp16", "no such operator", *graph.EXPORTABLE):
        foveal.export(grader_run, out=tmp_path / "out", formats=("onnx-fp16",))
    assert not list(tmp_path.iterdir())
