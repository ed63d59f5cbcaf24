"""Fingerprints: what changes them, what does not, and that mirroring is a change of signs."""

import time

import cv2
import numpy as np
import pytest

from foveal.fundus.fingerprint import detail, even_count, fingerprint, from_text, to_text
from foveal.sources.phantom import draw_phantom


def mirrored(prints):
    """Fingerprints of the same pictures, mirrored left to right."""
    return np.concatenate([prints[..., : even_count()], -prints[..., even_count() :]], axis=-1)


def phantom(seed, grade=2, eye="left", size=128):
    return draw_phantom(grade, eye, size, np.random.default_rng(seed)).image


def cosine(a, b):
    a, b = a.astype(float), b.astype(float)
    return a @ b / np.sqrt((a @ a) * (b @ b))


def test_form():
    numbers = fingerprint(phantom(0))
    assert numbers.dtype == np.int8
    assert numbers.shape == (254,)
    assert np.abs(numbers).max() == 7
    assert even_count() == 130


@pytest.mark.parametrize("size", [96, 128, 256, 300])
def test_mirroring_changes_the_sign_of_the_odd_numbers_exactly(size):
    image = cv2.resize(phantom(1), (size, size))
    there = fingerprint(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_array_equal(there, mirrored(fingerprint(image)))
    assert (there[: even_count()] == fingerprint(image)[: even_count()]).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda image: cv2.convertScaleAbs(image, alpha=0.6, beta=15),
        lambda image: cv2.resize(image, (256, 256), interpolation=cv2.INTER_CUBIC),
        lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None],
        lambda image: cv2.resize(image[3:-3, 3:-3], (128, 128)),
        lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR),
        lambda image: cv2.copyMakeBorder(image, 30, 30, 30, 30, cv2.BORDER_CONSTANT),
    ],
    ids=["darker", "larger", "grey", "cropped", "jpeg", "framed"],
)
def test_hardly_changes_with(change):
    image = phantom(2)
    assert cosine(fingerprint(image), fingerprint(change(image))) > 0.8


def test_strangers_of_one_grade_and_eye_differ():
    prints = [fingerprint(phantom(seed)) for seed in range(12)]
    assert max(cosine(a, b) for i, a in enumerate(prints) for b in prints[:i]) < 0.66


@pytest.mark.parametrize("image", [np.zeros((128, 128, 3)), np.full((128, 128, 1), 90), phantom(0, size=63)])
def test_pictures_without_detail_have_none(image):
    assert not fingerprint(image.astype(np.uint8)).any()


def test_detail_leaves_out_the_background_and_the_light():
    image = phantom(3)
    shaded = (image * np.linspace(0.6, 1, 128)[None, :, None]).astype(np.uint8)
    levelled = detail(image, 128, 3.0)
    assert levelled.dtype == np.float32
    assert np.abs(levelled).max() <= 2
    assert (levelled[image.max(axis=-1) == 0] == 0).all()
    assert np.corrcoef(levelled.ravel(), detail(shaded, 128, 3.0).ravel())[0, 1] > 0.9


def test_text_round_trip_is_exact_and_fast():
    prints = np.random.default_rng(0).integers(-7, 8, (1000, 254)).astype(np.int8)
    texts = [to_text(row) for row in prints]
    assert {len(text) for text in texts} == {254}
    np.testing.assert_array_equal(from_text(texts), prints)
    start = time.process_time()
    from_text(texts * 20)
    assert time.process_time() - start < 0.5


def test_text_that_is_empty_or_wrong(refuses):
    assert not from_text([""]).any()
    assert from_text([]).shape == (0, 254)
    for text in ("abc", "g" * 254, "88 " * 84 + "88"):
        with refuses("table.fingerprint", text[:40], 254):
            from_text(["", text])
