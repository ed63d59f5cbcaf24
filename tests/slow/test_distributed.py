"""Two and four real processes (gloo) do what one does, and a killed run goes on, in as many processes or in others."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from foveal.runs import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.alone]
MEASURED = ["--precision", "fp32", "--micro-batch", "whole"]
LONGER = [*MEASURED, "--epochs", "12"]
OPTIONS = ["--epochs", "3", "--batch-size", "16", "--simclr.projection-size", "16", "--device", "cpu"]
# One process that has imported everything, and that a line of JSON makes the parent of all ranks of a run: what
# torchrun does, without a start-up of ten seconds each.
SERVER = """
import json, os, signal, sys
from pathlib import Path
import foveal.pretrain.loop
from foveal.cli import main

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    asked = json.loads(line)
    if os.fork():
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    folder = Path(asked["folder"])
    for stream, name in ((1, "said"), (2, "complained")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), stream)
    children = []
    for rank in range(asked["world"]):
        child = os.fork()
        if child == 0:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": asked["world"], "LOCAL_WORLD_SIZE": asked["world"],
                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": asked["port"]}
            os.environ.update({name: str(value) for name, value in place.items()})
            sys.stdout, sys.stderr = os.fdopen(1, "w", 1, closefd=False), os.fdopen(2, "w", 1, closefd=False)
            if "code" in asked:
                exec(asked["code"], {})
                os._exit(0)
            os._exit(main(asked["arguments"]))
        children.append(child)
    (folder / "pids.partial").write_text(json.dumps([os.getpid(), *children]))
    (folder / "pids.partial").rename(folder / "pids")
    codes = [abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) for child in children]
    (folder / "code.partial").write_text(str(max(codes)))
    (folder / "code.partial").rename(folder / "code")
    os._exit(0)
"""


class Running:
    """A run in several processes; its streams and exit code are files in a folder of its own."""

    def __init__(self, server, folder, **asked):
        self.folder = folder
        server.stdin.write(json.dumps({"folder": str(folder), "port": free_port(), **asked}) + "\n")
        server.stdin.flush()
        wait_for((folder / "pids").exists)
        self.leader, *self.ranks = json.loads((folder / "pids").read_text())

    @property
    def ended(self):
        return (self.folder / "code").exists()

    def wait(self):
        """(exit code, standard output, standard error) when all processes have ended."""
        wait_for(lambda: self.ended)
        return int((self.folder / "code").read_text()), *self.streams()

    def streams(self):
        return (self.folder / "said").read_text(), (self.folder / "complained").read_text()

    def kill(self):
        os.killpg(self.leader, signal.SIGKILL)


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """Starts code, or `foveal pretrain`, in so many processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, text=True, env=environment)

    def start(world, **asked):
        return Running(server, tmp_path_factory.mktemp("running"), world=world, **asked)

    yield start
    server.stdin.close()
    server.wait(timeout=60)


@pytest.fixture
def start(launch, phantom_set):
    """Starts a pre-training on the phantom set."""

    def pretraining(out, encoder="small_conv", world=1, more=(), data=phantom_set):
        arguments = ["pretrain", str(data), "--out", str(out), "--encoder", encoder, *OPTIONS, *more]
        return launch(world, arguments=arguments)

    return pretraining


@pytest.fixture
def pretrain(start):
    """Pre-trains on the phantom set to the end, and returns what was said."""

    def to_the_end(*arguments, **options):
        code, said, complained = start(*arguments, **options).wait()
        assert code == 0, complained
        return said

    return to_the_end


def losses(run):
    return [(row["step"], row["loss"]) for row in read_metrics(run)]


@pytest.fixture(scope="module")
def whole(launch, phantom_set, tmp_path_factory):
    """An uninterrupted run of 12 epochs, two steps each, in one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    arguments = ["pretrain", str(phantom_set), "--out", str(out), "--encoder", "small_conv", *OPTIONS, *LONGER]
    assert launch(1, arguments=arguments).wait()[0] == 0
    return out


@pytest.mark.parametrize(
    ("encoder", "processes", "more"),
    [("small_conv", 2, ()), ("small_conv", 4, ("--micro-batch", "2")), ("test_resnet", 2, ())],
)
def test_many_processes_equal_one_with_the_whole_batch(pretrain, tmp_path, encoder, processes, more):
    pretrain(tmp_path / "one", encoder, more=MEASURED)
    said = pretrain(tmp_path / "many", encoder, processes, more=[*MEASURED, *more])
    assert said.count("verdict") == 1  # only the first process speaks
    one, many = losses(tmp_path / "one"), losses(tmp_path / "many")
    assert [step for step, _ in one] == [step for step, _ in many]
    # With batch statistics, rounding of the last digit grows tenfold a step; the exact proof is in the next test.
    compared = len(one) if encoder == "small_conv" else 1
    for (_, first), (_, second) in list(zip(one, many, strict=True))[:compared]:
        assert second == pytest.approx(first, rel=1e-4 if encoder == "small_conv" else 1e-3)
    if encoder == "small_conv":
        weights = [load_file(tmp_path / name / "encoder.safetensors") for name in ("one", "many")]
        assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-4) for key in weights[0])


# Three steps of every method in float64 on a network with BatchNorm: the very network, optimiser and step of a run.
STEPS = """
import os, sys, torch
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from foveal.distributed import joined, mean_over_processes
from foveal.nets.encoder import create_encoder
from foveal.pretrain import options
from foveal.pretrain import step as built
from foveal.pretrain.step import gradients

torch.set_default_dtype(torch.float64)

def config_of(method):
    base = options.PretrainConfig(data=(Path("set"),), out=Path("run"), encoder="test_resnet", method=method,
        batch_size=16, image_size=32, precision="fp32", compile="no", micro_batch="whole", views="simclr",
        learning_rate=0.05, weight_decay=0.0, optimiser="sgd")
    small = options.SimCLROptions(projection_hidden=32, projection_size=16)
    return replace(base, simclr=small) if method == "simclr" else base

# Heads of a few dimensions: double precision is slow.
for method in built.METHODS.values():
    for name, width in {"HIDDEN": 32, "SIZE": 16, "PREDICTION_HIDDEN": 16}.items():
        if hasattr(method, name):
            setattr(method, name, width)

def final_weights(method_name, rank, world):
    torch.manual_seed(0)
    config = config_of(method_name)
    made = built.build(config, 3, create_encoder("test_resnet", 3, 32), torch.device("cpu"), world)
    method = made.method
    made.training_mode()
    part = slice(rank * 16 // world, (rank + 1) * 16 // world)
    for step in range(3):
        images = torch.rand(2, 16, 3, 32, 32, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        identity = (torch.arange(16) // 4)[part] if method.uses_labels else None
        made.optimiser.zero_grad()
        loss, _ = gradients(made.trained, method, [(images[0][part], images[1][part])], identity, nullcontext(), step)
        made.optimiser.step()
        method.after_step(step / 3)
    state = torch.cat([value.double().flatten() for value in method.state_dict().values()])
    return torch.cat([mean_over_processes(loss)[None], state])

with joined(torch.device("cpu")) as (rank, world):
    found = {name: final_weights(name, rank, world) for name in built.METHODS}
    if rank == 0:
        torch.save(found, FILE)
"""


def test_losses_and_final_weights_of_every_method_in_two_and_four_processes_are_those_of_one(launch, tmp_path):
    found = {}
    for world in (1, 2, 4):
        file = tmp_path / f"{world}.pt"
        code, _, complained = launch(world, code=STEPS.replace("FILE", repr(str(file)))).wait()
        assert code == 0, complained
        found[world] = torch.load(file)
    for world in (2, 4):
        for method, state in found[1].items():
            apart = ((found[world][method] - state).norm() / state.norm()).item()
            assert apart < 1e-9, f"{method} in {world} processes: {apart:.1e}"


TUNED = """
import torch
from dataclasses import replace
from pathlib import Path
from foveal.distributed import joined
from foveal.sets.records import open_prepared
from foveal.sets.loader import ImageStore
from foveal.train.batches import feed
from foveal.train.learned import learned_from
from foveal.train.batches import Objective
from foveal.train.options import TrainConfig
from foveal.train.task import build, set_up

def final_weights(loss, batch_size, micro_batch):
    config = TrainConfig(data=(Path("SET"),), out=Path("run"), encoder="test_resnet", init="random", loss=loss,
                         batch_size=batch_size, micro_batch=micro_batch, batch_norm="learn",
                         class_weights="balanced", optimiser="sgd", learning_rate=0.05)
    prepared = open_prepared(Path("SET"))
    task = set_up(config, prepared, torch.device("cpu"))
    learned = learned_from(prepared, prepared.part("train"), [])
    built = build(task, learned)
    built.grader.double()
    objective = Objective(task, learned, built.grader)
    objective.weights = objective.weights.double()
    built.training_mode()
    costs = []
    for batch in feed(task, learned, ImageStore(learned.parts, task.device), 0, 0, None):
        built.optimiser.zero_grad(set_to_none=True)
        cost, _ = objective.backward(replace(batch, inputs=batch.inputs.double(), targets=batch.targets.double()))
        built.optimiser.step()
        costs.append(cost)
    return torch.cat([torch.stack(costs), *(one.double().flatten() for one in built.grader.state_dict().values())])

with joined(torch.device("cpu")) as (rank, world):
    # Of 24 images: the last batch has 4.
    found = {loss: final_weights(loss, 10, 0) for loss in ("ordinal", "cross_entropy")}
    if rank == 0:
        torch.save(found, FILE)
"""


def test_a_fine_tune_in_several_processes_equals_one_with_the_whole_batch(launch, phantom_set, tmp_path):
    found = {}
    for world in (1, 2, 4):
        file = tmp_path / f"{world}.pt"
        code = TUNED.replace("FILE", repr(str(file))).replace("SET", str(phantom_set))
        status, _, complained = launch(world, code=code).wait()
        assert status == 0, complained
        found[world] = torch.load(file)
    for world in (2, 4):
        for loss, state in found[1].items():
            assert ((found[world][loss] - state).norm() / state.norm()).item() < 1e-9, (loss, world)


def test_torchrun_starts_the_same_fine_tune(phantom_set, tmp_path):
    options = ["--encoder", "test_resnet", "--epochs", "3", "--batch-size", "8", "--views", "plain"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    for out, started in (("one", []), ("two", launcher)):
        command = [sys.executable, *started, "-m", "foveal", "train", str(phantom_set), "--out", out, *options]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    first, second = (read_metrics(tmp_path / out) for out in ("one", "two"))
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for one, two in zip(first, second, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-2)
    tables = [pd.read_csv(tmp_path / out / "predictions.csv")[["p0", "p2", "p4"]] for out in ("one", "two")]
    assert np.allclose(*tables, atol=0.02)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(
        path.name for path in (tmp_path / "two").iterdir()
    )


PROGRAM = """
import sys
import foveal
from torch import nn


class Net(nn.Module):
    num_features = 8

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, 2)

    def forward(self, images):
        return self.layer(images).relu().mean((2, 3))


options = {"encoder": Net(), "epochs": 1, "batch_size": 8}
run = foveal.pretrain(sys.argv[1], out="encoder", views="plain", **options)
foveal.train(sys.argv[1], out="grader", init=str(run), **options)
"""


def test_a_program_with_its_own_network_pretrains_and_trains_under_torchrun(phantom_set, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    done = subprocess.run(
        [sys.executable, *launcher, "program.py", str(phantom_set)], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "grader" / "predictions.csv").is_file()


def test_processes_measure_together_what_suits_the_machine(pretrain, tmp_path):
    said = pretrain(tmp_path / "run", world=2, more=["--budget", "25s"])
    assert said.count("--budget 25s allows") == 1 and said.count("verdict") == 1
    assert json.loads((tmp_path / "run" / "auto.json").read_text())["precision"][:4] in ("fp32", "bf16")


def test_torchrun_starts_the_same_run(pretrain, phantom_set, tmp_path):
    arguments = ["pretrain", str(phantom_set), "--out", str(tmp_path / "run"), "--encoder", "small_conv", *OPTIONS]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    command = [sys.executable, *launcher, "-m", "foveal", *arguments, *MEASURED]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    pretrain(tmp_path / "one", more=MEASURED)
    for first, second in zip(losses(tmp_path / "one"), losses(tmp_path / "run"), strict=True):
        assert second == pytest.approx(first, rel=1e-4)


def kill_at_a_random_step(running, run):
    """Wait for some rows and a random while more, then kill -9 every process; returns the last step that was logged."""
    rows = random.SystemRandom().randrange(1, 8)
    wait_for(lambda: ((run / "metrics.jsonl").is_file() and len(read_metrics(run)) >= rows) or running.ended)
    time.sleep(random.SystemRandom().uniform(0, 0.05))
    assert not running.ended, "the run ended before it could be killed"
    running.kill()
    return read_metrics(run)[-1]["step"]


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (1, 2), (2, 4), (2, 1)])
def test_a_run_killed_at_a_random_step_ends_with_the_same_loss(start, pretrain, whole, tmp_path, before, after):
    run = tmp_path / "run"
    killed = kill_at_a_random_step(start(run, world=before, more=LONGER), run)
    assert killed < 24 and not (run / "health.json").exists()
    pretrain(run, world=after, more=LONGER)
    found = losses(run)
    assert [step for step, _ in found] == [step for step, _ in losses(whole)]
    if before == after == 1:
        assert found == losses(whole), f"killed after step {killed}"
    else:
        assert found[-1][1] == pytest.approx(losses(whole)[-1][1], rel=1e-3), f"killed after step {killed}"
    if before == after == 2:  # not nearly the same as an uninterrupted run of two processes, but the same
        pretrain(tmp_path / "two", world=2, more=LONGER)
        assert found == losses(tmp_path / "two"), f"killed after step {killed}"


def test_a_run_of_two_processes_whose_second_dies_says_so_and_goes_on_alone(start, pretrain, whole, tmp_path):
    out = tmp_path / "torn"
    running = start(out, world=2, more=LONGER)
    wait_for((out / "checkpoint.pt").exists)
    assert not running.ended
    os.kill(running.ranks[1], signal.SIGKILL)
    code, _, complained = running.wait()
    assert "[training.process_lost]" in complained and str(out) in complained
    assert "Traceback" not in complained and code != 0
    assert "resuming after step" in pretrain(out, more=LONGER)
    assert losses(out)[-1][1] == pytest.approx(losses(whole)[-1][1], rel=1e-3)


def test_what_only_the_first_process_knows_is_one_clear_error(start, whole, tmp_path):
    code, _, complained = start(whole, world=2, more=[*LONGER, "--simclr.temperature", "0.5"]).wait()
    assert code == 1 and "[run.other_options]" in complained and "process_lost" not in complained
    code, _, complained = start(tmp_path / "run", world=2, more=["--batch-size", "15"]).wait()
    assert code == 1 and "[option.value]" in complained
    shutil.copytree(whole, tmp_path / "changed")
    known = json.loads((whole / "provenance.json").read_text())
    other = known | {"data": dict.fromkeys(known["data"], "0")}
    (tmp_path / "changed" / "provenance.json").write_text(json.dumps(other))
    code, _, complained = start(tmp_path / "changed", world=2, more=LONGER).wait()
    assert code == 1 and "[run.data_changed]" in complained and "process_lost" not in complained
    assert not (tmp_path / "run").exists()


def test_failed_work_ends_with_an_error_and_no_traceback(start, tmp_path):
    code, _, complained = start(tmp_path / "run", data=tmp_path).wait()
    assert code == 1 and "foveal: error [" in complained and "Traceback" not in complained
