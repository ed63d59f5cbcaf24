"""Every replacement of a file can fail: what is left can be used, and the same command ends where it would have."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.errors import FovealError
from foveal.sets.records import open_prepared

OPTIONS = {"size": 32, "fundus": "yes", "group_column": "patient"}
REPLACES = ("replace", "rename", "link")


def interrupted(action, number=None, *, late=False):
    """Run `action`, whose replacement `number` fails, `late`: after it was done; returns how many there were."""
    count = 0

    def counted(real):
        def replace(*arguments, **options):
            nonlocal count
            count += 1
            if count - 1 == number and not late:
                raise OSError(errno.EIO, "Input/output error")
            real(*arguments, **options)
            if count - 1 == number:
                raise OSError(errno.EIO, "Input/output error")

        return replace

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(OSError):
        for name in REPLACES:
            patch.setattr(os, name, counted(getattr(os, name)))
        action()
    return count


def tree_of(folder: Path):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_usable(folder: Path):
    prepared = open_prepared(folder)
    assert len(prepared.pixels(prepared.records)) == len(prepared.measures) == len(prepared.records)
    assert set(prepared.records["id"]) <= set(prepared.columns.index)


def write_source(root: Path, numbers, first=0):
    """Pictures of noise, no two alike, with a table of grades, patients and ages."""
    root.mkdir(exist_ok=True)
    for n in numbers:
        noise = np.random.default_rng(n + first).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f"{n:02d}.png"), noise)
    rows = [
        f"{path.stem},{int(path.stem) % 2},p{path.stem},{50 + n}" for n, path in enumerate(sorted(root.glob("*.png")))
    ]
    (root / "labels.csv").write_text("image,grade,patient,age\n" + "\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    write_source(root / "one", range(10))
    write_source(root / "two", range(6), first=100)
    for name in ("one", "two"):
        foveal.prepare(root / name, out=root / f"set-{name}", **OPTIONS)
    return root


def check_every_interruption(tmp_path, make, late, start=None, step=1):
    """make(out) makes the set `out`, or lets a copy of the set `start` grow; returns the number of replacements.

    step: only every so many replacements fail.
    """

    def begin(name):
        return shutil.copytree(start, tmp_path / name) if start else tmp_path / name

    whole = begin("whole")
    total = interrupted(lambda: make(whole))
    expected = tree_of(whole)
    for number in range(0, total, step):
        out = begin(str(number))
        interrupted(lambda out=out: make(out), number, late=late)
        if start or out.exists():
            check_usable(out)
        make(out)
        assert tree_of(out) == expected, number
        assert not out.with_name(f".{out.name}.partial").exists()
    return total


late_too = pytest.mark.parametrize(
    ("late", "step"),
    [(False, 6), pytest.param(False, 1, marks=pytest.mark.slow), pytest.param(True, 1, marks=pytest.mark.slow)],
)


@pytest.mark.slow
@late_too
def test_a_new_set(sources, tmp_path, late, step):
    def make(out):
        foveal.prepare(sources / "one", out=out, **OPTIONS)

    total = check_every_interruption(tmp_path, make, late, step=step)
    assert total == 10  # started.json, two files of a shard, five tables, the card, and the move


@pytest.mark.slow
@late_too
def test_a_set_that_grows(sources, tmp_path, late, step):
    """A picture is new, one is gone, and one of the test part becomes a copy of one of the training part."""
    photos = shutil.copytree(sources / "one", tmp_path / "photos")
    start = foveal.prepare(photos, out=tmp_path / "start", **OPTIONS)
    records = open_prepared(start).records
    train, gone, test = (
        records[records["split"] == part]["file"].iloc[n] for part, n in (("train", 0), ("train", 1), ("test", 0))
    )
    shutil.copyfile(photos / train, photos / test)
    (photos / gone).unlink()
    write_source(photos, range(20, 23))

    def make(out):
        foveal.prepare(photos, out=out, accept_moves=True, **OPTIONS)

    grown = check_every_interruption(tmp_path, make, late, start, step)
    assert grown == 14
    after = open_prepared(tmp_path / "whole").records.set_index("file")
    assert after.loc[test, "split"] == "train" and gone not in after.index and len(after) == 12


def test_what_a_killed_run_left_half_written_is_removed(sources, tmp_path):
    images = tmp_path / ".set.partial" / "images"
    images.mkdir(parents=True)
    for file in (images / ".00000.1a2b3c4d.partial.npy", images.parent / ".records.1a2b3c4d.partial.csv"):
        file.write_bytes(b"half")
    out = foveal.prepare(sources / "one", out=tmp_path / "set", **OPTIONS)
    assert not any(path.name.startswith(".") for path in out.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_joined_sets(sources, tmp_path, late):
    sets = sources / "set-one", sources / "set-two"
    check_every_interruption(tmp_path, lambda out: foveal.prepare(*sets, out=out), late)


def test_a_correction(sources, tmp_path):
    image = open_prepared(sources / "set-one").part("train")["id"].iloc[0]
    for late in (False, True):
        data = shutil.copytree(sources / "set-one", tmp_path / str(late))
        new = 1 - int(open_prepared(data).records.set_index("id").loc[image, "label"])

        def correct(data=data, new=new):
            foveal.correct(data, image, new=str(new), why="seen again", who="K")

        assert interrupted(correct, 0, late=late) == 1
        assert (open_prepared(data).records.set_index("id").loc[image, "label"] == new) == late
        try:
            correct()
        except FovealError as error:
            assert late and error.code == "corrections.unchanged"
        assert open_prepared(data).records.set_index("id").loc[image, "label"] == new
        assert len(pd.read_csv(data / "corrections.csv")) == 1
