from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from foveal.compare.cells import subset
from foveal.compare.options import CompareConfig, epochs_for, share_of
from foveal.train.batches import parts_of
from foveal.train.learned import second_labels
from foveal.train.options import TrainConfig, flag
from foveal.train.train import train

PLAIN = TrainConfig(data=(Path("d"),), out=Path("o"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("folds", 1), ("folds", 21), ("coverage", 1.0), ("warm_up", 1.5), ("decay", 0.0), ("epochs", 0),
     ("batch_size", 1)],
)  # fmt: skip
def test_values_out_of_range_are_refused(refuses, name, value):
    with refuses("option.value", flag(name), value):
        replace(PLAIN, **{name: value})


@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({"patience": 3, "folds": 5}, "--folds"),
        ({"layer_decay": 0.8, "freeze": True}, "--freeze"),
        ({"layer_decay": 0.7, "freeze": True}, "--freeze"),
        ({"views": "mild", "freeze": True}, "--freeze"),
        ({"freeze_stages": 1}, "--init random"),
        ({"random_stem": True}, "--init random"),
        ({"freeze": True, "random_stem": True, "init": "imagenet"}, "--random-stem"),
        ({"label_smoothing": 0.1, "loss": "mse"}, "--loss mse"),
        ({"decay": 0.5}, "--schedule cosine"),
        ({"final_rate": 0.1, "schedule": "steps"}, "--schedule steps"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(refuses, options, other):
    name, value = next(iter(options.items()))
    with refuses("option.conflict", flag(name), value, other):
        replace(PLAIN, **options)


@pytest.mark.parametrize(("options", "named"), [({"batch_size": 9}, "batch-size"), ({"folds": 3}, "folds")])
def test_several_processes_need_batches_that_they_can_share_and_no_folds(refuses, monkeypatch, options, named):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refuses("option.value", f"--{named}"):
        train(replace(PLAIN, **options))


@pytest.mark.parametrize(("images", "most"), [(9, 4), (32, 0), (33, 16), (7, 3), (5, 2)])
def test_parts_of_a_batch_are_about_equal_and_none_is_one_image(images, most):
    parts = parts_of(images, most)
    sizes = [part.stop - part.start for part in parts]
    assert sum(sizes) == images and max(sizes) - min(sizes) <= 1 and max(sizes) <= (most or images)
    assert min(sizes) > 1 or most == 2


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize(("images", "most"), [(32, 0), (33, 16), (9, 2), (4, 3)])
def test_processes_share_a_batch_in_the_same_number_of_parts(images, most, world):
    parts = [parts_of(images, most, rank, world) for rank in range(world)]
    assert len({len(own) for own in parts}) == 1  # batch normalisation waits for all of them in each part
    assert [number for own in parts for part in own for number in range(images)[part]] == list(range(images))


def test_label_fractions_are_read_and_checked(refuses):
    assert share_of("10%", 500) == 0.1 and share_of("50", 500) == 0.1 and share_of("900", 500) == 1
    for wrong in ("0%", "110%", "ten", "0.5"):
        with refuses("option.value", "--labels", wrong):
            CompareConfig(data=(Path("d"),), out=Path("o"), labels=(wrong,))
    for wrong in (
        {"seeds": 0},
        {"folds": 1},
        {"folds": 21},
        {"epochs": 0},
        {"init": ("random", "random")},
        {"how": ()},
    ):
        with refuses("option.value", flag(next(iter(wrong)))):
            CompareConfig(data=(Path("d"),), out=Path("o"), **wrong)
    config = CompareConfig(data=(Path("d"),), out=Path("o"), epochs=12)
    assert [epochs_for(config, share) for share in (1.0, 0.25, 0.01, 0.001)] == [12, 24, 120, 120]


def test_smaller_fractions_are_parts_of_larger_ones_with_every_class():
    labels = np.random.default_rng(0).choice(5, 800, p=[0.6, 0.2, 0.1, 0.07, 0.03])
    parts = [subset(labels, share, seed=3) for share in (0.01, 0.1, 0.5, 1.0)]
    for small, large in pairwise(parts):
        assert (large[small]).all() and small.sum() < large.sum()
    assert set(labels[parts[0]]) == set(range(5)) and parts[-1].all()
    assert (subset(labels, 0.1, seed=4) != parts[1]).any()


@pytest.mark.parametrize(("column", "warnings"), [("adjudicated_dme", 1), ("oedema", 0), ("site", 0)])
def test_oedema_under_another_name_does_not_count_silently(column, warnings, capsys):
    columns = pd.DataFrame({"adjudicated_dme": ["0", "1"], "site": ["a", "b"]}, index=["x", "y"])
    prepared = SimpleNamespace(columns=columns, path=Path("set"))
    codes, names = second_labels(prepared, pd.DataFrame({"id": ["y", "x"]}), column)
    assert codes.tolist() == [1, 0] and len(names) == 2
    assert capsys.readouterr().out.count("--second oedema") == warnings
