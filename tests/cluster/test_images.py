"""The images and their features: choice, groups across sets, what is read again and what is computed again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.cluster import features
from foveal.cluster.features import PIXEL_SIDE, choose, computed, learned_from
from foveal.sets.records import open_prepared


@pytest.fixture
def writable(phantom_set, tmp_path) -> Path:
    return Path(shutil.copytree(phantom_set, tmp_path / "other"))


def change(folder: Path, name: str, **columns) -> None:
    """Write other values into columns of one of the tables of a set."""
    table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
    table.assign(**columns).to_csv(folder / name, index=False)


def test_images_are_those_of_the_set_in_its_order(phantom_set):
    images, prepared = choose((phantom_set,)), open_prepared(phantom_set)
    assert images.table["id"].tolist() == prepared.records["id"].tolist() and images.of == len(images) == 60
    assert (images.labels == prepared.records["label"].fillna(-1).to_numpy(int)).all() and (images.labels < 0).any()
    groups = prepared.records["group"]
    assert pd.crosstab(images.units, groups).astype(bool).to_numpy().sum() == groups.nunique()
    picked = np.array([7, 3, 50])
    assert (images.pixels(picked) == prepared.pixels(prepared.records.iloc[picked])).all()


def test_a_part_and_a_limit(phantom_set, capsys, monkeypatch):
    test = choose((phantom_set,), "test")
    assert set(test.table["split"]) == {"test"}
    monkeypatch.setattr(features, "MOST", 20)
    some, again = choose((phantom_set,)), choose((phantom_set,))
    assert len(some) == 20 and some.of == 60 and "20 of 60" in capsys.readouterr().out
    assert some.table["id"].tolist() == again.table["id"].tolist()


def test_too_few_images_are_refused(phantom_set, refuses):
    with refuses("set.too_small", "val", 10):
        choose((phantom_set,), "val")


def test_copies_in_two_sets_are_one_group_and_ids_stay_apart(phantom_set, writable):
    change(writable, "records.csv", group="")
    images = choose((phantom_set, writable))
    first, second = images.units[:60], images.units[60:]
    assert (first == second).all() and images.table["id"].is_unique
    assert images.table["source"].unique().tolist() == [phantom_set.name, "other"]
    assert (images.pixels(np.array([61, 1, 60])) == images.pixels(np.array([1, 61, 0]))).all()


def test_labels_on_another_scale_are_ignored(phantom_set, writable, capsys):
    card = json.loads((writable / "card.json").read_text(encoding="utf-8"))
    (writable / "card.json").write_text(json.dumps(card | {"scale": "messidor"}), encoding="utf-8")
    images = choose((phantom_set, writable))
    assert (images.labels[60:] == -1).all() and (images.labels[:60] >= 0).any()
    assert str(writable) in capsys.readouterr().out


def test_sets_prepared_differently_are_refused(phantom_set, writable, refuses):
    card = json.loads((writable / "card.json").read_text(encoding="utf-8"))
    (writable / "card.json").write_text(json.dumps(card | {"options": {**card["options"], "size": 31}}))
    with refuses("set.not_alike", writable, 31):
        choose((phantom_set, writable))


def test_pixels_are_those_of_the_shrunk_image(phantom_set):
    images = choose((phantom_set,))
    found = computed(images, None)
    assert found.values.shape == (60, PIXEL_SIDE**2 * 3) and found.values.dtype == np.float32
    assert found.values[9] == pytest.approx(images.pixels(np.array([9]))[0].ravel() / 255)


def test_directions_have_length_one_and_zeros_stay():
    values = np.array([[3, 4], [0, 0]], np.float32)
    found = features.Features(name="a", source="a", values=values)
    assert found.directions.tolist() == [
        pytest.approx([0.6, 0.8]),
        [0, 0],
    ]


def test_encoder_features_are_those_that_the_grader_sees(phantom_set, grader_run):
    import torch

    from foveal.augment.views import plain_view
    from foveal.predict.predictor import Predictor

    images = choose((phantom_set,))
    found = computed(images, grader_run)
    predictor = Predictor(grader_run)
    with torch.inference_mode():
        view = plain_view(images.pixels(np.arange(60)), predictor.input, predictor.device)
        expected = predictor.grader.encoder(view)
    assert found.values == pytest.approx(expected.numpy(), abs=1e-5)
    assert found.name == "features" and str(grader_run) in found.source


def test_what_the_run_learned_from_is_known(phantom_set, grader_run):
    images = choose((phantom_set,))
    learned = learned_from(images, grader_run)
    split = images.table["split"].to_numpy()
    assert learned[split == "train"].all() and not learned[np.isin(split, ("val", "test"))].any()


def test_a_set_prepared_differently_is_refused_by_a_run(grader_run, tmp_path, refuses):
    other = foveal.prepare("phantom:12", out=tmp_path / "other", size=40)
    with refuses("set.preparation", tmp_path / "other", "size 40", "size 32"):
        computed(choose((other,)), grader_run)
