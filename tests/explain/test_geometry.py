import cv2
import numpy as np
import pytest

from foveal.explain.explainer import resized, without_lesions
from foveal.fundus.overlay import border_energy, interior_of, retina_of


def test_the_retina_is_the_disc_and_no_more():
    pixels = np.zeros((100, 100, 3), np.uint8)
    cv2.circle(pixels, (50, 50), 40, (150, 80, 40), -1)
    pixels[45:55, 45:55] = 0  # a dark macula belongs to the retina
    retina = retina_of(pixels)
    assert retina[50, 50] and not retina[5, 5] and abs(retina.mean() - np.pi * 0.16) < 0.02
    assert retina_of(np.zeros((32, 32, 3), np.uint8)).all()


def test_border_energy_counts_rim_and_outside():
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


def test_blurring_removes_lesions_and_keeps_the_border():
    pixels = np.zeros((96, 96, 3), np.uint8)
    cv2.circle(pixels, (48, 48), 44, (200, 100, 50), -1)
    retina = retina_of(pixels)
    pixels[40:44, 60:64] = 10
    healed = without_lesions(pixels, retina)
    assert (healed[~retina] == pixels[~retina]).all()
    assert healed[42, 62, 0] > 180 and healed[48, 6, 0] > 190  # the black border is not mixed into the rim


def test_a_mask_is_sampled_at_pixel_centres():
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    assert (resized(mask, 4) == np.array([[True] * 4] * 2 + [[False] * 4] * 2)).all()
    assert resized(mask, 8) is not mask and (resized(mask, 8) == mask).all()
