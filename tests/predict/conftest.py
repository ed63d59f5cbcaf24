import cv2
import numpy as np
import pytest

from foveal.sources.phantom import draw_phantom


@pytest.fixture
def photographs(tmp_path):
    """Three PNG photographs in a folder."""
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), draw_phantom(number, "left", 80, random).image[..., ::-1])
    return folder
