"""Views: a turned photograph is made round as its original was, and looks like it in one of the views."""

import cv2
import numpy as np
import pytest

from foveal.fundus.fingerprint import lit_box
from foveal.fundus.views import AS_IT_IS, CROPPED, TURNED, VIEWS, boxed, rounded, show, view_fingerprints
from foveal.sources.phantom import draw_phantom


@pytest.fixture(scope="module")
def photograph():
    return draw_phantom(2, "left", 128, np.random.default_rng(3)).image


def alike(a, b):
    a, b = a.astype(float), b.astype(float)
    return (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))


def slanting(image, angle, width):
    """The disc squeezed to `width` of itself, turned, on black."""
    squeezed = cv2.resize(image, None, fx=width, fy=1)
    canvas = cv2.copyMakeBorder(squeezed, 40, 40, 40, 208 - 40 - squeezed.shape[1], cv2.BORDER_CONSTANT)
    way = cv2.getRotationMatrix2D((103.5, 103.5), angle, 1)
    return cv2.warpAffine(canvas, way, (208, 208))


@pytest.mark.parametrize("angle", [0, -30, -100])
def test_a_squeezed_and_turned_disc_is_made_round(photograph, angle):
    there = rounded(slanting(photograph, angle, 0.75))
    inside = np.hypot(*(np.mgrid[:128, :128] - 63.5)) < 60
    assert (there[..., 0] > 30)[inside].mean() > 0.97
    prints = view_fingerprints(photograph)
    assert alike(prints[: len(TURNED)], view_fingerprints(slanting(photograph, angle, 1.0), AS_IT_IS)[0]).max() > 0.7


def test_forms_of_views(photograph):
    assert (
        len(VIEWS) == len(TURNED) + len(CROPPED) and VIEWS[AS_IT_IS[0]].angle == 0 and VIEWS[AS_IT_IS[1]].angle is None
    )
    assert view_fingerprints(photograph).shape == (len(VIEWS), 254)
    assert view_fingerprints(np.zeros((64, 64, 1), np.uint8), AS_IT_IS).tolist() == np.zeros((2, 254)).tolist()
    assert show(photograph, TURNED[3]).shape == (128, 128, 1)
    np.testing.assert_array_equal(show(photograph, CROPPED[0], -1, 1), show(photograph, CROPPED[0])[::-1])


def test_a_part_is_the_middle_of_what_the_frame_shows(photograph):
    grey = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)[..., None]
    grey[:20] = grey[100:] = 0
    rows, columns = lit_box(grey[..., 0], 5)
    assert (rows.start, rows.stop) == (20, 100)
    box, part = boxed(grey), next(view for view in CROPPED if view.across == view.down == 0.7)
    assert np.abs(box[..., 0].astype(int) - cv2.resize(grey[rows, columns], (128, 128))).mean() < 2
    assert np.abs(show(grey, part)[..., 0].astype(int) - cv2.resize(box[19:109, 19:109], (128, 128))).mean() < 2
