"""Photographs unlike those that a grader learned from: scores, limits, files, the column and the batch."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.predict.likeness import (
    FILE,
    KINDS,
    diameter,
    fit_likeness,
    is_batch_unlike,
    looks_of,
    read_likeness,
    write_likeness,
)
from foveal.predict.opened import open_model
from foveal.sets.records import open_prepared


def draw(random, count, shift=0.0):
    """(looks [n, 8], texture [n, 40]): correlated, all moved by `shift` standard deviations."""
    mix = np.random.default_rng(9).normal(size=(40, 40))
    looks = random.normal(size=(count, 8)) * [0.2, 0.3, *[0.1] * 6] + [9, 4, *[0.5] * 6]
    return looks, random.normal(size=(count, 40)) @ mix + shift * 5


@pytest.fixture(scope="module")
def likeness():
    random = np.random.default_rng(0)
    return fit_likeness(*draw(random, 400), *draw(random, 200), 64)


def test_at_most_one_in_twenty_of_the_own_photographs_is_unlike(likeness):
    scores = likeness.scores(*draw(np.random.default_rng(1), 4000))
    assert scores.shape == (4000, 4) and 0.003 < (scores > 1).any(1).mean() <= 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named(likeness, kind):
    looks, texture = draw(np.random.default_rng(2), 50)
    assert sum(words == "" for words in likeness.unlike(looks, texture)) > 40
    where = {"resolution": 0, "sharpness": 1, "colour": 4}
    if kind == "content":
        texture = texture + 60
    else:
        looks[:, where[kind]] += 3
    found = likeness.unlike(looks, texture)
    assert all(words.split()[0] == kind for words in found)


def test_equal_training_photographs_do_not_make_small_differences_unlike():
    looks, texture = np.tile([8.0, 3, *[0.5] * 6], (50, 1)), np.zeros((50, 5))
    likeness = fit_likeness(looks, texture, looks, texture, 64)
    assert likeness.unlike(looks[:1], texture[:1]) == [""]
    assert likeness.unlike(looks[:1] + np.array([0.2, 0.1, *[0] * 6]), texture[:1]) == [""]
    assert likeness.unlike(looks[:1] + np.array([1, 0, *[0] * 6]), texture[:1]) == ["resolution"]


def test_looks_measure_size_sharpness_and_colour():
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    noise[1] = 100
    looks = looks_of(noise, np.array([256.0, 512.0]), 64)
    assert looks[:, 0].tolist() == [8, 9] and looks[0, 1] > 5 and looks[1, 1] == 0
    np.testing.assert_allclose(looks[1, 2:], [*[100 / 255] * 3, 0, 0, 0], atol=1e-6)
    assert looks_of(noise[:0], np.array([]), 64).shape == (0, 8)
    assert diameter(300, 200) == pytest.approx(60000**0.5)
    assert diameter(400, 200, 1 - np.pi * 100**2 / 80000) == pytest.approx(200)


def test_the_file_keeps_everything(likeness, tmp_path):
    assert read_likeness(tmp_path) is None
    write_likeness(tmp_path, likeness)
    other, asked = read_likeness(tmp_path), draw(np.random.default_rng(3), 20, 0.3)
    np.testing.assert_array_equal(other.scores(*asked), likeness.scores(*asked))


def test_a_batch_is_unlike_as_a_whole_when_chance_does_not_explain_it():
    assert not is_batch_unlike(1, 1) and not is_batch_unlike(0, 0) and not is_batch_unlike(10, 100)
    assert is_batch_unlike(8, 10) and is_batch_unlike(20, 100)


@pytest.mark.slow
def test_train_keeps_the_likeness_and_predict_says_it(tmp_path):
    data = foveal.prepare("phantom:120", out=tmp_path / "set", size=32)
    run = foveal.train(data, out=tmp_path / "run", encoder="small_conv", epochs=1, batch_size=16)
    assert (run / FILE).is_file()
    own = pd.read_csv(foveal.predict(run, data, out=tmp_path / "own.csv"), keep_default_na=False)
    assert (own["unlike"] == "").mean() > 0.85 and "unlike" in own
    prepared, model = open_prepared(data), open_model(run, "cpu")
    images = 255 - prepared.pixels(prepared.records)
    looks = looks_of(images, np.full(len(own), 4000.0), int(model.likeness.side))
    strange = model.likeness.unlike(looks, model.answer(images, model.wanted).texture)
    assert all("resolution" in words and "colour" in words for words in strange)
    (run / FILE).unlink()  # as in a run of an earlier version
    assert "unlike" not in pd.read_csv(foveal.predict(run, data, out=tmp_path / "old.csv"))


def test_folds_use_the_likeness_of_the_first(grader_run, photographs, tmp_path):
    model = open_model(grader_run, "cpu")
    image = np.full((1, 32, 32, 3), 100, np.uint8)
    texture = np.repeat(model.answer(image, ("texture",)).texture, 40, axis=0)
    looks = np.repeat(looks_of(image, np.array([80.0]), 32), 40, axis=0)
    run = tmp_path / "run"
    for fold in ("fold1", "fold2"):
        shutil.copytree(grader_run, run / fold)
    write_likeness(run / "fold1", fit_likeness(looks, texture, looks, texture, 32))
    said = json.loads((grader_run / "model.json").read_text()) | {"members": ["fold1", "fold2"], "readout": False}
    (run / "model.json").write_text(json.dumps(said))
    found = pd.read_csv(foveal.predict(run, photographs, out=tmp_path / "p.csv"), keep_default_na=False)
    assert all("colour" in words for words in found["unlike"])


def test_the_statistics_of_earlier_runs_are_left_out(likeness, tmp_path):
    np.savez(tmp_path / FILE, plain=likeness.plain, features=np.zeros((2, 40)))
    assert read_likeness(tmp_path) is None
