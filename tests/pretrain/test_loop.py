import json

import numpy as np
import pandas as pd
import pytest
import torch

import foveal
from foveal import checkpoint
from foveal.data.records import open_prepared
from foveal.pretrain import loop
from foveal.pretrain.simclr import SimCLR, SimCLRConfig
from foveal.runs import read_metrics, read_model

OPTIONS = {"encoder": "small_conv", "epochs": 2, "batch_size": 16, "projection_size": 16}


class InterruptedRunError(Exception):
    pass


def interrupt_after(monkeypatch, epochs):
    """Make the process die right after `epochs` checkpoints."""
    written, save = [], checkpoint.save

    def save_and_die(state, path):
        save(state, path)
        written.append(path)
        if len(written) == epochs:
            raise InterruptedRunError

    monkeypatch.setattr(checkpoint, "save", save_and_die)


@pytest.fixture(scope="module")
def finished(phantom_set, tmp_path_factory):
    return foveal.pretrain(phantom_set, out=tmp_path_factory.mktemp("runs") / "whole", **OPTIONS)


def test_a_run_folder_has_all_that_the_plan_says(finished, phantom_set):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "config.toml", "provenance.json", "metrics.jsonl", "checkpoint.pt", "encoder.safetensors", "model.json",
        "health.json", "views.jpg", "seen.csv",
    }  # fmt: skip
    row = read_metrics(finished)[-1]
    wanted = {"step", "epoch", "loss", "learning_rate", "images_per_second", "data_wait", "alignment", "uniformity"}
    assert wanted == set(row) and row["epoch"] == 2
    assert json.loads((finished / "health.json").read_text())["loss_floor"] < row["loss"]
    assert read_model(finished)["preparation"] == open_prepared(phantom_set).card["options"]


def test_the_pool_is_train_and_unlabelled_and_nothing_else(finished, phantom_set):
    seen = set(pd.read_csv(finished / "seen.csv")["id"])
    assert seen == set(open_prepared(phantom_set).part("train", "unlabelled")["id"])


def test_an_interrupted_run_ends_with_the_same_numbers(finished, phantom_set, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        interrupt_after(patch, 1)
        foveal.pretrain(phantom_set, out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run" / "model.json").exists()
    resumed = foveal.pretrain(phantom_set, out=tmp_path / "run", **OPTIONS)
    varying = {"images_per_second", "data_wait"}
    without = [
        [{k: v for k, v in row.items() if k not in varying} for row in read_metrics(r)] for r in (finished, resumed)
    ]
    assert without[0] == without[1]
    one, two = (checkpoint.load_weights(run / "encoder.safetensors") for run in (finished, resumed))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_finished_run_is_not_trained_again(finished, phantom_set):
    before = (finished / "checkpoint.pt").stat().st_mtime_ns
    foveal.pretrain(phantom_set, out=finished, **OPTIONS)
    assert (finished / "checkpoint.pt").stat().st_mtime_ns == before


def test_other_options_in_the_same_folder_are_refused(finished, phantom_set):
    with pytest.raises(ValueError, match="already holds another run .temperature: 0.2 there, 0.5 now"):
        foveal.pretrain(phantom_set, out=finished, **OPTIONS, temperature=0.5)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(phantom_set, tmp_path, monkeypatch):
    forward, calls = SimCLR.forward, []

    def broken(self, view1, view2):
        loss, facts = forward(self, view1, view2)
        calls.append(1)
        return (loss * float("nan") if len(calls) > 3 else loss), facts

    monkeypatch.setattr(SimCLR, "forward", broken)
    with pytest.raises(
        ValueError, match=r"(?s)the loss became nan between steps.*another --out and a lower --learning-rate"
    ):
        foveal.pretrain(phantom_set, out=tmp_path / "run", **(OPTIONS | {"epochs": 3}))
    state = checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    assert state["epoch"] == 1 and all(torch.isfinite(value).all() for value in state["method"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 500}, "--batch-size 500 must be at most the"),
        ({"batch_size": 1}, "at least 2"),
        ({"temperature": 0.0}, "--temperature must be positive"),
        ({"views": "wild"}, "no such recipe"),
        ({"encoder": "resnet1"}, "timm has no such model"),
        ({"init": "imagenet"}, "no ImageNet weights for small_conv"),
        ({"device": "cuda"}, "no CUDA device"),
        ({"temprature": 0.1}, "did you mean 'temperature'"),
    ],
)
def test_wrong_options_fail_before_anything_is_written(phantom_set, tmp_path, options, message):
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ValueError, match=message):
        foveal.pretrain(phantom_set, out=tmp_path / "run", **(OPTIONS | options))
    assert not (tmp_path / "run").exists()


def test_a_pool_that_holds_test_images_is_refused(phantom_set, tmp_path):
    leaky = open_prepared(phantom_set)
    other = tmp_path / "other"
    (other / "images").mkdir(parents=True)
    for name in ("card.json", "measures.csv", "duplicates.csv", "images/00000.npy"):
        (other / name).write_bytes((leaky.path / name).read_bytes())
    records = leaky.records.assign(split="unlabelled", label=pd.NA)
    records.to_csv(other / "records.csv", index=False)
    with pytest.raises(ValueError, match="validation or test images of .* stand in the pool too"):
        foveal.pretrain(phantom_set, other, out=tmp_path / "run", **OPTIONS)


# fmt: off
# Losses of the first 20 steps, written down once. A refactoring must reproduce them; a change of numbers must say so.
GOLDEN = [
    3.43204, 3.43419, 3.43372, 3.43627, 3.43092, 3.42701, 3.4262, 3.43725, 3.40223, 3.4117,
    3.40501, 3.4011, 3.44575, 3.37459, 3.46937, 3.41415, 3.29829, 3.37744, 3.34214, 3.48461,
]
# fmt: on


def test_golden_run(phantom_set, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    run = foveal.pretrain(phantom_set, out=tmp_path / "run", **(OPTIONS | {"epochs": 10, "device": "cpu"}))
    losses = [row["loss"] for row in read_metrics(run)][:20]
    assert losses == pytest.approx(GOLDEN, rel=2e-4)


def test_simclr_learns_views_of_the_same_image_apart_from_others(phantom_set):
    torch.manual_seed(0)
    prepared = open_prepared(phantom_set)
    images = torch.from_numpy(prepared.pixels(prepared.records.head(16))).permute(0, 3, 1, 2) / 255
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32 * 3, 32))
    method = SimCLR(encoder, 32, SimCLRConfig(temperature=0.2, projection_hidden=32, projection_size=16))
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss, facts = method(images + 0.02 * torch.randn_like(images), images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0] and not facts["alignment"].requires_grad
    assert np.isfinite(losses).all()
