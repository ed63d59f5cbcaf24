"""Sets, runs and configurations as version 0.1 wrote them are still read, and give the same numbers."""

import importlib
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from foveal import cli, config
from foveal.cli import main
from foveal.config import field_names
from foveal.evaluate.intervals import Resampling
from foveal.metrics import quadratic_kappa
from foveal.readout.predictions import read_predictions
from foveal.runs import read_metrics
from foveal.sets.records import open_prepared
from foveal.sets.splits import group_codes

ARCHIVE = Path(__file__).with_name("version_0_1.zip")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("version_0_1")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def expected(unpacked):
    return json.loads((unpacked / "expected.json").read_text())


@pytest.fixture(autouse=True)
def _there(unpacked, monkeypatch):
    monkeypatch.chdir(unpacked)


def test_the_set_opens_with_its_parts_and_labels(expected):
    prepared = open_prepared(Path("set"))
    assert {part: prepared.part(part)["id"].tolist() for part in expected["parts"]} == expected["parts"]
    labels = prepared.records.set_index("id")["label"]
    assert {name: int(labels[name]) for name in expected["labels"]} == expected["labels"]


def test_the_grader_predicts_what_it_did(expected, tmp_path):
    out = tmp_path / "predictions.csv"
    assert main(["predict", "grader", "set", "--split", "test", "--device", "cpu", "--out", str(out)]) == 0
    table = pd.read_csv(out).set_index("id")
    for name, probabilities in expected["predict"]["probabilities"].items():
        found = table.loc[name, [f"p{grade}" for grade in range(5)]].tolist()
        assert found == pytest.approx(probabilities, abs=1e-5)
    assert table["grade"].to_dict() == expected["predict"]["grades"]


def test_the_evaluation_is_what_it_was(expected, tmp_path):
    assert main(["evaluate", "grader", "--out", str(tmp_path / "metrics.json")]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    kappa = expected["evaluate"]["quadratic_kappa"]
    assert metrics["about"]["images"] == expected["evaluate"]["images"]
    assert metrics["metrics"]["quadratic_kappa"]["value"] == pytest.approx(kappa["value"], abs=1e-9)
    table = read_predictions(Path("grader/predictions.csv"))
    table = table[table["split"] == "test"]
    labels, grades = (table[name].to_numpy(int) for name in ("label", "grade"))
    resampling = Resampling(group_codes(table["group"]), 200, seed=1)  # as the command of 0.1 asked for
    found = resampling.entry(*resampling.graded(quadratic_kappa, labels, grades, 5), len(table))
    assert found == pytest.approx({name: kappa[name] for name in found})


@pytest.mark.parametrize(("verb", "run"), [("train", "grader"), ("pretrain", "pretrained")])
def test_the_same_command_finds_its_run_finished(expected, capsys, verb, run):
    files = {file: file.stat().st_mtime_ns for file in Path(run).iterdir() if file.suffix == ".pt"}
    assert main([verb, "--config", f"{run}/config.toml"]) == 0
    assert capsys.readouterr().out.count(f"warning: {run}/config.toml") == 1
    assert files == {file: file.stat().st_mtime_ns for file in files}
    kept = [{key: row[key] for key in row if "loss" in key} for row in read_metrics(Path(run))]
    assert [row.get("loss") for row in kept] == pytest.approx([
        row if isinstance(row, float) else row["loss"] for row in expected[verb]["losses"]
    ])  # fmt: skip


OPTIONS = json.loads(Path(__file__).with_name("options_0_1.json").read_text())


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_option_of_0_1_is_still_known(verb):
    gone = set(OPTIONS[verb]) - set(field_names(cli.options_of(verb)))
    assert gone <= {*config.EARLIER["retired"].get(verb, []), *config.EARLIER["renamed"].get(verb, {})}


def test_small_images_first_in_pretraining_are_named_as_ignored(capsys, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('verb = "pretrain"\ndata = ["set"]\nout = "run"\ngrow_from = 32\nepochs = 3\n')
    options = cli.options_of("pretrain")
    assert config.build(options, config.read_options(file, "pretrain", options)).epochs == 3
    assert "grow_from = 32" in capsys.readouterr().out


def test_an_old_configuration_is_read_and_names_what_is_ignored(capsys, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(importlib.import_module("foveal.train.train"), "train", seen.append)
    assert main(["train", "set", "--out", str(tmp_path / "run"), "--config", "config_old.toml"]) == 0
    (read,) = seen
    assert (read.epochs, read.loss, read.layer_decay, read.seed, read.cutoffs) == (3, "focal", 0.9, 7, "half-way")
    gone = {"head_first": 1, "select_on": "accuracy"}.items()
    printed = capsys.readouterr().out
    assert printed.count("warning: ") == 1 and all(f"{name} = {value}" in printed for name, value in gone)
