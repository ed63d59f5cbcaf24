"""Shared fixtures: one small prepared set, one small trained run, and where the real data is."""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import foveal
from foveal import console
from foveal.errors import FovealError
from foveal.sources import phantom
from foveal.sources.phantom import draw_phantom


@pytest.fixture(autouse=True)
def _quiet():
    console.set_quiet(False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@contextmanager
def _refuses(code: str, *values: object) -> Iterator[pytest.ExceptionInfo[FovealError]]:
    with pytest.raises(FovealError) as caught:
        yield caught
    assert caught.value.code == code, caught.value
    missing = [str(value) for value in values if str(value) not in str(caught.value)]
    assert not missing, f"{caught.value} does not name {missing}"


@pytest.fixture(scope="session")
def refuses() -> Callable[..., AbstractContextManager[pytest.ExceptionInfo[FovealError]]]:
    """`with refuses("weights.mismatch", file, "stem.weight"):` checks the code, and the values that the error names.

    Values are file names, options, ids and numbers; never a sentence.
    """
    return _refuses


@pytest.fixture(autouse=True, scope="session")
def phantoms_drawn_once() -> Iterator[Callable[..., phantom.Phantom]]:
    """Most sets of these tests hold the same phantoms, and to draw one takes milliseconds; yields the real `_draw`."""
    draw = phantom._draw

    drawn = cache(draw)

    def draw_once(*what: str | int) -> phantom.Phantom:
        return copy.deepcopy(drawn(*what))  # a test may write into it

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "_draw", draw_once)
        yield draw


@cache
def _phantom_file(number: int, size: int) -> bytes:
    """A PNG file; kept, because to draw the pictures is most of the work of a test."""
    picture = draw_phantom(number % 5, "left", size, np.random.default_rng(number)).image
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


@pytest.fixture(scope="session")
def write_phantoms():
    """write_phantoms(folder, count, size=64) adds photographs 000 to count - 1, in a folder for each class."""

    def write(root: Path, count: int, size: int = 64) -> None:
        for number in range(count):
            file = root / str(number % 5) / f"{number:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                file.write_bytes(_phantom_file(number, size))

    return write


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory) -> Path:
    """60 phantoms at 32 px, 20 of the training images labelled; do not write into it."""
    out = tmp_path_factory.mktemp("data") / "phantom"
    return foveal.prepare("phantom:60", out=out, size=32, labelled=24)


@pytest.fixture(scope="session")
def three_sources(tmp_path_factory) -> list[Path]:
    """Three sets of 60 other phantoms at 32 px: north, east, south; tests may join them, but not write into them."""
    folder = tmp_path_factory.mktemp("sources")
    return [foveal.prepare("phantom:60", out=folder / name, size=32, seed=seed, test=0.3)
            for seed, name in enumerate(("north", "east", "south"), start=1)]  # fmt: skip


@pytest.fixture(scope="session")
def grader_run(tmp_path_factory, phantom_set) -> Path:
    """A small_conv grader, trained for two epochs on the phantom set; do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "grader"
    return foveal.train(phantom_set, out=out, encoder="small_conv", epochs=2, batch_size=8, class_weights="none")


@pytest.fixture(scope="session")
def looking_run(tmp_path_factory, phantom_set) -> Path:
    """A grader that gives maps, trained for one epoch on the phantom set; do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "looking"
    return foveal.train(phantom_set, out=out, encoder="resnet10t", epochs=1, batch_size=8, image_size=64)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, grader_run) -> Path:
    """All files of `foveal export` for that grader; do not write into it."""
    return foveal.export(grader_run, out=tmp_path_factory.mktemp("exports") / "grader")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it are skipped where there is none."""
    folder = Path(os.environ.get("FOVEAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data here: set FOVEAL_DATA")
    return folder
