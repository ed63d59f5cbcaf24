"""Each option against a slow or closed-form version, on phantoms and on pictures drawn for it."""

import cv2
import numpy as np
import pytest

from foveal.fundus.preparation import ENHANCEMENTS, lit, normalise, subtract_local_mean
from foveal.sources.phantom import draw_phantom


@pytest.fixture(scope="module")
def square() -> np.ndarray:
    return draw_phantom(3, "left", 96, np.random.default_rng(2)).image


@pytest.mark.parametrize("enhance", ENHANCEMENTS)
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("green", [False, True])
def test_shapes_and_the_square_is_not_written_to(square: np.ndarray, enhance: str, mask: bool, green: bool) -> None:
    before = square.copy()
    result = normalise(square, mask=mask, enhance=enhance, green=green)
    assert result.shape == (96, 96, 1 if green else 3) and result.dtype == np.uint8 and result.flags.c_contiguous
    assert np.array_equal(square, before)
    assert np.array_equal(result, normalise(square, mask=mask, enhance=enhance, green=green))


def test_nothing_asked_nothing_done(square: np.ndarray) -> None:
    assert np.array_equal(normalise(square), square)
    assert np.array_equal(normalise(square, green=True)[..., 0], square[..., 1])


def test_the_mask_is_a_circle_a_little_inside() -> None:
    white = np.full((200, 200, 3), 255, np.uint8)
    masked = normalise(white, mask=True)[..., 0] > 0
    assert abs(masked.sum() / (np.pi * (0.97 * 100) ** 2) - 1) < 0.01
    assert masked[100, 4] and not masked[100, 2] and masked[4, 100] and not masked[15, 15]


def test_local_mean_of_a_full_picture_is_the_published_formula() -> None:
    generator = np.random.default_rng(0)
    picture = generator.integers(90, 130, (120, 120, 3), dtype=np.uint8)
    mean = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 120 / 60)
    expected = (4.0 * picture - 4.0 * mean + 128).clip(0, 255)
    middle = (slice(40, 80), slice(40, 80))  # far from the circle, where only lit pixels count
    assert np.abs(subtract_local_mean(picture)[middle] - expected[middle]).max() <= 1


def test_local_mean_makes_two_exposures_of_one_eye_alike_without_a_bright_rim(square: np.ndarray) -> None:
    slope = np.linspace(0.6, 1.2, 96)[None, :, None]
    other = (square * slope).clip(0, 255).astype(np.uint8)
    before = np.abs(other.astype(float) - square).mean()
    one, two = subtract_local_mean(square), subtract_local_mean(other)
    assert np.abs(one.astype(float) - two).mean() < before / 2
    plain = np.repeat(np.where(lit(square), 120, 0)[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(subtract_local_mean(plain).astype(int) - 128).max() <= 1


def test_clahe_raises_contrast_and_leaves_the_surround_black(square: np.ndarray) -> None:
    flat = (square * 0.3 + 40).astype(np.uint8) * (square.max(axis=2, keepdims=True) > 10)
    for result, channel in ((normalise(flat, enhance="clahe"), 1), (normalise(flat, enhance="clahe", green=True), 0)):
        inside = lit(flat)
        assert result[..., channel][inside].std() > 1.3 * flat[..., 1][inside].std()
        assert (result[~inside] == 0).all()


def test_clahe_on_lightness_keeps_grey_grey(square: np.ndarray) -> None:
    grey = np.repeat(square[..., 1:2], 3, axis=2)
    result = normalise(grey, enhance="clahe").astype(int)
    assert np.abs(result - result.mean(axis=2, keepdims=True)).max() <= 2


def test_dark_spots_in_the_eye_count_as_eye(square: np.ndarray) -> None:
    spotted = square.copy()
    spotted[47:49, 47:49] = 0
    assert np.array_equal(lit(spotted), lit(square))


@pytest.mark.parametrize("enhance", ENHANCEMENTS)
def test_black_stays_without_structure(enhance: str) -> None:
    assert np.ptp(normalise(np.zeros((32, 32, 3), np.uint8), mask=True, enhance=enhance)) == 0
