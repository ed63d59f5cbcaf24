"""Keypoints: the same places with the same numbers, also when the picture is mirrored."""

import cv2
import numpy as np
import pytest

from foveal.fundus import keypoints as module
from foveal.fundus.keypoints import MOST, NUMBERS, evens, keypoints
from foveal.sources.phantom import draw_phantom


@pytest.fixture(scope="module")
def photograph():
    return draw_phantom(2, "left", 256, np.random.default_rng(3)).image


def mirrored(numbers):
    return np.concatenate([numbers[:, : evens()], -numbers[:, evens() :].astype(int)], axis=1)


def test_form(photograph):
    found = keypoints(photograph)
    assert 100 < len(found.places) <= MOST and found.numbers.shape == (len(found.places), NUMBERS)
    assert found.numbers.dtype == np.int8 and found.poses.shape == found.places.shape
    assert found.places.min() > 0 and found.places.max() < 1
    again = keypoints(photograph)
    assert all((one == other).all() for one, other in zip(found, again, strict=True))


def test_mirroring_a_histogram_changes_the_signs_of_the_odd_numbers_exactly():
    histograms = np.random.default_rng(0).random((20, 4, 4, 8)).astype(np.float32)
    reversed_ones = histograms[:, ::-1][..., -np.arange(8) % 8]
    waves, signs = module._waves()
    np.testing.assert_allclose(waves @ waves.T, np.eye(NUMBERS), atol=1e-6)
    plain, turned = (part.reshape(20, 128) @ waves.T for part in (histograms, np.ascontiguousarray(reversed_ones)))
    np.testing.assert_allclose(turned, plain * signs, atol=1e-5)
    assert (signs[: evens()] == 1).all() and (signs[evens() :] == -1).all()


def test_a_mirrored_picture_has_the_same_keypoints_with_other_signs(photograph):
    plain, other = keypoints(photograph), keypoints(np.ascontiguousarray(photograph[:, ::-1]))
    expected = plain.places * [-1, 1] + [1, 0]
    distance = np.linalg.norm(expected[:, None] - other.places[None], axis=2)
    nearest = distance.argmin(axis=1)
    same = distance.min(axis=1) < 1 / 256
    assert same.mean() > 0.8
    a, b = mirrored(plain.numbers)[same].astype(float), other.numbers[nearest[same]].astype(float)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosine) > 0.97


def test_the_size_of_the_picture_hardly_matters(photograph):
    half = cv2.resize(photograph, (512, 512))
    assert abs(np.median(keypoints(half).poses[:, 1]) - np.median(keypoints(photograph).poses[:, 1])) < 0.2


@pytest.mark.parametrize("image", [np.zeros((128, 128, 3)), np.full((128, 128, 1), 90), np.ones((32, 32, 3))])
def test_pictures_without_detail_have_none(image):
    assert len(keypoints(image.astype(np.uint8)).numbers) == 0
