"""Sets that lack the part a verb needs, and runs of another kind, are refused before any work."""

import json
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest

import foveal
from foveal.compare.compare import compare
from foveal.compare.options import CompareConfig
from foveal.config import to_toml
from foveal.serve.work import open_cases
from foveal.sets.records import open_prepared


@pytest.fixture(scope="module")
def without(phantom_set, tmp_path_factory):
    """A function: the phantom set with the images of `part` in `other` instead."""

    def moved(part, other):
        data = tmp_path_factory.mktemp("unfit") / f"no_{part}"
        shutil.copytree(phantom_set, data)
        records = pd.read_csv(data / "records.csv", dtype=str, keep_default_na=False)
        records.assign(split=records["split"].replace(part, other)).to_csv(data / "records.csv", index=False)
        return data

    return moved


def run_of(folder, kind, data):
    """A folder with what `pseudolabel` reads of a run before it loads any weights."""
    folder.mkdir()
    card = open_prepared(data).card
    (folder / "model.json").write_text(json.dumps({"kind": kind, "classes": card["classes"]}))
    (folder / "config.toml").write_text('verb = "train"\n')
    (folder / "provenance.json").write_text(json.dumps({"data": {str(data): card["content_hash"]}}))
    return folder


@pytest.mark.parametrize("known", [{"image_size": 16, "data": {}}, {"data": {"the image size": "16"}}])
def test_combinations_of_another_size_are_refused_before_anything_is_written(phantom_set, tmp_path, refuses, known):
    config = CompareConfig(data=(phantom_set,), out=tmp_path, init=("random",), encoder="strided_conv", how=("probe",))
    (tmp_path / "config.toml").write_text(to_toml("compare", config))
    (tmp_path / "provenance.json").write_text(json.dumps(known))
    with refuses("run.other_size", tmp_path, 16, 32):
        compare(config)
    assert json.loads((tmp_path / "provenance.json").read_text()) == known


def test_without_training_images_there_is_nothing_to_compare_or_to_show(without, tmp_path, refuses):
    data = without("train", "val")
    with refuses("set.missing_part", data):
        foveal.probe(data, init="random", encoder="small_conv")
    with refuses("set.missing_part", data):
        foveal.compare(data, out=tmp_path / "out", init=("random",), encoder="small_conv")
    card = open_prepared(data).card
    with refuses("set.no_labels", data):
        open_cases(data, SimpleNamespace(name="grader", classes=card["classes"], scale=card["scale"]))
    assert not (tmp_path / "out").exists()


def test_without_a_test_part_pseudo_labels_cannot_be_judged(without, tmp_path, refuses):
    data = without("test", "val")
    with refuses("set.missing_part", data, "--rounds 0"):
        foveal.pseudolabel(run_of(tmp_path / "run", "grader", data), data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encoder_gives_no_pseudo_labels(phantom_set, tmp_path, refuses):
    run = run_of(tmp_path / "run", "encoder", phantom_set)
    with refuses("run.not_a_grader", run):
        foveal.pseudolabel(run, phantom_set, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
