import cv2
import numpy as np
import pytest

from foveal.explain.geometry import (
    ALARM,
    alarm_of,
    border_energy,
    interior_of,
    resized,
    shrinking,
    square_of,
    without_lesions,
)
from foveal.fundus.crop import crop_square
from foveal.fundus.overlay import retina_of
from foveal.fundus.preparation import Preparation, prepare_pixels
from foveal.sources.phantom import draw_phantom


@pytest.fixture
def photograph():
    """A phantom off-centre on a wide black frame, as cameras give them."""
    frame = np.zeros((200, 320, 3), np.uint8)
    frame[20:180, 90:250] = draw_phantom(3, "left", 160, np.random.default_rng(0)).image
    return frame


@pytest.mark.parametrize("crop", ["disc", "none"])
@pytest.mark.parametrize("fit", ["pad", "cut"])
def test_the_square_is_the_one_that_preparation_cuts(photograph, crop, fit):
    preparation = Preparation(size=96, crop=crop, fit=fit)
    square = square_of(photograph, preparation)
    assert (crop_square(photograph, square, 96) == prepare_pixels(photograph, preparation).square).all()


def test_a_white_surround_is_made_black_as_in_preparation(photograph):
    white = np.where(photograph.max(axis=2, keepdims=True) < 12, np.uint8(255), photograph)
    assert square_of(white, Preparation(size=96, crop="disc")).found


def test_the_retina_is_the_disc_and_no_more():
    pixels = np.zeros((100, 100, 3), np.uint8)
    cv2.circle(pixels, (50, 50), 40, (150, 80, 40), -1)
    pixels[45:55, 45:55] = 0  # a dark macula belongs to the retina
    retina = retina_of(pixels)
    assert retina[50, 50] and not retina[5, 5] and abs(retina.mean() - np.pi * 0.16) < 0.02
    assert retina_of(np.zeros((32, 32, 3), np.uint8)).all()


def test_the_border_holds_what_lies_outside_or_on_the_rim():
    retina = np.zeros((100, 100), np.uint8)
    cv2.circle(retina, (50, 50), 40, (1,), -1)
    heat = np.zeros((100, 100))
    heat[50, 50] = 1
    assert border_energy(heat, retina > 0) == 0
    heat[2, 2], heat[50, 89] = 1, 2  # black border, rim
    assert border_energy(heat, retina > 0) == pytest.approx(0.75)
    assert border_energy(np.zeros((100, 100)), retina > 0) == 0
    rim = 1 - interior_of(retina > 0)[retina > 0].mean()
    assert rim == pytest.approx(0.12, abs=0.02)


def test_an_alarm_is_in_words_and_names_the_share():
    assert alarm_of(ALARM - 0.01) == "" and "40% of this map lies on the black border" in alarm_of(0.4)


def test_blurring_takes_lesions_away_and_leaves_the_black_alone():
    pixels = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(pixels, (48, 48), 44, (200, 100, 50), -1)
    retina = retina_of(pixels)
    pixels[40:44, 60:64] = 10
    healed = without_lesions(pixels, retina)
    assert (healed[~retina] == pixels[~retina]).all()
    assert healed[42, 62, 0] > 180 and healed[48, 6, 0] > 190  # the black border is not mixed into the rim


@pytest.mark.parametrize(("size", "wanted"), [(96, 64), (90, 64), (48, 64), (64, 64)])
def test_shrinking_is_the_resize_of_network_inputs(size, wanted):
    pixels = np.random.default_rng(0).random((size, size)).astype(np.float32)
    matrix = shrinking(size, wanted)
    method = cv2.INTER_AREA if size > wanted else cv2.INTER_LINEAR
    expected = cv2.resize(pixels, (wanted, wanted), interpolation=method)
    assert matrix @ pixels @ matrix.T == pytest.approx(expected, abs=1e-5)


def test_a_mask_is_resized_by_the_middles_of_its_pixels():
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    assert (resized(mask, 4) == np.array([[True] * 4] * 2 + [[False] * 4] * 2)).all()
    assert resized(mask, 8) is not mask and (resized(mask, 8) == mask).all()
