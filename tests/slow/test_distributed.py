"""Two real processes under torchrun (gloo) do what one does, and a killed run goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from foveal import checkpoint
from foveal.runs import read_metrics

pytestmark = pytest.mark.slow
OPTIONS = ["--epochs", "3", "--batch-size", "16", "--projection-size", "16", "--device", "cpu"]


def pretrain(data, out, encoder, processes=1, check=True):
    launcher = (
        ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "29533"]
        if processes > 1
        else []
    )
    command = [
        sys.executable,
        *launcher,
        "-m",
        "foveal",
        "pretrain",
        str(data),
        "--out",
        str(out),
        "--encoder",
        encoder,
        *OPTIONS,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=check)


@pytest.mark.parametrize("encoder", ["small_conv", "test_resnet"])
def test_two_processes_equal_one_with_the_whole_batch(phantom_set, tmp_path, encoder):
    pretrain(phantom_set, tmp_path / "one", encoder)
    done = pretrain(phantom_set, tmp_path / "two", encoder, processes=2)
    assert done.stdout.count("verdict") == 1  # only the first process speaks
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for first, second in zip(one, two, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-4)
    weights = [checkpoint.load_weights(tmp_path / name / "encoder.safetensors") for name in ("one", "two")]
    for key, value in weights[0].items():
        assert torch.allclose(value.float(), weights[1][key].float(), atol=2e-3), key


def test_a_batch_that_cannot_be_shared_is_one_clear_error(phantom_set, tmp_path):
    command = OPTIONS[:]
    command[command.index("16")] = "15"
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29534"]
    arguments = ["pretrain", str(phantom_set), "--out", str(tmp_path / "run"), "--encoder", "small_conv", *command]
    done = subprocess.run([sys.executable, *launcher, "-m", "foveal", *arguments], capture_output=True, text=True)
    assert done.returncode != 0 and "a multiple of the 2 process(es)" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wait_for", ["checkpoint.pt", "metrics.jsonl"])
def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(phantom_set, tmp_path, wait_for):
    pretrain(phantom_set, tmp_path / "whole", "small_conv")
    out = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "foveal",
        "pretrain",
        str(phantom_set),
        "--out",
        str(out),
        "--encoder",
        "small_conv",
        *OPTIONS,
    ]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / wait_for).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Path(out / wait_for).exists()
    pretrain(phantom_set, out, "small_conv")
    whole, killed = ([(row["step"], row["loss"]) for row in read_metrics(run)] for run in (tmp_path / "whole", out))
    assert killed == whole


def test_bad_options_end_with_two_and_failed_work_with_one(tmp_path, phantom_set):
    done = pretrain(tmp_path, tmp_path / "run", "small_conv", check=False)
    assert done.returncode == 1 and re.search("is not a prepared set", done.stderr) and "Traceback" not in done.stderr
