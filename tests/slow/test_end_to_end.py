"""Each verb as a user runs it, in one process after the other; and what the real data must give."""

import json
import subprocess
import sys

import pandas as pd
import pytest

import foveal
from foveal.sets.records import open_prepared


def run(*arguments, cwd=None, check=True):
    command = [sys.executable, "-m", "foveal", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=check)


@pytest.mark.slow
def test_the_whole_way_on_phantoms(tmp_path):
    run("prepare", "phantom:240", "--out", "data", "--size", 48, "--labelled", 100, cwd=tmp_path)
    small = ("--encoder", "test_resnet", "--batch-size", 32)
    run("pretrain", "data", "--out", "encoder", *small, "--epochs", 2, cwd=tmp_path)
    options = ("--init", "encoder", "--epochs", 14, "--batch-size", 16, "--learning-rate", 1e-3)
    trained = run("train", "data", "--out", "grader", *options, cwd=tmp_path)
    assert "* " not in trained.stderr and "epoch  14" in trained.stdout
    evaluated = run("evaluate", "grader", cwd=tmp_path)
    assert "quadratic_kappa" in evaluated.stdout
    metrics = json.loads((tmp_path / "grader" / "metrics.json").read_text())["metrics"]
    assert metrics["quadratic_kappa"]["low"] > 0  # the drawn signal is learnable: better than chance, beyond noise
    run("predict", "grader", "data", "--split", "test", "--out", "p.csv", cwd=tmp_path)
    again, first = pd.read_csv(tmp_path / "p.csv"), pd.read_csv(tmp_path / "grader" / "predictions.csv")
    assert (again["grade"].to_numpy() == first[first["split"] == "test"]["grade"].to_numpy()).all()
    run("report", "grader", cwd=tmp_path)
    assert (tmp_path / "grader" / "report.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.slow
def test_the_demo_ends_with_a_report_and_says_what_it_found(tmp_path):
    options = ("--count", 160, "--labelled", 60, "--epochs", 1)
    done = run("demo", "--out", tmp_path / "demo", *options)
    assert "quadratic_kappa" in done.stdout and (tmp_path / "demo" / "report.html").is_file()
    assert len(pd.read_csv(tmp_path / "demo" / "new" / "predictions.csv")) == 3
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "demo" / "data" / "images").iterdir()}
    run("demo", "--out", tmp_path / "demo", *options)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is prepared again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "exit_code", "code", "named"),
    [
        (("prepar", "x"), 2, "option.unknown", "prepare"),
        (("prepare", "empty", "--out", "o"), 1, "source.no_pictures", "empty"),
        (("prepare", "empty", "--out", "o", "--sise", "3"), 2, "option.unknown", "--size"),
        (("prepare", "table/labels.csv", "--out", "o"), 1, "table.missing_column", "--label-column"),
        (("prepare", "phantom:10", "--out", "o", "--classes", "0,1,2,3,9"), 1, "option.value", "'9'"),
        (("prepare", "phantom:10", "--out", "empty", "--val", "2"), 2, "option.value", "--val"),
        (("pretrain", "empty", "--out", "o"), 1, "set.incomplete", "empty"),
        (("train", "empty", "--out", "o"), 1, "set.incomplete", "empty"),
        (("predict", "empty", "x.jpg", "--out", "o.csv"), 1, "image.missing", "x.jpg"),
        (("evaluate", "empty"), 1, "predictions.missing", "empty"),
        (("report", "empty"), 1, "run.not_a_run", "empty"),
        (("train", "empty", "--out", "o", "--config", "nowhere.toml"), 2, "file.missing", "nowhere.toml"),
    ],
)
def test_bad_input_is_one_error_and_an_exit_code(tmp_path, arguments, exit_code, code, named):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "labels.csv").write_text("image,wert\nx,1\n")
    done = run(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == exit_code and f"error [{code}]" in done.stderr and named in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "o").exists() and not (tmp_path / "o.csv").exists()


@pytest.mark.real
def test_messidor2_counts(real_data, tmp_path):
    prepared = open_prepared(foveal.prepare(real_data / "messidor2", out=tmp_path / "m2", size=64))
    labelled = prepared.part("train", "val", "test")
    assert labelled["label"].value_counts().sort_index().tolist() == [784, 195, 244, 52, 19]
    assert len(prepared.part("unlabelled")) == 450
    pairs = [("20051202_54547", "20051202_55498"), ("20051202_54555", "20051202_55484")]
    for one, two in pairs:  # the published photographs that are the same
        hashes = prepared.records[prepared.records["id"].str.startswith((one, two))]
        assert len(hashes) == 2 and hashes["split"].nunique() == 1


@pytest.mark.real
def test_retinamnist_and_mnist_counts(real_data, tmp_path):
    retina = open_prepared(foveal.prepare(real_data / "retinamnist", out=tmp_path / "r"))
    assert retina.part("test")["label"].value_counts().sort_index().tolist() == [174, 46, 92, 68, 20]
    digits = open_prepared(
        foveal.prepare(real_data / "mnist", out=tmp_path / "m", labelled=6000, unlabelled=24000, val=0.0)
    )
    assert [len(digits.part(part)) for part in ("train", "unlabelled", "test")] == [6000, 24000, 10000]
    assert digits.records["label"].dropna().iloc[:1].tolist() != []


@pytest.mark.real
def test_full_resolution_photographs_prepare_without_a_rejection(real_data, tmp_path):
    prepared = open_prepared(
        foveal.prepare(real_data / "eyepacs_fullres", out=tmp_path / "e", size=128, val=0.2, test=0.2)
    )
    assert len(prepared.records) == 10 and prepared.card["rejected"] == 0
    assert prepared.records["group"].nunique() == 5 and set(prepared.records["eye"]) == {"left", "right"}
    assert not prepared.records["flags"].str.contains("no-disc").any()
