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
    # With batch statistics, rounding of the last digit grows tenfold a step; the exact proof is the next test.
    compared = len(one) if encoder == "small_conv" else 1
    for first, second in list(zip(one, two, strict=True))[:compared]:
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-4 if encoder == "small_conv" else 1e-3)


GRADIENTS = """
import os, sys, torch, torch.distributed as dist
from foveal.distributed import gather
from foveal.nets.batchnorm import synchronise
from foveal.nets.encoder import create_encoder

torch.manual_seed(0)
encoder = synchronise(create_encoder("test_resnet", 3, 32)).double().train()
images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
world = int(os.environ.get("WORLD_SIZE", "1"))
if world > 1:
    dist.init_process_group("gloo")
    images = images.chunk(world)[dist.get_rank()]
z = torch.nn.functional.normalize(encoder(images), dim=1)
loss = (5 * z @ gather(z).T).exp().sum(1).log().mean()  # every row against the rows of all processes
loss.backward()
found = torch.cat([loss.detach()[None], *(parameter.grad.flatten() for parameter in encoder.parameters())])
if world > 1:
    dist.all_reduce(found)
    found /= world
if world == 1 or dist.get_rank() == 0:
    torch.save(found, sys.argv[1])
"""


def test_loss_and_gradients_of_two_processes_are_those_of_one_to_the_last_digits(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    found = []
    for processes in (1, 2):
        file = tmp_path / f"{processes}.pt"
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29535"] * (processes - 1)
        subprocess.run([sys.executable, *launcher, str(script), str(file)], check=True, capture_output=True)
        found.append(torch.load(file))
    assert (found[0] - found[1]).norm() / found[0].norm() < 1e-12


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
    assert (
        done.returncode == 1
        and re.search("is not a whole prepared set", done.stderr)
        and "Traceback" not in done.stderr
    )
