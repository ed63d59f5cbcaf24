"""The command line: exit codes, and how errors and help are printed."""

import importlib

import pytest
import torch

from foveal import cli
from foveal.cli import main
from foveal.errors import FovealError


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["pretran"], "option.unknown", "pretrain"),
        (["pretrain", "set", "--out", "run", "--simclr.temperature", "0"], "option.value", "--simclr.temperature"),
        (["pretrain", "set", "--out", "run", "--byol.momentum", "0.5"], "option.conflict", "--byol.momentum"),
        (["pretrain", "--config", "none.toml"], "file.missing", "none.toml"),
        (["pretrain", "set"], "option.missing", "--out"),
        (["train", "set", "--out", "run", "--tempratur", "1"], "option.unknown", "--tempratur"),
        (["pretrain", "set", "--out", "run", "--temperature", "1"], "option.unknown", "--simclr.temperature"),
        (
            ["pretrain", "set", "--out", "run", "--simclr.temprature", "1"],
            "option.unknown",
            "use --simclr.temperature\n",
        ),
        (["prepare", "--sorce", "photos", "--out", "set"], "option.unknown", "without --sorce"),
        (["evaluate", "run", "--precision", "bf16"], "option.unknown", "option of foveal pretrain, foveal train\n"),
        (["prepare", "photos", "--out", "set", "--image-size", "64"], "option.unknown", "use --size\n"),
        (["report", "run", "--zzz", "1"], "option.unknown", "foveal report --help\n"),
        (["train", "set", "--out", "run", "--epochs", "ten"], "option.value", "--epochs"),
        (["train", "set", "--out", "run", "--loss", "l7"], "option.value", "--loss"),
    ],
    ids=str,
)
def test_wrong_use_is_an_error_with_its_code(capsys, arguments, code, named):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith(f"foveal: error [{code}] ") and named in printed.err


@pytest.mark.parametrize(
    ("error", "exit_code", "printed"),
    [
        (
            FovealError("weights.mismatch", "f.pt has 3 classes", expected="5", fix="choose another --init"),
            1,
            "foveal: error [weights.mismatch] f.pt has 3 classes\n  expected: 5\n  to fix it: choose another --init\n",
        ),
        (FovealError("run.damaged", "run is damaged"), 1, "foveal: error [run.damaged] run is damaged\n"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "foveal: error [memory.exhausted] "),
        (MemoryError(), 1, "foveal: error [memory.exhausted] "),
        (RuntimeError("broken"), 1, "foveal: error [internal.error] broken\n"),
        (KeyboardInterrupt(), 130, "foveal: "),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_error_has_its_expectation_and_its_remedy_on_lines_of_their_own(
    capsys, monkeypatch, error, exit_code, printed
):
    def fail(config):
        raise error

    monkeypatch.setattr(importlib.import_module("foveal.predict.cohort"), "evaluate", fail)
    assert main(["evaluate", "run"]) == exit_code
    said = capsys.readouterr().err
    assert said == printed if printed.endswith("init\n") else said.startswith(printed)
    if exit_code == 1:
        with pytest.raises(type(error)):
            main(["evaluate", "run", "--debug"])


@pytest.mark.parametrize(
    "arguments", [["--help"], ["help"], ["pretrain", "-h"], ["train", "set", "--help"], ["--version"]]
)
def test_help_is_no_error(capsys, arguments):
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out and not printed.err


def test_without_a_verb_every_verb_is_named(capsys):
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert all(f"  {verb} " in printed for verb in cli.VERBS)
