"""The drawn eyes: reproducible, true to their masks, mirrored by eye, and mixed by grade as promised."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from foveal.sources import phantom as phantom_module
from foveal.sources.phantom import Phantom, draw_grades, draw_patients, draw_phantom

SIZE = 64


def draw(grade: int, eye: str = "right", seed: int = 0, size: int = SIZE) -> Phantom:
    return draw_phantom(grade, eye, size, np.random.default_rng(seed))


@pytest.fixture(autouse=True)
def drawn_each_time(phantoms_drawn_once: Callable[..., Phantom], monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about drawing itself, so nothing is kept."""
    monkeypatch.setattr(phantom_module, "_draw", phantoms_drawn_once)


@pytest.fixture(scope="module")
def by_grade() -> list[list[Phantom]]:
    """Four phantoms of each grade; phantom k of every grade has the same anatomy and camera."""
    return [[draw(grade, seed=seed) for seed in range(4)] for grade in range(5)]


def test_same_seed_same_bytes() -> None:
    first, again, other = draw(3), draw(3), draw(3, seed=1)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.lesions.tobytes() == again.lesions.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_a_generator_moves_on_from_one_phantom_to_the_next() -> None:
    generator = np.random.default_rng(0)
    first, second = (draw_phantom(0, "left", SIZE, generator) for _ in range(2))
    assert not np.array_equal(first.image, second.image)


@pytest.mark.parametrize("size", [16, 33, 96])
def test_shapes_types_and_facts(size: int) -> None:
    phantom = draw(1, "left", size=size)
    assert phantom.image.shape == (size, size, 3)
    assert phantom.lesions.shape == (size, size)
    assert phantom.image.dtype == phantom.lesions.dtype == np.uint8
    assert (phantom.grade, phantom.eye) == (1, "left")
    assert phantom.lesions.any()


def test_each_grade_shows_its_lesions(by_grade: list[list[Phantom]]) -> None:
    kinds = [set(np.unique([phantom.lesions for phantom in phantoms])) - {0} for phantoms in by_grade]
    assert kinds[0] == set()
    assert kinds[1] == {1}
    assert {1, 2} <= kinds[2] <= {1, 2, 3, 4}
    assert kinds[3] == {1, 2, 3, 4}
    assert kinds[4] == {1, 2, 3, 4, 5}
    assert all(phantom.lesions.any() for phantoms in by_grade[1:] for phantom in phantoms)
    assert all((phantom.lesions == 5).any() for phantom in by_grade[4])


def test_severe_haemorrhages_are_in_all_four_quadrants(by_grade: list[list[Phantom]]) -> None:
    half = SIZE // 2
    for phantom in by_grade[3]:
        for rows, columns in itertools.product((slice(None, half), slice(half, None)), repeat=2):
            assert (phantom.lesions[rows, columns] == 2).any()


def test_pixels_change_where_the_mask_says_and_nowhere_far_from_it(by_grade: list[list[Phantom]]) -> None:
    for healthy, diseased in zip(by_grade[0], by_grade[1], strict=True):
        change = np.abs(healthy.image.astype(int) - diseased.image).sum(axis=2)
        lesion = diseased.lesions > 0
        # A dot on a vessel changes little, so the mean is asked, not every pixel.
        assert change[lesion].mean() > 30
        near = np.zeros_like(lesion)
        for row, column in np.argwhere(lesion):
            near[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5] = True
        assert not change[~near].any()


def test_surround_is_black_and_free_of_lesions(by_grade: list[list[Phantom]]) -> None:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    outside = np.hypot(x, y) > SIZE / 2
    for phantom in itertools.chain(*by_grade):
        assert not phantom.image[outside].any()
        assert not phantom.lesions[outside].any()
        assert phantom.image[SIZE // 4 : -SIZE // 4, SIZE // 8 : -SIZE // 8].any(axis=2).all()


@pytest.mark.parametrize("seed", range(4))
def test_optic_disc_is_right_in_a_right_eye_and_mirrored_in_a_left_eye(seed: int) -> None:
    band = slice(SIZE * 3 // 8, SIZE * 5 // 8)
    right, left = (draw(0, eye, seed).image[band, :, 1].astype(int) for eye in ("right", "left"))
    nasal, temporal = slice(SIZE * 5 // 8, SIZE * 15 // 16), slice(SIZE // 16, SIZE * 3 // 8)
    assert np.percentile(right[:, nasal], 95) > np.percentile(right[:, temporal], 95) + 20
    assert np.percentile(left[:, temporal], 95) > np.percentile(left[:, nasal], 95) + 20


def test_more_patients_begin_with_the_same_patients() -> None:
    few, many = list(draw_patients(2, 32, seed=5)), list(draw_patients(3, 32, seed=5))
    assert [name for name, _, _ in many[:4]] == ["p0001_left", "p0001_right", "p0002_left", "p0002_right"]
    assert [patient for _, patient, _ in many[:4]] == ["p0001", "p0001", "p0002", "p0002"]
    assert [phantom.eye for _, _, phantom in many] == ["left", "right"] * 3
    for (name, _, phantom), (same_name, _, same) in zip(few, many, strict=False):
        assert name == same_name
        assert phantom.grade == same.grade
        assert phantom.image.tobytes() == same.image.tobytes()
    assert len({phantom.image.tobytes() for _, _, phantom in many}) == 6


def test_grades_are_mixed_as_in_screening_and_alike_in_both_eyes() -> None:
    generator = np.random.default_rng(0)
    grades = np.array([draw_grades(generator) for _ in range(2000)])
    shares = np.bincount(grades.ravel(), minlength=5) / grades.size
    np.testing.assert_allclose(shares, [0.40, 0.15, 0.22, 0.13, 0.10], atol=0.03)
    apart = np.abs(grades[:, 0] - grades[:, 1])
    assert apart.max() == 1
    assert 0.84 < (apart == 0).mean() < 0.90
    assert abs((grades[:, 0] - grades[:, 1]).mean()) < 0.03


@pytest.mark.parametrize(("grade", "eye", "size"), [(5, "left", 64), (-1, "left", 64), (2, "both", 64), (2, "left", 8)])
def test_wrong_arguments_are_refused(refuses, grade: int, eye: str, size: int) -> None:
    with refuses("option.value", grade, eye, size):
        draw(grade, eye, size=size)
