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

from foveal.checkpoint import load_weights
from foveal.runs import read_metrics

pytestmark = pytest.mark.slow
OPTIONS = ["--epochs", "3", "--batch-size", "16", "--projection-size", "16", "--device", "cpu"]


def pretrain(data, out, encoder, processes=1, check=True, more=()):
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
        *more,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=check)


@pytest.mark.parametrize(
    ("encoder", "processes", "more"),
    [
        ("small_conv", 2, ()),
        ("small_conv", 4, ("--micro-batch", "2")),
        ("test_resnet", 2, ()),
    ],
)
def test_many_processes_equal_one_with_the_whole_batch(phantom_set, tmp_path, encoder, processes, more):
    pretrain(phantom_set, tmp_path / "one", encoder)
    done = pretrain(phantom_set, tmp_path / "many", encoder, processes, more=more)
    assert done.stdout.count("verdict") == 1  # only the first process speaks
    one, many = (read_metrics(tmp_path / name) for name in ("one", "many"))
    assert [row["step"] for row in one] == [row["step"] for row in many]
    # With batch statistics, rounding of the last digit grows tenfold a step; the exact proof is the next test.
    compared = len(one) if encoder == "small_conv" else 1
    for first, second in list(zip(one, many, strict=True))[:compared]:
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-4 if encoder == "small_conv" else 1e-3)
    if encoder == "small_conv":
        weights = [load_weights(tmp_path / name / "encoder.safetensors") for name in ("one", "many")]
        assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-4) for key in weights[0])


def test_a_run_of_two_processes_whose_second_dies_says_so_and_goes_on_alone(phantom_set, tmp_path):
    pretrain(phantom_set, tmp_path / "whole", "small_conv", more=["--epochs", "40"])
    out = tmp_path / "torn"
    arguments = ["pretrain", str(phantom_set), "--out", str(out), "--encoder", "small_conv", *OPTIONS, "--epochs", "40"]
    processes = []
    for rank in range(2):  # started by hand: torchrun would end the first before it can speak
        world = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29537", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "foveal", *arguments]
        processes.append(subprocess.Popen(command, env=os.environ | world | place, stderr=subprocess.PIPE, text=True))
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    processes[1].send_signal(signal.SIGKILL)
    said = processes[0].communicate(timeout=120)[1]
    processes[1].communicate()
    assert processes[0].returncode == 1 and "another process of this run has ended" in said and "Traceback" not in said
    pretrain(phantom_set, out, "small_conv", more=["--epochs", "40"])
    whole, torn = (read_metrics(run)[-1]["loss"] for run in (tmp_path / "whole", out))
    assert torn == pytest.approx(whole, rel=1e-3)


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
