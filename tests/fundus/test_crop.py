"""Squares and rectangles that are cut out, checked by markers; what lies outside the frame is black."""

import numpy as np
import pytest

from foveal.fundus.crop import Disc, blacken_surround, crop_square, whole_frame


def test_whole_frame_is_centred() -> None:
    assert whole_frame(300, 200) == Disc(0, -50, 300, 300, found=False)
    assert whole_frame(200, 300) == Disc(-50, 0, 300, 300, found=False)


@pytest.mark.parametrize("size", [100, 400])
def test_a_marker_lands_where_it_should(size: int) -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[60:80, 120:160] = (10, 200, 90)
    crop = crop_square(pixels, Disc(100, 20, 200, 200, found=True), size)
    scale = size / 200
    expected = np.zeros((size, size, 3), np.uint8)
    expected[int(40 * scale) : int(60 * scale), int(20 * scale) : int(60 * scale)] = (10, 200, 90)
    assert crop.shape == (size, size, 3) and crop.dtype == np.uint8
    apart = np.abs(crop.astype(int) - expected).max(axis=2) > 60
    assert apart.mean() < 0.002  # at most the interpolated rim


def test_outside_the_frame_is_black_and_aspect_is_kept() -> None:
    crop = crop_square(np.full((200, 300, 3), 90, np.uint8), whole_frame(300, 200), 60)
    assert (crop[:10] == 0).all() and (crop[50:] == 0).all()
    assert (crop[10:50] == 90).all()


def test_shrinking_averages() -> None:
    checked = np.indices((256, 256)).sum(axis=0).astype(np.uint8)[..., None] % 2 * 200
    assert np.abs(crop_square(checked, Disc(0, 0, 256, 256, found=True), 64).astype(int) - 100).max() <= 1


def test_one_channel_stays_one() -> None:
    assert crop_square(np.zeros((20, 30, 1), np.uint8), whole_frame(30, 20), 8).shape == (8, 8, 1)


def test_a_squeezed_disc_becomes_round() -> None:
    y, x = np.mgrid[:200, :300] + 0.5
    ellipse = (((x - 150) / 60) ** 2 + ((y - 100) / 90) ** 2 <= 1)[..., None] * np.uint8(200)
    crop = crop_square(ellipse, Disc(90, 10, 120, 180, found=True), 100)[..., 0]
    y, x = np.mgrid[:100, :100] + 0.5
    apart = np.abs(crop - (np.hypot(x - 50, y - 50) <= 50) * 200.0) > 100
    assert apart.mean() < 0.01


def test_the_middle_is_the_largest_square_within_a_frame() -> None:
    assert whole_frame(300, 200, cut=True) == Disc(50, 0, 200, 200, found=False)


def test_white_at_the_edge_is_made_black_and_white_in_the_eye_stays() -> None:
    y, x = np.mgrid[:200, :300] + 0.5
    distance = np.hypot(x - 150, y - 100)[..., None]
    eye = np.array([180, 90, 40])
    pixels = np.where(distance < 90, np.where(distance < 10, 255, eye), 255).astype(np.uint8)
    black = blacken_surround(pixels)
    assert (black[distance[..., 0] > 92] == 0).all() and (black[100, 150] == 255).all() and pixels[0, 0, 0] == 255
    eaten, spared = ((distance[..., 0] < 89) & (blacken_surround(pixels, rim).max(axis=2) == 0) for rim in (0, 100))
    assert eaten.any() and not spared.any()
    assert blacken_surround(black) is black
