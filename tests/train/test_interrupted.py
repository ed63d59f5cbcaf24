"""A run that is interrupted anywhere, and started again, ends like one that was not.

Files are put in place by `os.replace` only (foveal/files.py), so a run can be interrupted before and after each of its
calls; what happens between two calls changes no finished file.
"""

import os

import pytest
import torch

import foveal
from foveal import checkpoint
from foveal.runs import read_metrics

TIMINGS = ("images_per_second", "data_wait")
OPTIONS = {"encoder": "small_conv", "epochs": 2, "batch_size": 8, "tta": "none", "views": "plain"}


class InterruptedRunError(Exception):
    pass


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory):
    return foveal.prepare(
        "phantom:22", out=tmp_path_factory.mktemp("interrupted") / "set", size=16, val=0.15, test=0.15
    )


@pytest.fixture(scope="module")
def undisturbed(tiny_set, tmp_path_factory):
    """A run that nothing interrupts, and how often it calls `os.replace`."""
    out, calls, replace = tmp_path_factory.mktemp("interrupted") / "run", [], os.replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", lambda *given: (calls.append(given), replace(*given)))
        foveal.train(tiny_set, out=out, **OPTIONS)
    return out, len(calls)


def train_interrupted(data, out, call, *, after):
    """Train until that call of `os.replace`, and stop before or after it."""
    replace, remaining = os.replace, [call]

    def failing(*given):
        remaining[0] -= 1
        if remaining[0] >= 0 or after:
            replace(*given)
        if remaining[0] < 0:
            raise InterruptedRunError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr(os, "replace", failing)
        foveal.train(data, out=out, **OPTIONS)


def figures(run):
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in read_metrics(run)]


def check_resumes(tiny_set, undisturbed, out, call, *, after):
    train_interrupted(tiny_set, out, call, after=after)
    foveal.train(tiny_set, out=out, **OPTIONS)
    where = f"interrupted {'after' if after else 'before'} call {call}"
    for name in ("predictions.csv", "misgraded.csv", "seen.csv", "model.json"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), f"{name}, {where}"
    assert figures(out) == figures(undisturbed), where
    ours, theirs = (checkpoint.load(run / "best.pt") for run in (out, undisturbed))
    assert ours["epoch"] == theirs["epoch"] and ours["grader"].keys() == theirs["grader"].keys()
    assert all(torch.equal(value, theirs["grader"][key]) for key, value in ours["grader"].items()), where
    assert {path.name for path in out.rglob("*")} == {path.name for path in undisturbed.rglob("*")}, where


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda stream: None)  # against power cuts only, which are not simulated


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_interrupted_anywhere_ends_like_another(tiny_set, undisturbed, tmp_path, after):
    run, calls = undisturbed
    for call in range(calls):
        check_resumes(tiny_set, run, tmp_path / str(call), call, after=after)


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_space(tiny_set, undisturbed, tmp_path, refuses):
    save, calls = torch.save, []

    def fills_the_disk(state, file):
        calls.append(file)
        if len(calls) == 2:
            raise RuntimeError("unexpected pos 704 vs 598")  # what torch says then
        save(state, file)

    with pytest.MonkeyPatch.context() as patch, refuses("output.full", tmp_path / "run" / "checkpoint.pt"):
        patch.setattr(torch, "save", fills_the_disk)
        foveal.train(tiny_set, out=tmp_path / "run", **OPTIONS)
    assert not list((tmp_path / "run").glob(".*"))
    foveal.train(tiny_set, out=tmp_path / "run", **OPTIONS)
    assert figures(tmp_path / "run") == figures(undisturbed[0])
