"""The prepared GPU programs at toy size: every stage runs, leaves a line, and is skipped by the next call."""

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PROGRAMS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def programs(monkeypatch):
    """Runs a program of the folder in this process."""
    monkeypatch.syspath_prepend(str(PROGRAMS))

    def run(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        try:
            importlib.import_module(program).main()
        except SystemExit as ended:
            assert not ended.code

    return run


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_stage_is_stopped_in_time_goes_on_and_is_then_skipped(programs, tmp_path):
    import gpu_stages

    def stages(minutes=60):
        return gpu_stages.Stages(tmp_path, tmp_path / "copy", "program", minutes + (time.monotonic() - began) / 60)

    began, calls = gpu_stages.BEGAN, []
    assert not stages().run("slow", 0.2, lambda: time.sleep(20))
    assert not stages().run("wrong", 5, lambda: {"value": 1 / 0})
    assert stages().run("slow", 5, lambda: calls.append(1) or {"value": 7})
    assert stages().run("slow", 5, lambda: calls.append(2) or {})
    assert not stages(minutes=0).run("late", 5, lambda: calls.append(3) or {})
    assert calls == [1]
    found = lines(tmp_path / "program.jsonl")
    assert [(line["stage"], line["done"]) for line in found] == [("slow", False), ("wrong", False), ("slow", True)]
    assert found[1]["error"].startswith("ZeroDivisionError")
    assert lines(tmp_path / "copy" / "program.jsonl") == found


def test_flops_of_a_training_step_are_three_passes_of_a_convolution(programs):
    import gpu_stages

    # The 3x3 stem alone takes 2 * 27 * 64 * 32^2 a picture; the published network takes 0.56 G multiplications there.
    flops = gpu_stages.training_flops("resnet18", 32)
    assert flops == pytest.approx(3 * 2 * 0.5554e9, rel=0.01)


@pytest.mark.slow
def test_cifar10(programs, tmp_path):
    from gpu_pack import read_cifar10, toy_cifar10

    programs("gpu_pack", "cifar10", "--toy", "--out", tmp_path)
    packed = read_cifar10([tmp_path / f"cifar10-{part}.zip" for part in range(2)])
    for name, array in toy_cifar10().items():
        np.testing.assert_array_equal(packed[name], array)
    asked = ("--toy", "--packs", tmp_path, "--work", tmp_path / "work", "--out", tmp_path / "out", "--minutes", 60)
    programs("gpu_cifar10", *asked)
    found = {line["stage"]: line for line in lines(tmp_path / "out" / "cifar10.jsonl")}
    for name in ("reference", "ours", "s3-7x7", "s3-3x3", "best"):
        line = found[name]
        assert line["done"], line
        assert 0 <= line["knn"]["low"] <= line["knn"]["value"] <= 1
        assert line["linear"]["n"] == line["knn"]["n"] == 100
        assert line["speed"]["images_per_second"] > 0
    assert found["s3-3x3"]["speed"]["tflop_per_second"] > 0
    programs("gpu_cifar10", *asked)
    again = [line["stage"] for line in lines(tmp_path / "out" / "cifar10.jsonl")]
    assert sorted(again) == sorted([*found, "machine"])  # only the machine is written again


@pytest.mark.slow
def test_fundus(programs, tmp_path):
    programs("gpu_pack", "fundus", "--toy", "--out", tmp_path)
    asked = ("--toy", "--packs", tmp_path, "--work", tmp_path / "work", "--out", tmp_path / "out", "--minutes", 60)
    programs("gpu_fundus", *asked, "--copy", tmp_path / "copy")
    found = {line["stage"]: line for line in lines(tmp_path / "copy" / "fundus.jsonl")}
    assert all(line["done"] for line in found.values()), found
    assert found["simclr"]["images"] < found["simclr_all"]["images"] == 200
    rows = pd.DataFrame(found["summary/6-graders"]["rows"])
    assert set(rows["place"]) == {"home", "malaysia", "eyepacs256"}
    assert len(rows) == 3 * 2 * 3 * 2  # places, shares of labels, starts, metrics
    pretrained = rows[rows["start"] != "imagenet"]
    known = [entry for entry in pretrained["against_imagenet"] if entry["low"] is not None]
    assert known and all(entry["low"] <= entry["value"] <= entry["high"] for entry in known)
    assert found["speed/compile-no"]["images_per_second"] > 0
    table = pd.read_csv(tmp_path / "copy" / "fundus_predictions.csv")
    judged = table[table["place"] == "malaysia"].groupby(["start", "labels", "seed"])["id"].nunique()
    assert len(judged) == 6 and set(judged) == {40}
    programs("gpu_fundus", *asked)
    again = [line["stage"] for line in lines(tmp_path / "out" / "fundus.jsonl")]
    assert sorted(again) == sorted([*found, "machine"])
