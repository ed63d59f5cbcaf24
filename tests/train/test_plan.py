"""--budget: as many whole epochs as fit into a time, folds and growing images included."""

from pathlib import Path

import pytest
import torch

import foveal
from foveal.budget import most_epochs, seconds_of
from foveal.config import read_toml
from foveal.runs import read_metrics
from foveal.sets.records import open_prepared
from foveal.train import plan
from foveal.train.learned import learned_from
from foveal.train.options import TrainConfig
from foveal.train.plan import measure, seconds_of_run
from foveal.train.task import set_up

OPTIONS = {"encoder": "small_conv", "batch_size": 8, "class_weights": "none"}
CONFIG = {"data": (Path("set"),), "out": Path("run"), "image_size": 64, "tta": "flips", "batch_norm": "learn"}


def test_a_run_takes_its_steps_its_validation_and_its_grading():
    work = (100, 20, 50)
    plain = TrainConfig(**CONFIG)
    end = 4 * 50 + 100 + 20  # flips of what is graded at the end, and the looks of training and validation
    assert seconds_of_run(plain, work, 6, 0.1, 0.01) == pytest.approx(6 * 100 * 0.1 + (6 * 20 + end) * 0.01)
    anew = TrainConfig(**CONFIG | {"batch_norm": "re-estimate"})
    assert seconds_of_run(anew, work, 6, 0.1, 0.01) == pytest.approx(60 + (6 * 120 + end) * 0.01)
    growing = TrainConfig(**CONFIG | {"grow_from": 32})  # 32, 64 and 64 px
    assert seconds_of_run(growing, work, 6, 0.1, 0.01) == pytest.approx(2 * 2.5 + 40 + (120 + end) * 0.01)


def test_the_most_epochs_that_fit_are_taken_and_none_is_refused(refuses):
    for seconds in (21, 29.9):
        assert most_epochs(seconds, lambda epochs: 1 + 10 * epochs, 10, "one") == 2
    with refuses("option.value", "--budget", "11 s", "one"):
        most_epochs(10.9, lambda epochs: 1 + 10 * epochs, 10, "one")
    assert [seconds_of(text) for text in ("45s", "90m", "1.5d")] == [45, 5400, 129600]


@pytest.mark.parametrize(("folds", "epochs"), [(0, 4), (2, 3)])
def test_the_epochs_of_a_run_follow_from_its_budget_and_stay(phantom_set, tmp_path, monkeypatch, folds, epochs):
    measured = []
    monkeypatch.setattr(plan, "measure", lambda task, learned: measured.append(1) or (1.0, 0.0))  # a second per image
    learned = len(
        open_prepared(phantom_set).part("train", "val") if folds else open_prepared(phantom_set).part("train")
    )
    budget = f"{(epochs + 0.5) * (learned - learned // folds if folds else learned) * (folds or 1):.0f}s"
    for _ in range(2):  # the second time, all is done
        run = foveal.train(phantom_set, out=tmp_path / "run", budget=budget, folds=folds, **OPTIONS)
    assert measured == [1] and read_toml(run / "config.toml", "train")["epochs"] == epochs
    assert len(read_metrics(run / "fold2" if folds else run)) == epochs


def test_measuring_learns_and_writes_nothing(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MOST_MEASURED", 0.05)
    prepared = open_prepared(phantom_set)
    config = TrainConfig(data=(phantom_set,), out=tmp_path / "run", budget="1h", **OPTIONS)
    task = set_up(config, prepared, torch.device("cpu"))
    step, forward = measure(task, learned_from(prepared, prepared.part("train"), [], None))
    assert 0 < forward < step < 1 and not (tmp_path / "run").exists()


def test_a_linear_probe_has_no_budget(phantom_set, tmp_path, refuses):
    with refuses("option.conflict", "--budget", "--freeze"):
        foveal.train(phantom_set, out=tmp_path / "run", budget="1h", freeze=True, init="imagenet")
    with refuses("option.value", "--budget", "soon"):
        foveal.train(phantom_set, out=tmp_path / "run", budget="soon")
