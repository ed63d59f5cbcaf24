"""Drawn photographs as files."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.sources.phantom import draw_phantom


@cache
def phantom(number: int, size: int) -> bytes:
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
                file.write_bytes(phantom(number, size))

    return write
